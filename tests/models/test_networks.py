"""The networks against published parameter counts, their equations and other projects' outputs."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrize import is_parametrized

from restore.models import (
    EDSR,
    MDSR,
    NETWORKS,
    NORMS,
    WDSRA,
    WDSRB,
    DnCNN,
    NetworkSpec,
    Norm,
    RestorationNetwork,
    SRResNet,
    build,
    complete,
)
from restore.models.norm import normalizes_output


def parameters(network: RestorationNetwork) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_dncnn_has_the_published_number_of_parameters() -> None:
    assert parameters(DnCNN()) == 556_032
    assert parameters(DnCNN(bias=True)) == 557_057


@pytest.mark.parametrize(("scale", "baseline", "full"), [
    (2, 1_369_859, 40_729_603), (3, 1_554_499, 43_680_003), (4, 1_517_571, 43_089_923),
])  # fmt: skip
def test_edsr_has_the_published_number_of_parameters(scale: int, baseline: int, full: int) -> None:
    assert parameters(EDSR(scale=scale)) == baseline
    assert parameters(EDSR(scale=scale, features=256, blocks=32, res_scale=0.1)) == full


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", NETWORKS)
def test_a_specification_is_completed_without_drawing_anything(name: str, norm: Norm) -> None:
    spec = NetworkSpec(name, {"norm": norm} if name not in ("FDnCNN", "FFDNet") else {})
    before = torch.get_rng_state()
    completed = complete(spec)
    assert torch.equal(torch.get_rng_state(), before)
    assert completed == build(spec).spec


def test_mdsr_has_the_published_number_of_parameters() -> None:
    assert [round(parameters(MDSR(blocks=blocks)) / 1e6, 1) for blocks in (16, 80)] == [3.2, 8.0]


def test_an_mdsr_works_at_each_of_its_scales_with_the_same_body() -> None:
    network = MDSR(features=4, blocks=1, scales=(2, 3, 8), scale=3)
    x = torch.rand(2, 3, 5, 7)
    assert [network.at(scale)(x).shape[-2:] for scale in network.all_scales] == [(10, 14), (15, 21), (40, 56)]
    assert network(x).shape[-2:] == (15, 21)
    network.at(8)(x).sum().backward()
    used = {name.rpartition(".")[0] for name, parameter in network.named_parameters() if parameter.grad is not None}
    assert {"head", "body.1", "upsample.2.0", "upsample.2.4", "pre_process.2.1.body.2.conv"} <= used
    assert not any(name.startswith(("upsample.0", "upsample.1", "pre_process.0", "pre_process.1")) for name in used)
    with pytest.raises(ValueError, match="scale must be one of 2, 3, 8, not 4"):
        network.at(4)


def test_srresnet_has_the_parameters_of_its_layers() -> None:
    head = 9 * 9 * 3 * 64 + 64 + 1
    block = 2 * (9 * 64 * 64 + 2 * 64) + 1
    body_end = 9 * 64 * 64 + 2 * 64
    upsampler = 2 * (9 * 64 * 256 + 256 + 1)
    tail = 9 * 9 * 64 * 3 + 3
    assert parameters(SRResNet()) == head + 16 * block + body_end + upsampler + tail


def test_wdsr_a_has_the_published_number_of_parameters() -> None:
    assert parameters(WDSRA()) == 1_190_100  # "WDSR Baseline" of its authors' code


def test_wdsr_b_has_the_parameters_of_its_layers() -> None:
    def convolution(inputs: int, outputs: int, kernel: int) -> int:
        return kernel * kernel * inputs * outputs + outputs + outputs  # a bias and a length for each output

    outer = convolution(3, 32, 3) + convolution(32, 12, 3) + convolution(3, 12, 5)
    for expansion in (6, 9):
        wide = 32 * expansion
        block = convolution(32, wide, 1) + convolution(wide, 25, 1) + convolution(25, 32, 3)  # 0.8 of 32
        assert parameters(WDSRB(expansion=expansion)) == outer + 16 * block


@pytest.mark.parametrize("network", [EDSR, SRResNet, WDSRA, WDSRB])
@pytest.mark.parametrize("scale", [2, 3, 4, 8])
@pytest.mark.parametrize("channels", [1, 3])
def test_super_resolution_enlarges_by_its_scale(network: type, scale: int, channels: int) -> None:
    x = torch.rand(2, channels, 5, 7)
    assert network(channels=channels, scale=scale, blocks=1, features=4)(x).shape == (2, channels, 5 * scale, 7 * scale)


def test_dncnn_subtracts_what_it_predicts_or_predicts_the_image() -> None:
    x = torch.rand(1, 1, 6, 6)
    learned, direct = (DnCNN(depth=3, features=4, residual=residual) for residual in (True, False))
    direct.load_state_dict(learned.state_dict())
    torch.testing.assert_close(learned.eval()(x) + direct.eval()(x), x)


@pytest.mark.parametrize(("channels", "factor"), [(1, 2), (3, 2), (1, 3)])
def test_a_downscaled_dncnn_subtracts_what_it_predicts_of_squares_of_pixels(channels: int, factor: int) -> None:
    network = DnCNN(channels, depth=4, features=6, downscale=factor).eval()
    image = torch.rand(2, channels, 6 * factor, 4 * factor)
    places = [(row, column) for row in range(factor) for column in range(factor)]
    parts = [image[:, c, i::factor, j::factor] for c in range(channels) for i, j in places]
    noise = network.body(torch.stack(parts, 1)).unflatten(1, (channels, len(places)))
    expected = image.clone()
    for place, (i, j) in enumerate(places):
        expected[:, :, i::factor, j::factor] -= noise[:, :, place]
    torch.testing.assert_close(network(image), expected)
    with pytest.raises(ValueError, match="downscale must be at least 1, not 0"):
        DnCNN(downscale=0)


@pytest.mark.parametrize("depth", [3, 5])
def test_dncnn_sees_as_far_as_it_is_deep(depth: int) -> None:
    network = DnCNN(depth=depth, features=4, norm="none").double()
    x = torch.rand(1, 1, 31, 31, dtype=torch.float64, requires_grad=True)
    for _ in range(20):  # dead ReLUs of one draw must not hide a path
        for parameter in network.parameters():
            torch.nn.init.uniform_(parameter)
        network(x)[0, 0, 15, 15].backward()
    rows = (x.grad[0, 0] != 0).any(1).nonzero()
    assert (rows.min().item(), rows.max().item()) == (15 - depth, 15 + depth)


def test_edsr_scales_its_residuals() -> None:
    torch.manual_seed(0)
    full = EDSR(blocks=1, features=4, res_scale=1.0)
    torch.manual_seed(0)
    tenth = EDSR(blocks=1, features=4, res_scale=0.1)
    x = torch.randn(1, 4, 5, 5)
    torch.testing.assert_close(tenth.body[0](x) - x, 0.1 * (full.body[0](x) - x))


@pytest.mark.parametrize(
    "network", [EDSR(blocks=1, features=4), WDSRA(blocks=1, features=4), WDSRB(blocks=1, features=4)]
)
def test_the_mean_color_is_taken_out_and_added_again(network: RestorationNetwork) -> None:
    mean = torch.tensor([0.4488, 0.4371, 0.4040]).view(1, 3, 1, 1).expand(1, 3, 4, 4)
    torch.testing.assert_close(network(mean), mean.repeat(1, 1, 2, 2))


@pytest.mark.parametrize("kind", [WDSRA, WDSRB])
def test_wdsr_computes_what_its_authors_wrote_on_pixels_up_to_255(kind: type[WDSRA | WDSRB]) -> None:
    network = kind(features=6, blocks=2, scale=3, res_scale=0.5).double()
    for parameter in network.parameters():
        torch.nn.init.uniform_(parameter, -1, 1)
    state = network.state_dict()

    def convolve(x: Tensor, name: str) -> Tensor:
        length, direction = (state[f"{name}.parametrizations.weight.original{part}"] for part in (0, 1))
        weight = torch.stack([g * v / v.square().sum().sqrt() for g, v in zip(length, direction, strict=True)])
        return F.conv2d(x, weight, state[f"{name}.bias"], padding=weight.shape[-1] // 2)

    degraded = torch.rand(2, 3, 7, 9, dtype=torch.float64) * 255
    mean = torch.tensor([0.4488, 0.4371, 0.4040]).double().view(1, 3, 1, 1) * 255
    x = (degraded - mean) / 127.5
    skip = F.pixel_shuffle(convolve(x, "skip"), 3)
    x = convolve(x, "head")
    for block in range(2):
        residual = convolve(x, f"body.{block}.body.0.conv").relu()
        for place in range(2, 4 if kind is WDSRB else 3):
            residual = convolve(residual, f"body.{block}.body.{place}.conv")
        x = x + 0.5 * residual
    expected = (F.pixel_shuffle(convolve(x, "tail"), 3) + skip) * 127.5 + mean
    torch.testing.assert_close(network(degraded / 255) * 255, expected)


@pytest.mark.parametrize("norm", NORMS)
def test_weight_norm_is_on_all_convolutions_of_wdsr_and_other_norms_behind_those_of_its_blocks(norm: Norm) -> None:
    network = WDSRB(features=4, blocks=2, norm=norm)
    convolutions = [module for module in network.modules() if isinstance(module, torch.nn.Conv2d)]
    assert len(convolutions) == 2 * 3 + 3
    assert [is_parametrized(module) for module in convolutions] == [norm == "weight"] * 9
    normed = [module for block in network.body for module in block.body if len(list(module.children())) == 2]
    assert len(normed) == (6 if normalizes_output(norm) else 0)


def load_in_order(network: RestorationNetwork, state: dict[str, torch.Tensor]) -> RestorationNetwork:
    """Fill our tensors with another layout's, which are in the same order and of the same shapes."""
    own = network.state_dict()
    assert [value.shape for value in own.values()] == [value.shape for value in state.values()]
    network.load_state_dict(dict(zip(own, state.values(), strict=True)))
    return network.eval()


