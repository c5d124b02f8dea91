"""Normalization against the equations of the papers, in float64."""

from functools import partial

import pytest
import torch
from torch import Tensor

from restore.models import EDSR, NORMS, WDSRB, DnCNN, RestorationNetwork, SRResNet
from restore.models.norm import LOG_EPS, ConvNorm, Norm, Normalization

EPS = 1e-5
SMALL = [
    partial(DnCNN, depth=5, features=8),
    partial(EDSR, blocks=2, features=8),
    partial(SRResNet, blocks=2, features=8, scale=2),
    partial(WDSRB, blocks=2, features=8),
]


def norm_layer(norm: Norm, features: int = 6) -> torch.nn.Module:
    layer = ConvNorm(2, features, Normalization(norm, bn_eps=EPS))[1].double()
    with torch.no_grad():
        layer.weight.uniform_(0.5, 2)
        layer.bias.uniform_(-1, 1)
    return layer


def standardised(x: Tensor, dims: tuple[int, ...]) -> Tensor:
    mean = x.mean(dims, keepdim=True)
    return (x - mean) / torch.sqrt(((x - mean) ** 2).mean(dims, keepdim=True) + EPS)


def affine(layer: torch.nn.Module, x: Tensor) -> Tensor:
    return layer.weight.view(1, -1, 1, 1) * x + layer.bias.view(1, -1, 1, 1)


def test_batch_norm_standardises_each_channel_over_images_and_pixels() -> None:
    layer, x = norm_layer("batch"), torch.randn(4, 6, 5, 7, dtype=torch.float64) * 3 + 1
    torch.testing.assert_close(layer(x), affine(layer, standardised(x, (0, 2, 3))))


def test_batch_norm_gradients_are_those_of_ioffe_and_szegedy() -> None:
    layer = norm_layer("batch")
    x = torch.randn(4, 6, 5, 7, dtype=torch.float64, requires_grad=True)
    upstream = torch.randn_like(x)
    layer(x).backward(upstream)

    values = x.detach()
    dims, m = (0, 2, 3), 4 * 5 * 7
    mean = values.mean(dims, keepdim=True)
    variance = ((values - mean) ** 2).mean(dims, keepdim=True)
    normalized = (values - mean) / torch.sqrt(variance + EPS)
    d_normalized = upstream * layer.weight.detach().view(1, -1, 1, 1)
    d_variance = (d_normalized * (values - mean)).sum(dims, keepdim=True) * -0.5 * (variance + EPS) ** -1.5
    d_mean = -d_normalized.sum(dims, keepdim=True) / torch.sqrt(variance + EPS)
    d_mean = d_mean + d_variance * (-2 * (values - mean)).sum(dims, keepdim=True) / m
    d_x = d_normalized / torch.sqrt(variance + EPS) + d_variance * 2 * (values - mean) / m + d_mean / m

    torch.testing.assert_close(x.grad, d_x)
    torch.testing.assert_close(layer.weight.grad, (upstream * normalized).sum(dims))
    torch.testing.assert_close(layer.bias.grad, upstream.sum(dims))


def test_batch_norm_in_eval_uses_the_unbiased_running_variance() -> None:
    layer = norm_layer("batch")
    x = torch.randn(3, 6, 4, 4, dtype=torch.float64)
    mean, variance = torch.zeros(6, dtype=torch.float64), torch.ones(6, dtype=torch.float64)
    for batch in (x, 2 * x + 1):
        layer(batch)
        mean = 0.9 * mean + 0.1 * batch.mean((0, 2, 3))
        m = batch.numel() // 6
        variance = 0.9 * variance + 0.1 * m / (m - 1) * batch.var((0, 2, 3), correction=0)
    layer.eval()
    expected = (x - mean.view(1, -1, 1, 1)) / torch.sqrt(variance.view(1, -1, 1, 1) + EPS)
    torch.testing.assert_close(layer(x), affine(layer, expected))


def test_layer_instance_and_group_norm_take_statistics_over_their_own_axes() -> None:
    x = torch.randn(4, 6, 5, 7, dtype=torch.float64) * 2 - 1
    layer, instance, group = norm_layer("layer"), norm_layer("instance"), norm_layer("group", 128)
    torch.testing.assert_close(layer(x), affine(layer, standardised(x, (1, 2, 3))))
    torch.testing.assert_close(instance(x), affine(instance, standardised(x, (2, 3))))
    wide = torch.randn(2, 128, 3, 3, dtype=torch.float64)
    grouped = standardised(wide.view(2, 32, 4, 3, 3), (2, 3, 4)).view_as(wide)
    torch.testing.assert_close(group(wide), affine(group, grouped))


