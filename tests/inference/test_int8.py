"""8-bit arithmetic against a second implementation of it, and what decides on the precision of the rest."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restore.checkpoint import Weights, save_weights
from restore.data.degradation import GaussianNoise
from restore.errors import UserError
from restore.inference import Calibration, accelerate, int8
from restore.inference.psnr_change import Change
from restore.models import DnCNN, Norm
from restore.models.fold import fold

pytest.importorskip("restore.inference.openvino_runner")  # before OpenVINO itself, whose telemetry it turns off
pytest.importorskip("nncf")


def denoiser() -> DnCNN:
    network = DnCNN(depth=5, features=16, norm="none", bias=True).eval()
    for parameter in network.parameters():
        parameter.requires_grad_(False)
        if parameter.ndim == 1:
            nn.init.normal_(parameter, std=0.1)
    return network


def in_8_bits(network: DnCNN, patches: list[Tensor], degraded: Tensor) -> Tensor:
    """The inner convolutions on rounded inputs (256 steps from 0 to the patches' largest) with rounded weights."""
    layers = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    exact, rounded = torch.cat(patches), degraded
    for number, layer in enumerate(layers):
        weight = layer.weight
        if 0 < number < len(layers) - 2:  # two at the end stay as they are
            step = weight.abs().amax((1, 2, 3), keepdim=True) / 127
            weight = (weight / step).round() * step
            step = exact.max() / 255
            rounded = (rounded / step).round().clamp(0, 255) * step
        rounded = F.conv2d(rounded, weight, layer.bias, padding=1)
        exact = layer(exact)
        if number < len(layers) - 1:
            rounded, exact = rounded.relu(), exact.relu()
    return degraded - rounded


def test_a_quantized_network_computes_with_8_bits_and_loses_nothing_else() -> None:
    from restore.inference.openvino_runner import OpenVinoRunner, convert

    network = denoiser()
    patches = [torch.rand(1, 1, 24, 24) for _ in range(8)]
    model = int8._quantize(convert(network), [patch.numpy() for patch in patches])
    degraded = torch.rand(1, 1, 40, 30)
    restored = OpenVinoRunner(model, network, "fp32", "")(degraded)
    expected = in_8_bits(network, patches, degraded)
    lost = (expected - network(degraded)).square().mean()
    assert (restored - expected).square().mean() < lost / 10  # a tie rounds here up, there down
    assert lost > 0


@pytest.mark.parametrize("norm", ["group", "instance", "layer"])
def test_a_network_whose_norm_stays_is_quantized_around_it(norm: Norm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(int8, "PATCHES", 4)
    network = DnCNN(depth=6, features=16, norm=norm, init="he").eval()
    degraded = torch.rand(1, 1, 40, 30)
    exact = network(degraded).detach()
    restored = int8.quantized(fold(network), GaussianNoise(), Calibration(), bf16=False)(degraded)
    changed = (exact - degraded).square().mean()
    assert 0 < (restored - exact).square().mean() < changed / 100


def test_a_network_that_takes_multiples_only_is_quantized(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(int8, "PATCHES", 2)
    network = DnCNN(depth=5, features=16, norm="none", bias=True, init="he", downscale=5).eval()
    engine = accelerate(network, precision="int8")
    degraded = torch.rand(1, 1, 40, 30)
    exact = network(degraded).detach()
    assert 0 < (engine(degraded) - exact).square().mean() < (exact - degraded).square().mean() / 100


@pytest.mark.parametrize("norm", ["adadm", "iln"])
def test_norms_that_multiply_by_a_deviation_are_refused(norm: Norm) -> None:
    with pytest.raises(UserError, match=f"int8: the norm {norm} multiplies by each image's deviation"):
        accelerate(DnCNN(depth=3, features=4, norm=norm).eval(), precision="int8")


@pytest.mark.parametrize(
    ("fp32", "bf16", "taken"), [(-0.02, -0.021, "bf16"), (-0.02, -0.2, "fp32"), (-0.2, -0.02, "bf16")]
)
def test_what_is_not_quantized_runs_in_bf16_only_where_that_costs_next_to_nothing(
    fp32: float, bf16: float, taken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = iter([fp32, bf16])
    monkeypatch.setattr(int8, "PATCHES", 2)
    monkeypatch.setattr(int8, "psnr_change", lambda *_: Change(next(measured), 4, 0.0))
    save_weights(tmp_path / "w.safetensors", Weights(denoiser()))
    calibration = Calibration(weights=tmp_path / "w.safetensors")

    def description(may_use_bf16: bool) -> str:
        return int8.quantized(denoiser(), GaussianNoise(), calibration, bf16=may_use_bf16).description

    db = {"fp32": fp32, "bf16": bf16}
    change = f"{db[taken]:+.3f} dB on 4 photographs against fp32, at sigma 25"
    expected = f"OpenVINO, int8 with {taken} ends (PSNR {change})"
    assert description(True) == expected
    assert description(True) == expected  # read
    assert description(False).startswith("OpenVINO, int8 with fp32 ends")
