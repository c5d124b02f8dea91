"""Initial weights against the code and papers that they come from."""

import math

import pytest
import torch
from torch import nn

from restore.models import EDSR, NORMS, WDSRB, DnCNN, RestorationNetwork, SRResNet
from restore.models.init import DnCNNInit


def seeded(network: type[RestorationNetwork], **arguments: object) -> RestorationNetwork:
    torch.manual_seed(0)
    return network(**arguments)


def convolutions(network: nn.Module) -> list[torch.Tensor]:
    return [module.weight for module in network.modules() if isinstance(module, nn.Conv2d)]


def gains(network: nn.Module) -> torch.Tensor:
    return torch.cat([value for name, value in network.named_parameters() if name.endswith("norm.weight")])


def test_dncnn_starts_as_its_authors_training_code_does() -> None:
    network = seeded(DnCNN)
    for weight in convolutions(network):
        assert weight.std().item() == pytest.approx(math.sqrt(2 / (9 * 64)), rel=0.15)
    gamma = gains(network)
    assert gamma.abs().min().item() == pytest.approx(0.025)
    assert (gamma < 0).float().mean().item() == pytest.approx(0.5, abs=0.06)
    beyond = gamma[gamma.abs() > 0.0251]
    expected = 1 - math.erf(0.025 / math.sqrt(2 / (9 * 64)) / math.sqrt(2))  # of a normal distribution
    assert len(beyond) / len(gamma) == pytest.approx(expected, abs=0.05)
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    assert all((norm.running_var == 0.01).all() and (norm.bias == 0).all() for norm in norms)


@pytest.mark.parametrize(("init", "norm", "expected"), [
    ("he", "batch", 0.80), ("released", "batch", 0.048), ("he", "none", 0.23),
])  # fmt: skip
def test_the_noise_first_predicted_has_the_known_size(init: DnCNNInit, norm: str, expected: float) -> None:
    """Sd of the first prediction of DnCNN-17x64 in training mode; the noise has 25 / 255 = 0.098."""
    network = seeded(DnCNN, norm=norm, init=init)
    smooth = nn.functional.interpolate(torch.rand(4, 1, 5, 5), size=40, mode="bicubic")
    degraded = smooth + 25 / 255 * torch.randn(4, 1, 40, 40)
    with torch.no_grad():
        predicted = degraded - network(degraded)
    assert predicted.std().item() == pytest.approx(expected, rel=0.35)


def test_a_small_last_convolution_predicts_a_tenth_of_he() -> None:
    x = torch.rand(2, 1, 9, 9)
    he, small = (seeded(DnCNN, depth=4, features=8, residual=False, init=init) for init in ("he", "small_last"))
    torch.testing.assert_close(small(x), he(x) / 10)


def test_kair_starts_with_orthogonal_rows_of_length_one_fifth_and_gains_between_a_tenth_and_one() -> None:
    network = seeded(DnCNN, depth=9, features=16, init="kair")
    rows = convolutions(network)[1].flatten(1)
    torch.testing.assert_close(rows @ rows.T, 0.04 * torch.eye(16), atol=1e-5, rtol=0)
    assert gains(network).min() >= 0.1
    assert 0.9 < gains(network).max() <= 1.0


@pytest.mark.parametrize("norm", ["batch", "layer", "adadm", "iln"])
@pytest.mark.parametrize("network", [EDSR, SRResNet, WDSRB])
def test_blocks_whose_last_gain_is_zero_start_as_the_identity(network: type[RestorationNetwork], norm: str) -> None:
    block = seeded(network, blocks=1, features=8, scale=2, norm=norm, init="zero").body[0]
    x = torch.randn(2, 8, 6, 6)
    torch.testing.assert_close(block(x), x)


@pytest.mark.parametrize(("network", "init"), [
    *((DnCNN, init) for init in ("released", "he", "small_last", "kair")),
    *((network, init) for network in (EDSR, SRResNet) for init in ("torch", "zero")),
])  # fmt: skip
def test_norms_start_from_the_same_convolutions_whatever_the_init(network: type[RestorationNetwork], init: str) -> None:
    size = {"depth": 4} if network is DnCNN else {"blocks": 2}
    first, *others = (convolutions(seeded(network, features=8, init=init, norm=norm, **size)) for norm in NORMS)
    for other in others:
        for a, b in zip(first, other, strict=True):
            torch.testing.assert_close(a, b)


@pytest.mark.parametrize("init", ["released", "he", "kair"])
def test_all_norms_start_from_the_same_gains(init: str) -> None:
    norms = ("batch", "group", "instance", "layer", "adadm", "iln")
    first, *others = (gains(seeded(DnCNN, depth=4, features=8, norm=norm, init=init)) for norm in norms)
    assert all(torch.equal(first, other) for other in others)


def test_two_seeds_start_from_different_weights() -> None:
    torch.manual_seed(0)
    first, second = DnCNN(depth=3, features=4), DnCNN(depth=3, features=4)
    assert not any(torch.equal(a, b) for a, b in zip(convolutions(first), convolutions(second), strict=True))