def deviation(x: Tensor) -> Tensor:
    return ((x - x.mean((1, 2, 3), keepdim=True)) ** 2).mean((1, 2, 3), keepdim=True).sqrt()


def test_adadm_is_batch_norm_times_a_learned_power_of_each_images_deviation() -> None:
    layer, x = norm_layer("adadm"), torch.randn(4, 6, 5, 7, dtype=torch.float64) * 3 + 1
    x[2] *= 20
    expected = affine(layer, standardised(x, (0, 2, 3)))
    torch.testing.assert_close(layer(x), expected * (deviation(x) + LOG_EPS))  # w starts at 1, b at 0
    with torch.no_grad():
        layer.phi_weight.fill_(-0.7)
        layer.phi_bias.fill_(0.3)
    factor = torch.exp(-0.7 * torch.log(deviation(x) + LOG_EPS) + 0.3)
    torch.testing.assert_close(layer(x), expected * factor)
    layer.eval()
    mean, variance = (value.view(1, -1, 1, 1) for value in (layer.running_mean, layer.running_var))
    torch.testing.assert_close(layer(x), affine(layer, (x - mean) / torch.sqrt(variance + EPS)) * factor)


def test_i_ln_is_layer_norm_times_each_images_deviation() -> None:
    layer, x = norm_layer("iln"), torch.randn(4, 6, 5, 7, dtype=torch.float64) * 3 + 1
    x[2] *= 20
    mean = x.mean((1, 2, 3), keepdim=True)
    torch.testing.assert_close(layer(x), affine(layer, (x - mean) / deviation(x)) * deviation(x))
    torch.testing.assert_close(layer(50 * x), 50 * layer(x))


@pytest.mark.parametrize("norm", ["adadm", "iln"])
@pytest.mark.parametrize("scale", [0.0, 1e-6, 300.0])
def test_constant_and_large_features_give_finite_outputs_and_gradients(norm: Norm, scale: float) -> None:
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        layer = ConvNorm(2, 6, Normalization(norm, bn_eps=EPS))[1]
        features = (0.25 + scale * torch.randn(2, 6, 5, 5)).to(dtype).requires_grad_()
        out = layer(features)
        assert out.dtype == dtype
        out.float().square().mean().backward()
        found = [out, features.grad, *(parameter.grad for parameter in layer.parameters())]
        assert all(value.isfinite().all() for value in found)


def test_weight_norm_divides_the_weight_by_its_length_per_output_channel() -> None:
    convolution = ConvNorm(3, 5, Normalization("weight", bn_eps=EPS))[0]
    length, direction = (getattr(convolution.parametrizations.weight, name) for name in ("original0", "original1"))
    with torch.no_grad():
        length.copy_(torch.arange(1.0, 6.0).view(5, 1, 1, 1))
        direction.normal_()
    expected = length * direction / direction.flatten(1).norm(dim=1).view(5, 1, 1, 1)
    torch.testing.assert_close(convolution.weight, expected)


@pytest.mark.parametrize("norm", NORMS)
def test_a_convolution_has_a_bias_exactly_where_its_norm_has_none(norm: Norm) -> None:
    convolution, *rest = ConvNorm(4, 4, Normalization(norm, bn_eps=EPS))
    assert (convolution.bias is None) == bool(rest)
    assert bool(rest) == (norm not in ("none", "weight"))


@pytest.mark.parametrize("build", SMALL)
def test_networks_that_differ_in_norm_alone_start_from_equal_convolution_weights(
    build: partial[RestorationNetwork],
) -> None:
    weights = {}
    for norm in NORMS:
        torch.manual_seed(7)
        network = build(norm=norm)
        weights[norm] = [m.weight.detach() for m in network.modules() if isinstance(m, torch.nn.Conv2d)]
    for norm in NORMS:
        torch.testing.assert_close(weights[norm], weights["none"])
    assert all(torch.equal(a, b) for a, b in zip(weights["batch"], weights["none"], strict=True))


@pytest.mark.parametrize("build", SMALL)
def test_norm_changes_nothing_but_normalisation_and_the_biases_it_replaces(
    build: partial[RestorationNetwork],
) -> None:
    def shapes(norm: Norm) -> dict[str, torch.Size]:
        return {name: value.shape for name, value in build(norm=norm).state_dict().items()}

    plain = shapes("none")
    for norm in ("batch", "group", "instance", "layer", "adadm", "iln"):
        changed = shapes(norm).keys() ^ plain.keys()
        assert changed
        assert all(".norm." in name or name.endswith("conv.bias") for name in changed)
        assert all(shapes(norm)[name] == plain[name] for name in shapes(norm).keys() & plain.keys())
