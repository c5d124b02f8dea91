"""Every engine computes what the plain network computes."""

import importlib.util
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from restore import evaluate, infer
from restore.checkpoint import Weights, save_weights
from restore.data.degradation import Degradation, DnCNN3Mixture, GaussianNoise, from_description
from restore.errors import UserError
from restore.images.io import write_image
from restore.inference import Calibration, accelerate, backends, int8, restore_tensor
from restore.inference.psnr_change import Change, psnr_change
from restore.inference.runner import WrappedRunner
from restore.models import EDSR, WDSRB, DnCNN, RestorationNetwork, SRResNet

needs_openvino = pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="the extra is not installed")
ENGINES = ["torch", pytest.param("openvino", marks=needs_openvino)]


def denoiser() -> DnCNN:
    """A DnCNN whose running statistics are not their initial values."""
    network = DnCNN(depth=4, features=16)
    for _ in range(20):
        network(torch.rand(2, 1, 24, 24))
    return network.eval()


NETWORKS = {
    "DnCNN": denoiser,
    "DnCNN, a third of the size": lambda: DnCNN(depth=3, features=8, downscale=3).eval(),
    "EDSR": lambda: EDSR(features=8, blocks=2, scale=3).eval(),
    "EDSR, weight norm": lambda: EDSR(features=8, blocks=1, norm="weight").eval(),
    "SRResNet": lambda: SRResNet(features=8, blocks=1, scale=2).eval(),
    "WDSR-B": lambda: WDSRB(features=8, blocks=1).eval(),
    "DnCNN, AdaDM": lambda: DnCNN(depth=3, features=8, norm="adadm").eval(),
    "EDSR, i-LN": lambda: EDSR(features=8, blocks=1, norm="iln").eval(),
    "DnCNN, instance norm": lambda: DnCNN(depth=3, features=8, norm="instance").eval(),
    "DnCNN, group norm recomputed": lambda: DnCNN(depth=3, features=8, norm="group", recompute="norm").eval(),
    "DnCNN, batch norm recomputed": lambda: DnCNN(depth=3, features=8, recompute="norm").eval(),
}


@pytest.mark.parametrize("backend", ENGINES)
@pytest.mark.parametrize("name", NETWORKS)
def test_every_backend_computes_the_plain_network_at_any_size(name: str, backend: backends.Backend) -> None:
    network = NETWORKS[name]()
    engine = accelerate(network, backend=backend, precision="fp32")
    assert (engine.channels, engine.scale, engine.device) == (network.channels, network.scale, torch.device("cpu"))
    for shape in ((1, 17, 40), (3, 8, 9), (1, 2, 2), (1, 17, 40)):
        degraded = torch.rand(shape[0], network.channels, *shape[1:])
        expected = restore_tensor(network, degraded)
        kept = restore_tensor(engine, degraded)
        restore_tensor(engine, torch.rand_like(degraded))  # a result stays when the next is computed
        torch.testing.assert_close(kept, expected, rtol=0, atol=1e-5)
    assert not any(parameter.requires_grad is False for parameter in network.parameters())


@pytest.mark.parametrize("backend", ENGINES)
def test_bf16_is_near_and_is_not_fp32(backend: backends.Backend) -> None:
    network = denoiser()
    degraded = torch.rand(1, 1, 40, 40)
    expected = restore_tensor(network, degraded)
    difference = accelerate(network, backend=backend, precision="bf16")(degraded) - expected
    difference = difference.abs().max() / expected.abs().max()
    assert difference < 2**-6
    if backend == "torch" or backends.gains_from_bf16(torch.device("cpu")):
        assert difference > 1e-6


def offset(by: float) -> DnCNN:
    """A network that changes nothing, but for rounding at `by` on the way."""
    network = DnCNN(depth=2, features=1, bias=True, residual=False).eval()
    for layer, bias in ((network.body[0], by), (network.body[2], -by)):
        torch.nn.init.dirac_(layer.weight)
        torch.nn.init.constant_(layer.bias, bias)
    return network


