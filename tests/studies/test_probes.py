"""Probes on networks where what they find follows by arithmetic."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from restore.models import EDSR, NORMS, DnCNN, Norm, RestorationNetwork
from restore.studies.probes import (
    conv_norms,
    covariate_shift,
    dead_features,
    effective_learning_rates,
    equivariance_error,
    landscape,
    middle_layer,
    preactivation_percentiles,
    recalibrate,
    scale_invariance,
)


def images(count: int = 2) -> Tensor:
    return torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def mean_squared(restored: Tensor, clean: Tensor) -> Tensor:
    return (restored - clean).square().mean()


class Constant(RestorationNetwork):
    """Answers with its parameter, so that the loss is whatever function of it one likes."""

    channels = 1
    scale = 1

    def __init__(self) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64))

    def forward(self, degraded: Tensor) -> Tensor:
        return self.value * 1


def test_a_network_of_relus_without_biases_answers_in_proportion_and_a_bias_spoils_it_by_its_size() -> None:
    network = DnCNN(depth=4, features=6, norm="none").double().eval()
    degraded = images()
    assert equivariance_error(network, degraded, 3.0) < 1e-12
    with torch.no_grad():
        network.body[-1].bias = nn.Parameter(torch.tensor([0.25], dtype=torch.float64))
        expected = (3 - 1) * 0.25 * degraded.numel() ** 0.5 / (3 * network(degraded)).norm()
    assert equivariance_error(network, degraded, 3.0) == pytest.approx(expected.item())


def test_a_network_that_changes_nothing_is_equivariant_to_contrast_and_brightness() -> None:
    network = DnCNN(depth=3, features=4).double().eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    assert equivariance_error(network, images(), 0.5, 0.2) == 0


@pytest.mark.parametrize("training", [True, False])
def test_percentiles_are_those_of_the_middle_layer_and_running_statistics_stay(training: bool) -> None:
    network = DnCNN(depth=5, features=101).double().train(training)
    layer = middle_layer(network)
    assert layer is network.body[4]  # the second of three
    with torch.no_grad():
        layer.norm.weight.zero_()
        layer.norm.bias.copy_(torch.randperm(101))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert preactivation_percentiles(network, images()) == {15: 15, 50: 50, 85: 85}
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not layer._forward_hooks


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("kind", [DnCNN, EDSR])
def test_no_shift_without_an_update_and_the_network_stays_as_it_was(kind: type[RestorationNetwork], norm: Norm) -> None:
    size = {"depth": 4} if kind is DnCNN else {"blocks": 1, "scale": 2}
    network = kind(channels=1, features=4, norm=norm, **size).double()
    clean = F.interpolate(images(), scale_factor=network.scale)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    still = covariate_shift(network, images(), clean, mean_squared, 0.0)
    assert still.relative == pytest.approx(0, abs=1e-12)
    assert still.cosine == pytest.approx(1)
    assert covariate_shift(network, images(), clean, mean_squared, 0.1).relative > 1e-6
    landscape(network, images(), clean, mean_squared, [0.01])
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())


def test_the_shift_is_that_of_the_middle_layer_after_a_step_of_those_before_it() -> None:
    network = DnCNN(depth=3, features=4, norm="none").double()
    degraded, clean = images(), images().flip(0)
    found = covariate_shift(network, degraded, clean, mean_squared, 0.05)

    first, middle = network.body[0], network.body[2].conv
    mean_squared(network(degraded), clean).backward()
    before = torch.cat([middle.weight.grad.flatten(), middle.bias.grad])
    with torch.no_grad():
        first.weight -= 0.05 * first.weight.grad
    network.zero_grad()
    mean_squared(network(degraded), clean).backward()
    after = torch.cat([middle.weight.grad.flatten(), middle.bias.grad])
    assert found.relative == pytest.approx(((before - after).norm() / before.norm()).item())
    assert found.cosine == pytest.approx((before @ after / (before.norm() * after.norm())).item())


def test_the_landscape_of_a_bowl_is_as_smooth_as_it_is_curved() -> None:
    def bowl(restored: Tensor, bottom: Tensor) -> Tensor:
        return 0.5 * 7 * (restored - bottom).square().sum()

    # the gradient is 7 x: a step of a tenth of |x| is a tenth of the way down
    found = landscape(Constant(), images(), torch.zeros(3, dtype=torch.float64), bowl, [0.05, 0.1])
    assert found.smoothness == pytest.approx(7)
    assert found.gradient_change == pytest.approx(0.1)
    assert found.loss_range == pytest.approx(1 - 0.9**2)


def test_effective_learning_rates_fall_with_the_square_of_the_weights() -> None:
    network = DnCNN(depth=4, features=4)
    with torch.no_grad():
        network.body[2].conv.weight.fill_(0.5)  # 4 x 4 x 3 x 3 of them
        network.body[4].conv.weight.fill_(5.0)
    rates = effective_learning_rates(network, 0.1)
    assert rates == pytest.approx({"body.2": 0.1 / (144 * 0.25), "body.4": 0.1 / (144 * 25)})


@pytest.mark.parametrize("kind", [DnCNN, EDSR])
def test_batch_norm_takes_a_factor_out_of_the_weights_and_divides_the_gradient_by_it(
    kind: type[RestorationNetwork],
) -> None:
    size = {"depth": 4} if kind is DnCNN else {"blocks": 1, "scale": 2}
    network = kind(channels=1, features=4, norm="batch", **size)
    change, ratio = scale_invariance(network, images(), 10.0)
    assert change < 1e-9
    assert ratio == pytest.approx(0.1, rel=1e-6)
    with pytest.raises(ValueError, match="only batch norm can be checked, not group"):
        scale_invariance(kind(channels=1, features=4, norm="group", **size), images(), 10.0)


def test_recalibrated_statistics_are_the_means_over_all_batches_whatever_the_momentum() -> None:
    network = DnCNN(depth=3, features=4, bn_momentum=0.95).double().eval()
    convolution = copy.deepcopy(network.body[:3])
    batches = [images(), 2 * images(3) + 1, images(1) ** 2]
    recalibrate(network, batches)
    assert not network.training
    norm = network.body[2].norm
    with torch.no_grad():
        maps = [convolution[2].conv(F.relu(convolution[0](batch))) for batch in batches]
    torch.testing.assert_close(norm.running_mean, torch.stack([map_.mean((0, 2, 3)) for map_ in maps]).mean(0))
    torch.testing.assert_close(norm.running_var, torch.stack([map_.var((0, 2, 3)) for map_ in maps]).mean(0))
    assert norm.momentum == 0.95


def test_a_network_without_a_norm_of_its_own_choice_is_refused() -> None:
    for probe in (conv_norms, middle_layer):
        with pytest.raises(ValueError, match="Constant has no layer"):
            probe(Constant())


def test_dead_features_are_those_that_no_pixel_activates() -> None:
    network = DnCNN(depth=4, features=8, norm="none", bias=True).double().eval()
    first, *others = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    with torch.no_grad():
        for convolution in (first, *others):
            convolution.weight.abs_()
        assert dead_features(network, [images()]) == 0
        assert first.bias is not None
        first.bias[:6] = -100.0
    assert dead_features(network, [images(), images()[..., :5]]) == pytest.approx(6 / 24)
