"""What a program calls: arrays in, arrays out."""

import copy
import doctest
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import restore
from restore import api, bundled
from restore.checkpoint import Weights, save_weights
from restore.data.degradation import Jpeg
from restore.errors import UserError
from restore.images.io import write_image
from restore.inference import Ensemble, restore_image, tiled
from restore.models import EDSR, MDSR, DnCNN, FDnCNN


def test_the_examples_of_the_documentation_are_true() -> None:
    found = doctest.testmod(api)
    assert (found.failed, found.attempted > 5) == (0, True)


@pytest.fixture
def network() -> DnCNN:
    return DnCNN(depth=3, features=4).eval()


def image(dtype: Any, *shape: int) -> np.ndarray:
    levels = np.random.default_rng(0).uniform(0.2, 0.8, shape)
    return (levels * (np.iinfo(dtype).max if np.issubdtype(dtype, np.integer) else 1)).astype(dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float16, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(9, 11), (9, 11, 1), (9, 11, 3)])
def test_arrays_come_back_as_they_came(network: DnCNN, dtype: Any, shape: tuple[int, ...]) -> None:
    given = image(dtype, *shape)
    before = given.copy()
    made = restore.denoise(given, model=network, precision="fp32")
    assert (made.shape, made.dtype) == (given.shape, given.dtype)
    np.testing.assert_array_equal(given, before)
    eight_bits = image(np.uint8, *shape).reshape(9, 11, -1)
    if dtype == np.uint8:
        expected = restore_image(tiled(network), eight_bits).reshape(shape)
        assert np.abs(made.astype(int) - expected.astype(int)).max() <= 1


