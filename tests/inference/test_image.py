"""Restoring images of every kind, and the command around it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from restore import infer
from restore.checkpoint import Weights, save_weights
from restore.errors import UserError
from restore.images.io import read_image, write_image
from restore.images.pixels import Pixels
from restore.images.resize import imresize
from restore.images.tensors import to_pixels, to_tensor
from restore.inference import Ensemble, restore_image
from restore.models import EDSR, DnCNN, RestorationNetwork

RANDOM = np.random.default_rng(0)


def identity(channels: int) -> RestorationNetwork:
    """A denoiser that predicts no noise at all."""
    network = DnCNN(channels=channels, depth=2, features=4).eval()
    torch.nn.init.zeros_(network.body[-1].weight)
    return network


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(("network", "image"), [(1, 1), (3, 3), (3, 1), (1, 3)])
def test_a_network_that_changes_nothing_gives_the_image_back(network: int, image: int, dtype: type) -> None:
    pixels = RANDOM.integers(0, np.iinfo(dtype).max + 1, (9, 12, image), dtype)
    np.testing.assert_array_equal(restore_image(identity(network), pixels), pixels)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_every_level_of_a_tall_image_survives_the_way_to_tensors_and_back(dtype: type) -> None:
    full = np.iinfo(dtype).max
    levels = np.linspace(0, full, 600 * 7 * 3).round().astype(dtype).reshape(600, 7, 3)
    tensor = to_tensor(levels)
    assert torch.equal(tensor, torch.from_numpy((levels.astype(np.float32) / full).transpose(2, 0, 1)[None]))
    np.testing.assert_array_equal(to_pixels(tensor, levels.dtype), levels)


def test_a_gray_network_restores_the_luma_of_a_color_image() -> None:
    brighter = DnCNN(depth=2, features=4, bias=True).eval()
    torch.nn.init.zeros_(brighter.body[-1].weight)
    torch.nn.init.constant_(brighter.body[-1].bias, -20 / 255)
    flat = np.full((5, 5, 3), (90, 100, 110), np.uint8)
    np.testing.assert_array_equal(restore_image(brighter, flat), flat + 20)


def test_a_gray_super_resolution_network_enlarges_chroma_bicubically() -> None:
    network = EDSR(channels=1, features=4, blocks=1).eval()
    pixels = np.full((8, 8, 3), (200, 100, 50), np.uint8)
    assert restore_image(network, pixels).shape == (16, 16, 3)


def test_results_are_clipped_and_rounded_half_up() -> None:
    network = DnCNN(depth=2, features=4, bias=True).eval()
    torch.nn.init.zeros_(network.body[-1].weight)
    pixels = np.array([[[0], [128], [255]]], np.uint8)
    torch.nn.init.constant_(network.body[-1].bias, -1.0)
    assert restore_image(network, pixels).ravel().tolist() == [255, 255, 255]
    torch.nn.init.constant_(network.body[-1].bias, -0.6 / 255)
    assert restore_image(network, pixels).ravel().tolist() == [1, 129, 255]


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    save_weights(tmp_path / "w.safetensors", Weights(identity(1)))
    return tmp_path / "w.safetensors"


def test_a_folder_is_restored_under_the_same_names_and_gray_stays_gray(weights: Path, tmp_path: Path) -> None:
    gray = RANDOM.integers(0, 256, (8, 8, 1), np.uint8)
    write_image(tmp_path / "in/gray.png", gray)
    write_image(tmp_path / "in/deep/color.bmp", RANDOM.integers(0, 256, (8, 8, 3), np.uint8))
    code = infer.main(["--weights", str(weights), "--input", str(tmp_path / "in"), "--output", str(tmp_path / "out")])
    assert code == 0
    np.testing.assert_array_equal(read_image(tmp_path / "out/gray.png"), gray)
    assert read_image(tmp_path / "out/deep/color.bmp").shape == (8, 8, 3)


def restored_with(weights: Path, tmp_path: Path, name: str, *options: str) -> Pixels:
    """What the command with these options makes of one image."""
    if not (tmp_path / "one").exists():
        write_image(tmp_path / "one/a.png", RANDOM.integers(0, 256, (50, 61, 3), np.uint8))
    common = ["--weights", str(weights), "--input", str(tmp_path / "one"), "--output", str(tmp_path / name)]
    assert infer.main([*common, *options]) == 0
    return read_image(tmp_path / name / "a.png").astype(int)


def test_tiles_and_the_ensemble_are_options_of_the_command(tmp_path: Path) -> None:
    weights = tmp_path / "sr.safetensors"
    network = EDSR(features=8, blocks=1, scale=2)
    save_weights(weights, Weights(network))
    whole = restored_with(weights, tmp_path, "whole", "--tile", "0", "--precision", "fp32")
    for name, option in {"tiles": ("--tile", "16"), "auto": ()}.items():
        differing = restored_with(weights, tmp_path, name, "--precision", "fp32", *option) != whole
        assert differing.mean() < 1e-3  # rounding ties
    both = restored_with(weights, tmp_path, "both", "--tile", "16", "--ensemble", "--precision", "fp32")
    expected = restore_image(Ensemble(network.eval()), read_image(tmp_path / "one/a.png"))
    assert (both != expected).mean() < 1e-3 < (both != whole).mean()


def test_networks_that_cannot_be_tiled_need_another_word(tmp_path: Path) -> None:
    weights = tmp_path / "group.safetensors"
    save_weights(weights, Weights(DnCNN(channels=3, depth=4, features=8, norm="group")))
    with pytest.raises(UserError, match="cannot be tiled exactly because of its group norm"):
        restored_with(weights, tmp_path, "refused", "--tile", "16")
    forced = restored_with(weights, tmp_path, "forced", "--tile", "16", "--tile-approximate")
    assert (forced != restored_with(weights, tmp_path, "whole")).any()


def test_an_unreadable_file_is_reported_and_the_rest_is_done(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "c"):
        write_image(tmp_path / f"in/{name}.png", np.zeros((8, 8, 1), np.uint8))
    (tmp_path / "in/b.png").write_text("no image")
    code = infer.main(["--weights", str(weights), "--input", str(tmp_path / "in"), "--output", str(tmp_path / "out")])
    assert code == 1
    assert sorted(path.name for path in (tmp_path / "out").glob("*.png")) == ["a.png", "c.png"]
    captured = capsys.readouterr()
    assert "2 of 3 images restored" in captured.out
    assert "b.png: not a readable image" in captured.err


def test_what_a_format_cannot_hold_is_told(weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in").mkdir()
    Pillow.fromarray(np.zeros((8, 8, 4), np.uint8)).save(tmp_path / "in/a.png")
    args = ["--weights", str(weights), "--input", str(tmp_path / "in"), "--output", str(tmp_path / "out")]
    assert infer.main([*args, "--format", "jpg"]) == 0
    assert "note: 1 written without an alpha channel" in capsys.readouterr().out
    assert [path.name for path in sorted((tmp_path / "out").iterdir())] == ["a.jpg", "restore-log.json"]


def test_nothing_is_written_over_an_input_or_over_another_result(weights: Path, tmp_path: Path) -> None:
    for name in ("in/a.png", "more/a.png"):
        write_image(tmp_path / name, np.zeros((8, 8, 1), np.uint8))
    common = ["--weights", str(weights), "--input"]
    with pytest.raises(UserError, match="would overwrite an input"):
        infer.main([*common, str(tmp_path / "in/a.png"), "--output", str(tmp_path / "in")])
    with pytest.raises(UserError, match="would be written there"):
        infer.main([*common, str(tmp_path / "in"), str(tmp_path / "more"), "--output", str(tmp_path / "out")])


def test_enlarging_with_a_super_resolution_network_gives_scaled_sizes() -> None:
    image = imresize(RANDOM.integers(0, 256, (20, 14, 3), np.uint8), 0.5)
    assert restore_image(EDSR(features=4, blocks=1, scale=3).eval(), image).shape == (30, 21, 3)
