"""What is in an image: gray, noise in the luma, noise in the colors."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

from restore.data.catalog import find_images
from restore.images.color import with_channels
from restore.images.content import content
from restore.images.io import read_image
from restore.images.pixels import Image

PHOTO = read_image(find_images("photos", "test", Path()).clean[2])[:300, :400]
GRAY = with_channels(PHOTO, 1).repeat(3, axis=2)


def noisy(image: Image, sigma: float, channels: int = 3) -> Image:
    noise = np.random.default_rng(0).normal(0, sigma, (*image.shape[:2], channels))
    return (image + noise).clip(0, 255).round().astype(np.uint8)


def coded(image: Image, quality: int, **settings: Any) -> Image:
    file = io.BytesIO()
    Pillow.fromarray(image).save(file, "JPEG", quality=quality, **settings)
    return np.asarray(Pillow.open(file))


@pytest.mark.parametrize("sigma", [0, 10, 25, 50])
def test_a_gray_scan_in_rgb_is_gray_also_as_jpeg_with_a_tint_or_slight_noise_in_its_chroma(sigma: float) -> None:
    scan = noisy(GRAY, sigma, 1)
    assert content(scan[..., :1]) == "gray"
    assert content(scan) == "gray"
    assert content(scan.astype(np.uint16) * 257) == "gray"
    assert content(noisy(scan, 3)) == "gray"
    assert content((scan * [1.0, 0.97, 0.94]).round().astype(np.uint8)) == "gray"
    for quality in (98, 75):
        for subsampling in (0, 2):
            assert content(coded(noisy(scan, 3), quality, subsampling=subsampling)) == "gray"


@pytest.mark.parametrize("sigma", [10, 25, 50])
def test_noise_in_all_channels_of_a_photograph_is_in_color(sigma: float) -> None:
    assert content(noisy(PHOTO, sigma)) == "color"
    assert content(noisy(PHOTO, sigma).astype(np.uint16) * 257) == "color"
    assert content(coded(noisy(PHOTO, sigma), 95, subsampling=0)) == "color"


@pytest.mark.parametrize("sigma", [0, 10, 25, 50])
def test_noise_that_jpeg_left_in_the_luma_only_is_there(sigma: float) -> None:
    for quality in (98, 90, 75):
        assert content(coded(noisy(PHOTO, sigma), quality, subsampling=2)) == "luma"


def test_a_large_image_is_judged_by_a_part_of_it_and_small_ones_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("restore.images.content.SAMPLED", 20_000)
    assert content(noisy(PHOTO, 25)) == "color"
    monkeypatch.setattr("restore.images.content.SAMPLED", 1)
    assert content(noisy(PHOTO, 25)) == "color"
    assert content(np.zeros((1, 1, 3), np.uint8)) == "gray"
    assert content(np.array([[[200, 10, 30]]], np.uint8)) == "gray"  # of one color, with nothing to restore in it