def test_bf16_is_chosen_where_it_is_harmless_and_refused_where_it_costs_quality(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(backends, "gains_from_bf16", lambda _: True)
    chosen = accelerate(offset(1.0), backend="torch")
    assert chosen.description.startswith("torch, bf16 (PSNR ")
    refused = accelerate(offset(40.0), backend="torch")
    assert refused.description.startswith("torch, fp32 (bf16 would change PSNR at sigma 25 by -")
    degraded = torch.rand(1, 1, 16, 16)
    torch.testing.assert_close(refused(degraded), degraded, rtol=0, atol=1e-5)
    assert accelerate(offset(40.0), backend="torch", precision="bf16").description == "torch, bf16"

    monkeypatch.setattr(backends, "gains_from_bf16", lambda _: False)
    assert accelerate(offset(1.0), backend="torch").description == "torch, fp32"


@pytest.mark.parametrize(
    ("measured", "expected", "taken"),
    [(-0.019, -0.01, "bf16"), (-0.021, -0.01, "fp32"), (0.3, -0.019, "bf16"), (0.0, -0.021, "fp32")],
)
def test_bf16_may_cost_0_02_db_and_no_more(
    measured: float, expected: float, taken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backends, "gains_from_bf16", lambda _: True)
    monkeypatch.setattr(backends, "psnr_change", lambda *_: Change(measured, 4, expected))
    assert accelerate(offset(1.0), backend="torch").description.startswith(f"torch, {taken} (")


def test_the_change_of_psnr_is_that_of_the_arithmetic() -> None:
    class Error:
        channels, inputs, multiple_of, scale, device = 1, 1, 1, 1, torch.device("cpu")

        def __init__(self, size: int) -> None:
            self.size = size / 255

        def __call__(self, degraded: torch.Tensor) -> torch.Tensor:
            return (degraded + self.size).where(degraded < 0.5, degraded - self.size)

    change = psnr_change(Error(4), Error(2), GaussianNoise(0.0), size=64)
    assert change.db == pytest.approx(20 * np.log10(2 / 4))
    assert change.expected == pytest.approx(-10 * np.log10(1 + 2**2 / 2**2), abs=1e-4)
    assert change.images == 4


def test_degradations_are_rebuilt_from_their_description() -> None:
    for degradation in (GaussianNoise((0.0, 55.0)), DnCNN3Mixture()):
        kept = {**degradation.description, "init_args": _as_json(degradation)}
        assert from_description(kept) == degradation
    assert from_description({}) is None
    with pytest.raises(UserError, match="GaussianNoise"):
        from_description({"class_path": "GaussianNoise", "init_args": {"level": 3}})


def _as_json(degradation: Degradation) -> dict[str, object]:
    return {name: list(v) if isinstance(v, tuple) else v for name, v in vars(degradation).items()}


def test_a_missing_openvino_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    assert accelerate(denoiser(), precision="fp32").description == "torch, fp32"
    with pytest.raises(UserError, match=r"restore-bn\[openvino\]"):
        accelerate(denoiser(), backend="openvino")
    with pytest.raises(UserError, match=r"restore-bn\[openvino\]"):
        accelerate(denoiser(), precision="int8")


def test_int8_in_torch_is_refused() -> None:
    with pytest.raises(UserError, match="int8 needs OpenVINO"):
        accelerate(denoiser(), backend="torch", precision="int8")


@needs_openvino
def test_nothing_is_reported_to_the_makers_of_openvino() -> None:
    accelerate(denoiser(), backend="openvino", precision="fp32")
    from openvino.tools.ovc import telemetry_utils

    assert telemetry_utils.tm.__name__ == "openvino.tools.ovc.telemetry_stub"
    assert "openvino_telemetry.main" not in sys.modules


@pytest.mark.parametrize("backend", ENGINES)
def test_threads_that_share_an_engine_get_the_results_of_their_own_images(backend: backends.Backend) -> None:
    network = denoiser()
    engine = accelerate(network, backend=backend, precision="fp32")
    images = [torch.rand(1, 1, 64 + 8 * number, 64) for number in range(24)]
    with ThreadPoolExecutor(4) as threads:
        restored = list(threads.map(engine, images))
    for image, found in zip(images, restored, strict=True):
        torch.testing.assert_close(found, restore_tensor(network, image), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("int8_s", "said"), [(0.004, True), (0.0, False)])
def test_int8_that_is_slower_is_said_to_be(int8_s: float, said: bool, caplog: pytest.LogCaptureFixture) -> None:
    class Sleeping(WrappedRunner):
        def __init__(self, seconds: float, description: str) -> None:
            super().__init__(DnCNN(depth=2, features=2))
            self.seconds, self.description = seconds, description

        def __call__(self, degraded: torch.Tensor) -> torch.Tensor:
            time.sleep(self.seconds)
            return degraded

    backends._warn_if_slower(Sleeping(int8_s, "int8"), Sleeping(0.002, "OpenVINO, fp32"))
    assert ("times as long as OpenVINO, fp32 on this machine" in caplog.text) == said


@pytest.fixture
def quantizations(monkeypatch: pytest.MonkeyPatch) -> list[RestorationNetwork]:
    """Grows with every network that is quantized, on few patches."""
    made: list[RestorationNetwork] = []
    quantize = int8._quantize
    monkeypatch.setattr(int8, "PATCHES", 6)
    monkeypatch.setattr(int8, "PATCH_SIZE", 32)
    monkeypatch.setattr(int8, "MEASURED_SIZE", 48)

    def counted(*arguments: object) -> object:
        made.append(arguments[0])
        return quantize(*arguments)

    monkeypatch.setattr(int8, "_quantize", counted)
    return made


@needs_openvino
def test_a_quantized_network_is_near_and_is_kept_and_made_anew_where_it_is_damaged_or_another(
    tmp_path: Path, quantizations: list[object], caplog: pytest.LogCaptureFixture
) -> None:
    network = denoiser()
    weights = tmp_path / "w.safetensors"
    save_weights(weights, Weights(network))

    def quantized(network: RestorationNetwork = network) -> backends.Engine:
        return accelerate(network, precision="int8", calibration=Calibration(weights=weights))

    first = quantized()
    degraded = torch.rand(1, 1, 33, 47)
    expected = first(degraded)
    exact = restore_tensor(network, degraded)
    assert 1e-5 < (expected - exact).abs().mean() / exact.abs().mean() < 0.1
    assert "dB on 4 photographs" in first.description
    xml, constants = tmp_path.glob("w.int8-*.xml"), tmp_path.glob("w.int8-*.bin")
    xml, constants = next(xml), next(constants)
    assert sorted(tmp_path.iterdir()) == sorted([xml, constants, weights])

    again = quantized()
    assert len(quantizations) == 1
    assert again.description == first.description
    torch.testing.assert_close(again(degraded), expected, rtol=0, atol=0)

    for path, damage in ((constants, _flip), (constants, _truncate), (xml, _truncate)):
        damage(path)
        caplog.clear()
        torch.testing.assert_close(quantized()(degraded), expected, rtol=0, atol=1e-3)
        assert f"{xml}: damaged, so not used" in caplog.text
    constants.unlink()
    quantized()
    assert len(quantizations) == 5

    save_weights(weights, Weights(other := denoiser()))
    quantized(other)
    assert len(quantizations) == 6
    assert len(list(tmp_path.glob("*.xml"))) == 2


@needs_openvino
@pytest.mark.parametrize(("db", "expected", "taken"), [
    (-0.019, -0.019, True), (-0.021, -0.001, False), (-0.001, -0.021, False), (0.01, 0.0, True),
])  # fmt: skip
@pytest.mark.usefixtures("quantizations")
def test_auto_takes_8_bits_that_are_there_and_cost_little(
    db: float, expected: float, taken: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, weights, cache = denoiser(), tmp_path / "package/w.safetensors", tmp_path / "cache"
    weights.parent.mkdir()
    save_weights(weights, Weights(network))
    monkeypatch.setattr(int8, "psnr_change", lambda *_: Change(db, 4, expected))
    calibration = Calibration(weights=weights, cache=cache)

    def auto() -> str:
        return accelerate(network, calibration=calibration).description

    assert "int8" not in auto()
    made = accelerate(network, precision="int8", calibration=calibration).description
    assert [path.parent for path in tmp_path.rglob("w.int8-*.xml")] == [cache]  # a package stays as it is
    assert (auto() == made) == taken
    for path in cache.iterdir():
        path.rename(weights.parent / path.name)  # as packages have it
    assert (auto() == made) == taken
    monkeypatch.setattr(backends.platform, "machine", lambda: "aarch64")  # where it was never measured
    assert "int8" not in auto()


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x55
    path.write_bytes(content)


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@needs_openvino
def test_the_commands_take_and_tell_backend_and_precision(
    tmp_path: Path, image_folder: Path, quantizations: list[object], capsys: pytest.CaptureFixture[str]
) -> None:
    weights = tmp_path / "w.safetensors"
    save_weights(weights, Weights(denoiser(), GaussianNoise(15.0).description, {"train": {"set": "photos"}}))
    common = ["--weights", str(weights), "--input", str(image_folder), "--output"]
    for number, (flags, told) in enumerate(
        [
            (["--backend", "torch", "--precision", "fp32"], "network run by torch, fp32"),
            (
                ["--precision", "bf16"],
                "network run by OpenVINO, bf16" if backends.gains_from_bf16(torch.device("cpu")) else "OpenVINO, fp32",
            ),
            (["--precision", "int8"], "network run by OpenVINO, int8 with"),
        ]
    ):
        assert infer.main([*common, str(tmp_path / str(number)), *flags]) == 0
        assert told in capsys.readouterr().out
    write_image(tmp_path / "set/a.png", np.random.default_rng(0).integers(0, 256, (40, 40, 1), np.uint8))
    assert evaluate.main(["--weights", str(weights), "--data", str(tmp_path / "set"), "--precision", "int8"]) == 0
    assert "w.safetensors run by OpenVINO, int8 with" in capsys.readouterr().out
    assert len(quantizations) == 1
