"""Variants of DnCNN against DnCNN and against the equations."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from restore.checkpoint import Weights, load_weights, save_weights
from restore.models import NORMS, DnCNN, NetworkSpec, Norm, build
from restore.models.fold import fold
from restore.models.norm import ConvNorm
from restore.studies.variants import BiasFreeBatchNorm2d, DnCNNVariant

SIZE = {"depth": 5, "features": 6}
VARIANTS = [
    {"order": "activation-norm"},
    {"order": "activation-norm", "norm": "layer", "dropout": 0.1},
    {"activation": "sigmoid"},
    {"dropout": 0.2},
    {"bias_free": True},
    {"bias_free": True, "norm": "none"},
    {"bias_free": True, "order": "activation-norm"},
]


def images(count: int = 2) -> Tensor:
    return torch.rand(count, 1, 9, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def variant(**arguments: Any) -> DnCNNVariant:
    """In eval mode after some batches, in float64, its parameters not those of the start."""
    network = DnCNNVariant(**SIZE | arguments).double()
    for parameter in network.parameters():
        nn.init.uniform_(parameter, -0.6, 0.6)
    for number in range(3):
        network(images(4) * (number + 1))
    return network.eval()


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("residual", [True, False])
def test_without_further_arguments_it_is_dncnn(norm: Norm, residual: bool) -> None:
    networks = []
    for kind in (DnCNN, DnCNNVariant):
        torch.manual_seed(5)
        networks.append(kind(**SIZE, norm=norm, residual=residual, bn_momentum=0.3).double())
    plain, same = networks
    assert [name for name, _ in plain.named_parameters()] == [name for name, _ in same.named_parameters()]
    for _ in range(2):
        assert torch.equal(plain(images()), same(images()))
    assert torch.equal(plain.eval()(images()), same.eval()(images()))
    fresh = DnCNNVariant(**SIZE, norm=norm, residual=residual).double().eval()
    fresh.load_state_dict(plain.state_dict(), strict=True)
    assert torch.equal(fresh(images()), plain(images()))


@pytest.mark.parametrize("norm", ["batch", "none"])
@pytest.mark.parametrize("order", ["norm-activation", "activation-norm"])
@pytest.mark.parametrize("factor", [0.01, 3.0, 200.0])
def test_a_bias_free_network_answers_in_proportion(norm: Norm, order: str, factor: float) -> None:
    network = variant(norm=norm, order=order, bias_free=True)
    expected = factor * network(images())
    torch.testing.assert_close(network(factor * images()), expected, rtol=1e-12, atol=0)
    assert not any(name.endswith("bias") for name, _ in network.named_parameters())
    with_constants = variant(norm=norm, order=order)
    assert not torch.allclose(with_constants(factor * images()), factor * with_constants(images()))


@pytest.mark.parametrize("norm", [norm for norm in NORMS if norm not in ("batch", "none")])
def test_other_norms_cannot_be_bias_free(norm: Norm) -> None:
    with pytest.raises(ValueError, match=f"bias_free needs the norm batch or none, not {norm}"):
        DnCNNVariant(norm=norm, bias_free=True)


def test_bias_free_batch_norm_divides_by_the_deviation_about_the_mean_without_subtracting_it() -> None:
    norm = BiasFreeBatchNorm2d(3, 1e-5, 0.2).double()
    norm.weight.data.uniform_(0.5, 2)
    x = torch.randn(4, 3, 5, 6, dtype=torch.float64) + 10
    variance = x.var((0, 2, 3), correction=0).view(1, 3, 1, 1)
    expected = norm.weight.view(1, 3, 1, 1) * x / torch.sqrt(variance + 1e-5)
    torch.testing.assert_close(norm(x), expected)
    reference = nn.BatchNorm2d(3, momentum=0.2).double()
    reference(x)
    torch.testing.assert_close(norm.running_var, reference.running_var)
    running = norm.running_var.view(1, 3, 1, 1)
    torch.testing.assert_close(norm.eval()(x), norm.weight.view(1, 3, 1, 1) * x / torch.sqrt(running + 1e-5))
    for each in (norm, reference):
        update_bn([x, 2 * x, 3 * x], each)
    torch.testing.assert_close(norm.running_var, reference.running_var)


def test_the_norm_comes_before_or_after_the_activation() -> None:
    x = torch.randn(2, 6, 9, 7, dtype=torch.float64)
    for order in ("norm-activation", "activation-norm"):
        network = variant(order=order)
        convolution, activation = network.body[2][0], nn.ReLU()
        norm = next(module for module in network.modules() if isinstance(module, nn.BatchNorm2d))
        convolved = convolution(x)
        expected = activation(norm(convolved)) if order == "norm-activation" else norm(activation(convolved))
        torch.testing.assert_close(network.body[2:4](x), expected)
        assert (convolution.bias is not None) == (order == "activation-norm")


def test_dropout_drops_whole_features_after_each_middle_activation_in_training_only() -> None:
    network = variant(dropout=0.5, features=40)
    assert sum(isinstance(module, nn.Dropout2d) for module in network.modules()) == 3
    assert torch.equal(network(images()), network(images()))
    x = 1 + torch.rand(8, 40, 6, 6, dtype=torch.float64)
    dropped = network.train().body[3](x)
    kept = dropped.flatten(2).any(2)
    assert 0.3 < kept.double().mean() < 0.7
    torch.testing.assert_close(dropped, 2 * x * kept[..., None, None])


def test_sigmoids_take_the_place_of_all_relus() -> None:
    network = DnCNNVariant(**SIZE, activation="sigmoid")
    assert sum(isinstance(module, nn.Sigmoid) for module in network.modules()) == 4
    assert not any(isinstance(module, nn.ReLU) for module in network.modules())


@pytest.mark.parametrize("arguments", VARIANTS)
def test_variants_start_from_the_same_convolutions_by_the_same_names(arguments: dict[str, Any]) -> None:
    weights = []
    for each in ({}, arguments):
        torch.manual_seed(5)
        parameters = DnCNNVariant(**SIZE | each).named_parameters()
        weights.append({name: value for name, value in parameters if value.dim() == 4})
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


@pytest.mark.parametrize("arguments", VARIANTS)
def test_variants_are_rebuilt_from_weights_files_and_folded(arguments: dict[str, Any], tmp_path: Path) -> None:
    network = variant(**arguments).float()
    save_weights(tmp_path / "w.safetensors", Weights(network))
    loaded = load_weights(tmp_path / "w.safetensors").network
    x = images().float()
    assert isinstance(loaded, DnCNNVariant)
    assert torch.equal(loaded(x), network(x))
    folded = fold(network.double())
    torch.testing.assert_close(folded(images()), network(images()))
    build(folded.spec).load_state_dict(folded.state_dict())


@pytest.mark.parametrize("arguments", [{"dropout": 1.0}, {"depth": 1}, {"channels": 2}, {"order": "none"}])
def test_impossible_arguments_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must"):
        build(NetworkSpec("DnCNNVariant", arguments))


def test_middle_layers_are_found_by_the_probes() -> None:
    layers = [module for module in variant(order="activation-norm").modules() if isinstance(module, ConvNorm)]
    assert len(layers) == 3