@pytest.mark.parametrize("shape", [(9, 11), (1, 9, 11), (3, 9, 11), (2, 1, 9, 11)])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64, torch.bfloat16])
def test_tensors_come_back_as_they_came(network: DnCNN, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    levels = torch.rand(shape) * (255 if dtype == torch.uint8 else 1)
    made = restore.denoise(levels.to(dtype), model=network)
    assert (made.shape, made.dtype) == (torch.Size(shape), dtype)
    assert made.float().std() > 0


def test_pillow_images_tensors_and_arrays_of_one_picture_give_one_result() -> None:
    network = EDSR(features=4, blocks=1, scale=3).eval()
    array = image(np.uint8, 8, 10, 3)
    picture = restore.upscale(Image.fromarray(array), 3, model=network)
    assert (picture.mode, picture.size) == ("RGB", (30, 24))
    np.testing.assert_array_equal(np.asarray(picture), restore.upscale(array, 3, model=network))
    tensor = restore.upscale(torch.from_numpy(array).permute(2, 0, 1), 3, model=network)
    np.testing.assert_array_equal(tensor.permute(1, 2, 0), np.asarray(picture))


@pytest.mark.skipif(not bundled.available(), reason="no model is bundled")
def test_gray_that_is_saved_in_rgb_is_restored_as_gray() -> None:
    gray = np.random.default_rng(0).normal(128, 25, (32, 40, 1)).clip(0, 255).astype(np.uint8)
    expected = restore.denoise(gray, 25, precision="fp32")
    np.testing.assert_array_equal(restore.denoise(gray.repeat(3, 2), 25, precision="fp32"), expected.repeat(3, 2))


def test_a_network_that_is_told_the_level_takes_it_from_the_call(tmp_path: Path) -> None:
    save_weights(tmp_path / "w.safetensors", Weights(FDnCNN(depth=3, features=4)))
    given = image(np.float32, 8, 8)
    one, other = (restore.denoise(given, sigma, model=tmp_path / "w.safetensors") for sigma in (10, 60))
    assert not np.array_equal(one, other)
    with pytest.raises(UserError, match="takes the noise level"):
        restore.denoise(given, model=tmp_path / "w.safetensors")


def test_networks_are_loaded_by_name_or_path(tmp_path: Path, network: DnCNN) -> None:
    assert restore.load("dncnn-gray-25").spec.arguments["depth"] == 17
    save_weights(tmp_path / "mine.safetensors", Weights(network))
    assert restore.load(tmp_path / "mine.safetensors").spec == network.spec
    with pytest.raises(UserError, match="no such weights file"):
        restore.load(tmp_path / "gone.safetensors")
    with pytest.raises(UserError, match="unet: unknown model; bundled: "):
        restore.load("unet")


def test_scores_are_those_of_the_degradation_that_weights_state(tmp_path: Path, image_folder: Path) -> None:
    stated = {"class_path": "Jpeg", "init_args": {"quality": 20}}
    save_weights(tmp_path / "w.safetensors", Weights(DnCNN(channels=3, depth=3, features=4), stated))
    row = restore.measure(tmp_path / "w.safetensors", image_folder)
    assert (row.degradation, row.images, row.protocol) == ("JPEG quality 20", 3, "jpeg-y")
    assert restore.measure(tmp_path / "w.safetensors", image_folder, Jpeg(80)).psnr > row.psnr
    write_image(tmp_path / "half/x.png", np.zeros((12, 12, 3), np.uint8))
    with pytest.raises(UserError, match=r"no counterpart for a\.png"):
        restore.measure(tmp_path / "w.safetensors", image_folder, degraded=tmp_path / "half")
    with pytest.raises(UserError, match=r"the degraded images \(.*half\) or a degradation \(JPEG quality 80\), not"):
        restore.measure(tmp_path / "w.safetensors", image_folder, Jpeg(80), degraded=tmp_path / "half")


@pytest.mark.parametrize(("given", "complaint"), [
    (np.zeros((4, 4, 2)), r"expected an array \(H, W\) or \(H, W, 1 or 3\), not \(4, 4, 2\)"),
    (np.zeros((4, 4), np.int32), "expected uint8, uint16 or floats, not int32"),
    (torch.zeros(2, 4, 4), "expected a tensor"),
    (np.full((4, 4), 255, np.float32), "from 0 to 1, found up to 255: divide by .* probably 255"),
    (torch.full((4, 4), 60000.0), "found up to 60000: divide by .* probably 65535"),
    (Image.new("RGBA", (4, 4)), r"not RGBA; use image\.convert"),
    ("photo.png", "expected a NumPy array, a Pillow image or a tensor, not str"),
])  # fmt: skip
def test_what_is_no_image_is_refused(network: DnCNN, given: Any, complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        restore.denoise(given, model=network)


def test_scales_without_a_bundled_network_are_refused_by_what_there_is() -> None:
    with pytest.raises(UserError, match="scale must be 2, 3 or 4, not 5"):
        restore.upscale(np.zeros((4, 4)), 5)


@pytest.mark.parametrize("training", [True, False])
def test_a_network_that_is_given_stays_as_it_is(image_folder: Path, training: bool) -> None:
    network = DnCNN(depth=3, features=4).train(training)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    restored = restore.denoise(image(np.uint8, 20, 24), model=network, precision="fp32")
    restore.measure(network, image_folder)
    assert all(module.training == training for module in network.modules())
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    np.testing.assert_array_equal(restored, restore.denoise(image(np.uint8, 20, 24), model=network, precision="fp32"))


def test_a_network_that_takes_multiples_only_restores_an_image_of_any_size() -> None:
    network = DnCNN(depth=3, features=4, downscale=3).eval()
    given = image(np.uint8, 20, 25, 1)
    expected = restore_image(tiled(network), given)
    assert np.abs(restore.denoise(given, model=network, precision="fp32").astype(int) - expected.astype(int)).max() <= 1


def test_threads_get_the_results_of_their_own_images(tmp_path: Path) -> None:
    save_weights(tmp_path / "w.safetensors", Weights(network := DnCNN(depth=3, features=4).eval()))
    images = [image(np.uint8, 24 + number, 32, 1) for number in range(24)]
    denoise = partial(restore.denoise, model=tmp_path / "w.safetensors", precision="fp32")
    with ThreadPoolExecutor(4) as threads:
        restored = list(threads.map(denoise, images))
    for given, found in zip(images, restored, strict=True):
        expected = restore_image(tiled(network), given)
        assert np.abs(found.astype(int) - expected.astype(int)).max() <= 1


def test_options_of_the_call_reach_the_network(network: DnCNN) -> None:
    noisy = np.random.default_rng(0).random((20, 24))
    plain, ensemble = (api.denoise(noisy, model=network, precision="fp32", ensemble=it) for it in (False, True))
    batch = torch.from_numpy(noisy).float()[None, None]
    with torch.inference_mode():
        expected = Ensemble(network.eval())(batch).clamp(0, 1)[0, 0].numpy()
    np.testing.assert_allclose(ensemble, expected, atol=1e-5)
    assert np.abs(plain - ensemble).max() > 1e-4


def test_images_are_upscaled_inside_inference_mode_as_outside() -> None:
    small = np.random.default_rng(0).integers(0, 256, (6, 7, 3), np.uint8)
    network = EDSR(features=4, blocks=1).eval()
    with torch.inference_mode():
        inside = api.upscale(small, 2, model=copy.deepcopy(network), precision="fp32")
    outside = api.upscale(small, 2, model=network, precision="fp32")
    np.testing.assert_array_equal(inside, outside)


def test_a_tile_of_the_call_is_used(network: DnCNN, monkeypatch: pytest.MonkeyPatch) -> None:
    tiles: list[object] = []

    def recorded(network: object, tile: object, **more: object) -> object:
        tiles.append(tile)
        return tiled(network, tile, **more)

    monkeypatch.setattr("restore.inference.tiled", recorded)
    api.denoise(np.zeros((20, 24)), model=network, precision="fp32", tile=8)
    assert tiles == [8]


def test_a_network_of_several_scales_enlarges_by_the_one_that_is_asked_for() -> None:
    network = MDSR(features=4, blocks=1)
    assert restore.upscale(image(np.uint8, 5, 6, 3), 3, model=network).shape == (15, 18, 3)
    with pytest.raises(UserError, match=r"^MDSR: upscales by 4, not by 8"):
        restore.upscale(image(np.uint8, 5, 6, 3), 8, model=network)


@pytest.mark.parametrize(
    ("image", "complaint"),
    [
        (np.zeros((5, 0, 3), np.uint8), r"image: is empty, \(5, 0, 3\)"),
        (torch.zeros(0, 3, 8, 8), "image: is empty"),
        (np.full((8, 8), np.nan), "image: holds values that are not finite"),
    ],
)
def test_an_image_without_pixels_or_with_values_that_are_not_finite_is_refused(image: object, complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        restore.denoise(image)


@pytest.mark.parametrize("sigma", [-15, float("nan")])
def test_a_noise_level_is_at_least_0(sigma: float) -> None:
    with pytest.raises(UserError, match="sigma must be at least 0"):
        restore.denoise(np.zeros((8, 8), np.uint8), sigma)


def test_a_noise_level_for_a_network_that_takes_none_is_refused() -> None:
    with pytest.raises(UserError, match="sigma: dncnn-gray-blind takes no noise level"):
        restore.denoise(np.zeros((8, 8), np.uint8), 25, model="dncnn-gray-blind")


@pytest.mark.parametrize("tile", [-1, -50, None, "big"])
def test_a_tile_that_is_no_size_is_refused(tile: Any) -> None:
    with pytest.raises(UserError, match="tile must be auto or a number of pixels of at least 0"):
        restore.denoise(np.zeros((8, 8), np.uint8), tile=tile)


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(UserError, match=r"precision must be one of .*, not 'fp16'"):
        restore.denoise(np.zeros((8, 8), np.uint8), precision="fp16")  # type: ignore[arg-type]


def test_an_array_comes_back_contiguous_and_a_pillow_image_with_its_profile() -> None:
    assert restore.denoise(np.zeros((8, 9, 3), np.uint8)).flags.c_contiguous
    image = Image.fromarray(np.zeros((8, 9), np.uint8))
    image.info = {"icc_profile": b"profile", "dpi": (300, 300), "gamma": 0.5}
    assert restore.denoise(image).info == {"icc_profile": b"profile", "dpi": (300, 300)}
