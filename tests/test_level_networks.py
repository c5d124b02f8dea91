"""FDnCNN and FFDNet, which are told the noise level, from other projects' files to restored images."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import restore
from restore import evaluate, export, infer
from restore.checkpoint import Weights, save_weights
from restore.data.degradation import Bicubic, GaussianNoise, Jpeg
from restore.data.random import seeded
from restore.errors import UserError
from restore.exporters import write_program
from restore.foreign_checkpoints import load_any
from restore.images.io import read_image, write_image
from restore.images.tensors import to_image, to_tensor
from restore.inference import Ensemble, accelerate, at_level, restore_tensor, tiled
from restore.models import FDnCNN, FFDNet, RestorationNetwork
from restore.training import Optimization, PatchData, fit


def numbered(read: int, features: int, depth: int, made: int) -> nn.Sequential:
    """Convolutions and ReLUs in turn, as KAIR keeps them."""
    layers: list[nn.Module] = [nn.Conv2d(read, features, 3, padding=1), nn.ReLU()]
    for _ in range(depth - 2):
        layers += [nn.Conv2d(features, features, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(features, made, 3, padding=1))


def as_ffdnet(layers: nn.Module, image: Tensor, sigma: float) -> Tensor:
    """Four pixels in one by slices, the level as one more channel, and back; odd sizes repeat the last pixels."""
    _, channels, height, width = image.shape
    padded = nn.functional.pad(image, (0, width % 2, 0, height % 2), mode="replicate")
    parts = [padded[:, c, i::2, j::2] for c in range(channels) for i in (0, 1) for j in (0, 1)]
    made = layers(torch.stack([*parts, torch.full_like(parts[0], sigma)], 1))
    restored = torch.empty_like(padded)
    for c in range(channels):
        for i in (0, 1):
            for j in (0, 1):
                restored[:, c, i::2, j::2] = made[:, 4 * c + 2 * i + j]
    return restored[..., :height, :width]


def saved(path: Path, layers: nn.Module) -> Path:
    torch.save({f"model.{key}": value for key, value in layers.state_dict().items()}, path)
    return path


@pytest.mark.parametrize("channels", [1, 3])
def test_kairs_files_are_read_by_their_keys_and_written_again(channels: int, tmp_path: Path) -> None:
    image = torch.rand(2, channels, 11, 13)
    fdncnn, ffdnet = numbered(channels + 1, 6, 5, channels), numbered(4 * channels + 1, 6, 4, 4 * channels)
    for layers, kind, expected in (
        (fdncnn, FDnCNN, fdncnn(torch.cat([image, torch.full_like(image[:, :1], 0.1)], 1))),
        (ffdnet, FFDNet, as_ffdnet(ffdnet, image, 0.1)),
    ):
        network = restore.load(saved(tmp_path / "w.pth", layers))
        assert type(network) is kind
        torch.testing.assert_close(restore_tensor(at_level(network, 0.1), image), expected, atol=1e-6, rtol=1e-5)
        save_weights(tmp_path / "w.safetensors", Weights(network))
        arguments = [str(tmp_path / "w.safetensors"), "--format", "kair", "--output", str(tmp_path / "again.pth")]
        assert export.main(arguments) == 0
        again = torch.load(tmp_path / "again.pth", weights_only=True)
        assert {key.removeprefix("model.") for key in again} == layers.state_dict().keys()
        assert all(torch.equal(again[f"model.{key}"], value) for key, value in layers.state_dict().items())


def trained(network: RestorationNetwork) -> RestorationNetwork:
    """With output that depends on each pixel around and on the level."""
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.15)
    return network.eval()


NETWORKS = pytest.mark.parametrize(
    "network", [trained(FDnCNN(depth=4, features=8)), trained(FFDNet(channels=3, depth=4, features=8))],
    ids=["FDnCNN", "FFDNet"],
)  # fmt: skip


@NETWORKS
@pytest.mark.parametrize("size", [(41, 59), (1, 1), (2, 33)])
def test_every_way_to_run_one_gives_the_same_at_any_size(network: RestorationNetwork, size: tuple[int, int]) -> None:
    image = torch.rand(1, network.channels, *size)
    expected = restore_tensor(at_level(network, 0.2), image)
    assert (restore_tensor(at_level(network, 0.1), image) - expected).abs().max() > 1e-6
    for runner in (
        tiled(network, 7),
        tiled(network, 16),
        accelerate(network, backend="torch", precision="fp32"),
        accelerate(network, backend="openvino", precision="fp32"),
    ):
        assert (restore_tensor(at_level(runner, 0.2), image) - expected).abs().max() <= 1e-5
    ensemble = restore_tensor(at_level(Ensemble(network), 0.2), image)
    turned = restore_tensor(at_level(Ensemble(network), 0.2), image.flip(-1)).flip(-1)
    if not any(extent % network.multiple_of for extent in size):
        torch.testing.assert_close(ensemble, turned, atol=1e-6, rtol=0)
    assert ensemble.shape == expected.shape


@NETWORKS
@pytest.mark.parametrize(("form", "suffix"), [("onnx", "onnx"), ("openvino", "xml"), ("torch", "pt2")])
def test_programs_compute_what_it_computes(network: RestorationNetwork, form: str, suffix: str, tmp_path: Path) -> None:
    pytest.importorskip({"onnx": "onnxruntime", "openvino": "openvino"}.get(form, "torch"))
    assert write_program(network, form, tmp_path / f"w.{suffix}") < 1e-4


@NETWORKS
def test_it_runs_in_int8_judged_at_noise_with_its_level(network: RestorationNetwork) -> None:
    pytest.importorskip("nncf")
    engine = accelerate(network, precision="int8", degradation=GaussianNoise((10.0, 30.0)))
    assert "against fp32, at sigma 10-30" in engine.description
    assert engine(torch.rand(1, network.inputs, 12, 10)).shape == (1, network.channels, 12, 10)


@NETWORKS
def test_images_are_restored_at_the_level_that_is_named(
    network: RestorationNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = np.random.default_rng(0).integers(0, 256, (21, 30, network.channels), np.uint8)
    write_image(tmp_path / "in/a.png", image)
    save_weights(tmp_path / "w.safetensors", Weights(network))
    asked = ["--weights", str(tmp_path / "w.safetensors"), "--input", str(tmp_path / "in"), "--precision", "fp32"]
    assert infer.main([*asked, "--output", str(tmp_path / "30"), "--sigma", "30"]) == 0
    expected = restore_tensor(at_level(network, 30 / 255), to_tensor(image)).mul(255).round().clamp(0, 255).byte()
    difference = read_image(tmp_path / "30/a.png").astype(int) - to_image(expected).astype(int)
    assert np.abs(difference).max() <= 1
    with pytest.raises(UserError, match="takes the noise level of the image as input; set it with --sigma"):
        infer.main([*asked, "--output", str(tmp_path / "none")])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="--sigma: DnCNN does not take a noise level"):
        infer.main(["--model", "dncnn-gray-25", "--input", "in", "--output", "x", "--sigma", "30"])


@NETWORKS
def test_a_blind_run_learns_with_levels_and_is_measured_at_any(
    network: RestorationNetwork, tmp_path: Path, image_folder: Path
) -> None:
    data = PatchData(
        str(image_folder), str(image_folder), degradation=GaussianNoise((0.0, 75.0)), patch_size=12, batch_size=4,
        steps_per_epoch=2,
    )  # fmt: skip
    quiet = {"accelerator": "cpu", "enable_progress_bar": False, "max_steps": 2}
    summary = fit(
        type(network)(**network.spec.arguments), data, Optimization(loss="l1"), tmp_path / "run", trainer=quiet
    )
    assert summary["last"]["val/psnr"] == pytest.approx(summary["results"][1]["psnr"], abs=1e-3)
    weights = tmp_path / "run/weights.safetensors"
    asked = ["--weights", str(weights), "--data", str(image_folder), "--sigma", "15", "50"]
    assert evaluate.main([*asked, "--json", str(tmp_path / "rows.json")]) == 0
    found = [row for row in json.loads((tmp_path / "rows.json").read_text())["rows"] if row["model"] != "noisy"]
    assert [row["sigma"] for row in found] == [15, 50]
    with pytest.raises(UserError, match="takes the noise level of the image as input; set it"):
        evaluate.main(["--weights", str(weights), "--data", str(image_folder), "--quality", "30"])


def test_what_states_no_level_is_refused_in_training(image_folder: Path) -> None:
    def prepare(network: RestorationNetwork, **settings: object) -> None:
        PatchData(str(image_folder), str(image_folder), **settings).prepare(network)

    with pytest.raises(UserError, match=r"data\.patch_size must be a multiple of 2, not 15"):
        prepare(FFDNet(features=4), patch_size=15)
    with pytest.raises(UserError, match=r"FDnCNN takes the noise level as input, which JPEG .* does not have"):
        prepare(FDnCNN(features=4), degradation=Jpeg(30))
    with pytest.raises(UserError, match="which bicubic x2 does not have"):
        Bicubic(2).with_level(torch.rand(1, 1, 4, 4), seeded(0))


def test_the_level_beside_an_image_is_that_of_its_noise() -> None:
    told = GaussianNoise((10.0, 60.0)).with_level(torch.full((8, 3, 64, 64), 0.5), seeded(3))
    degraded, level = told[:, :3], told[:, 3]
    torch.testing.assert_close(degraded.flatten(1).std(1), level.mean((1, 2)), rtol=0.03, atol=0)
    assert torch.equal(degraded, GaussianNoise((10.0, 60.0))(torch.full((8, 3, 64, 64), 0.5), seeded(3)))


def test_fdncnn_is_not_taken_for_dncnn(tmp_path: Path) -> None:
    assert load_any(saved(tmp_path / "a.pth", numbered(1, 4, 4, 1))).network.spec.name == "DnCNN"
    assert load_any(saved(tmp_path / "b.pth", numbered(2, 4, 4, 1))).network.spec.name == "FDnCNN"
    with pytest.raises(UserError, match=r"looks like KAIR's DnCNN but does not match|no known layout"):
        load_any(saved(tmp_path / "c.pth", numbered(3, 4, 4, 1)))