@pytest.mark.parametrize(("file", "make"), [
    ("dncnn_kair_merged", partial(DnCNN, norm="none", bias=True)),
    ("dncnn_saoyan", partial(DnCNN, residual=False)),
    ("edsr_basicsr_x4", EDSR),
    ("edsr_official_x2", EDSR),
])  # fmt: skip
def test_networks_compute_what_other_projects_compute(
    golden: Path, file: str, make: partial[RestorationNetwork]
) -> None:
    reference = torch.load(golden / f"{file}.pt", weights_only=True)
    info = {key: reference["info"][key] for key in ("depth", "features", "blocks", "scale", "res_scale")
            if key in reference["info"]}  # fmt: skip
    state = {
        key: value for key, value in reference["state_dict"].items() if "_mean.w" not in key and "_mean.b" not in key
    }
    peak = 255 if file == "edsr_official_x2" else 1
    restored = load_in_order(make(**info), state)(reference["input"] / peak) * peak
    torch.testing.assert_close(restored, reference["output"], atol=1e-5 * peak, rtol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_specification_rebuilds_its_network(name: str) -> None:
    network = NETWORKS[name](features=6, norm="group", channels=1)
    assert build(network.spec).spec == network.spec
    assert build(network.spec).state_dict().keys() == network.state_dict().keys()


@pytest.mark.parametrize(("spec", "complaint"), [
    (NetworkSpec("Unet", {}), "unknown network 'Unet'"),
    (NetworkSpec("DnCNN", {"dept": 17}), "dept"),
    (NetworkSpec("DnCNN", {"channels": 2}), "channels must be 1"),
    (NetworkSpec("EDSR", {"scale": 5}), "scale must be 2, 3, 4 or 8"),
    (NetworkSpec("MDSR", {"scale": 8}), "scale must be one of scales, 2, 3, 4, not 8"),
    (NetworkSpec("WDSRA", {"low_rank": 0.5}), "low_rank"),
    (NetworkSpec("WDSRB", {"low_rank": 0.01}), "features must be at least 1, not 0"),
    *((NetworkSpec(name, {"blocks": -2}), "blocks must be at least 0, not -2")
      for name in ("EDSR", "MDSR", "SRResNet", "WDSRA")),
    *((NetworkSpec(name, {"rgb_range": 0.0}), "rgb_range must be positive, not 0") for name in ("EDSR", "MDSR")),
])  # fmt: skip
def test_an_impossible_network_is_refused_by_name(spec: NetworkSpec, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        build(spec)


class TwoFixed(DnCNN):
    """Fixes two of DnCNN's arguments and passes the rest on."""

    def __init__(self, depth: int = 5, **rest: Any) -> None:
        super().__init__(depth=depth, norm="batch", bn_eps=1e-3, **rest)


class AllFixed(DnCNN):
    """Takes one argument and passes nothing on."""

    def __init__(self, width: int = 4) -> None:
        super().__init__(features=2 * width, depth=3)


class SetLater(RestorationNetwork):
    """Says its channels after the constructor of its base class."""

    def __init__(self) -> None:
        super().__init__()
        self.channels = 3

    def forward(self, degraded: Tensor) -> Tensor:
        return degraded


def test_a_network_may_say_its_channels_late() -> None:
    assert SetLater().inputs == 3


def test_a_specification_holds_what_is_passed_on_but_not_what_is_fixed() -> None:
    open_to = TwoFixed(features=8, recompute="norm")
    arguments = {"channels", "depth", "features", "residual", "bias", "init", "downscale", "bn_momentum", "recompute"}
    assert set(open_to.spec.arguments) == arguments
    assert open_to.spec.arguments["recompute"] == "norm"
    again = TwoFixed(**open_to.spec.arguments)
    assert again.spec == open_to.spec
    assert [m.eps for m in again.modules() if isinstance(m, nn.BatchNorm2d)] == [1e-3] * 3
    assert AllFixed().spec.arguments == {"width": 4}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_specification_states_the_settings_of_its_norm(name: str) -> None:
    arguments = NETWORKS[name]().spec.arguments
    assert arguments.items() >= {"bn_momentum": 0.1, "bn_eps": 1e-5, "recompute": "none"}.items()
