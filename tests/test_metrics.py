"""PSNR, SSIM and protocols against scikit-image and hand-made arithmetic."""

from pathlib import Path

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

import restore
from restore.choices import PROTOCOL_NAMES
from restore.data.catalog import find_images
from restore.data.degradation import Jpeg
from restore.data.random import seeded
from restore.errors import UserError
from restore.images.io import read_image
from restore.images.pixels import Image
from restore.images.tensors import as_tensor, to_tensor
from restore.metrics import PROTOCOLS


def photo_and_noisy() -> tuple[Image, Image]:
    image = read_image(find_images("photos", "test", Path()).clean[1])
    noise = np.random.default_rng(0).normal(0, 20, image.shape)
    return image, (image + noise).clip(0, 255).round().astype(np.uint8)


def skimage_ssim(a: np.ndarray, b: np.ndarray) -> float:
    return float(structural_similarity(
        a, b, data_range=255, channel_axis=2, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    ))  # fmt: skip


def test_psnr_and_ssim_agree_with_scikit_image() -> None:
    image, noisy = photo_and_noisy()
    a, b = as_tensor(image), as_tensor(noisy)
    assert restore.psnr(a, b).item() == pytest.approx(peak_signal_noise_ratio(image, noisy), abs=1e-9)
    assert restore.ssim(a, b).item() == pytest.approx(skimage_ssim(image, noisy), abs=1e-9)


def test_each_image_of_a_batch_is_scored_by_itself() -> None:
    a, b = torch.rand(2, 1, 3, 16, 16) * 255
    batch_a, batch_b = torch.cat([a, a, b]), torch.cat([b, a + 1, b + 2])
    expected = [restore.psnr(x[None], y[None]).item() for x, y in zip(batch_a, batch_b, strict=True)]
    torch.testing.assert_close(restore.psnr(batch_a, batch_b).tolist(), expected)
    assert restore.psnr(a, a + 1).item() == pytest.approx(20 * np.log10(255))
    assert restore.psnr(a, a).item() == float("inf")


def test_sr_y_scores_unrounded_luma_inside_the_border() -> None:
    image, noisy = photo_and_noisy()

    def luma(rgb: Image) -> np.ndarray:
        return 16 + rgb.astype(float) @ [65.481, 128.553, 24.966] / 255

    y, noisy_y = (luma(x)[3:-3, 3:-3] for x in (image, noisy))
    score = PROTOCOLS["sr-y"].score(as_tensor(noisy), as_tensor(image), scale=3)
    assert score.psnr == pytest.approx(10 * np.log10(255**2 / ((y - noisy_y) ** 2).mean()), abs=1e-9)
    assert score.ssim == pytest.approx(skimage_ssim(y[:, :, None], noisy_y[:, :, None]), abs=1e-9)


@pytest.mark.parametrize(("protocol", "border"), [("sr-rgb", 8), ("sr-rgb-shave2", 4), ("denoise-rgb", 0)])
def test_rgb_protocols_score_all_channels_inside_their_border(protocol: str, border: int) -> None:
    image, noisy = photo_and_noisy()
    inner, noisy_inner = (x[border : x.shape[0] - border, border : x.shape[1] - border] for x in (image, noisy))
    score = PROTOCOLS[protocol].score(as_tensor(noisy), as_tensor(image), scale=2)
    assert score.psnr == pytest.approx(peak_signal_noise_ratio(inner, noisy_inner), abs=1e-9)


def psnr_b_by_the_paper(y: np.ndarray, x: np.ndarray) -> float:
    """Yim & Bovik 2011, equations 6 to 15 for gray images, step by step."""
    height, width = y.shape
    borders, others = [], []
    for row in range(height):
        for column in range(width):
            if column + 1 < width:
                (borders if column % 8 == 7 else others).append((y[row, column] - y[row, column + 1]) ** 2)
            if row + 1 < height:
                (borders if row % 8 == 7 else others).append((y[row, column] - y[row + 1, column]) ** 2)
    at_borders, elsewhere = np.mean(borders), np.mean(others)
    weight = np.log2(8) / np.log2(min(height, width)) if at_borders > elsewhere else 0
    return float(10 * np.log10(255**2 / (((x - y) ** 2).mean() + weight * (at_borders - elsewhere))))


@pytest.mark.parametrize("size", [(64, 48), (27, 35), (16, 9)])
@pytest.mark.parametrize("quality", [5, 60])
def test_psnr_b_is_that_of_its_paper(size: tuple[int, int], quality: int) -> None:
    image = to_tensor(
        read_image(find_images("photos", "test", Path()).clean[0])[100 : 100 + size[0], 200 : 200 + size[1]]
    )
    batch = torch.cat([image, image.flip(3)])
    coded = Jpeg(quality)(batch, seeded(0)) * 255
    found = restore.psnr_b(coded, batch * 255)
    for y, x, value in zip(coded, batch * 255, found, strict=True):
        assert value.item() == pytest.approx(
            psnr_b_by_the_paper(y[0].double().numpy(), x[0].double().numpy()), abs=1e-6
        )


def test_psnr_b_counts_steps_between_blocks_and_nothing_else() -> None:
    flat = torch.full((1, 1, 64, 64), 100.0)
    blocks = flat.clone()
    blocks[..., 8:, :] += 4
    shifted = flat.clone()
    shifted[..., 9:, :] += 4
    assert restore.psnr_b(blocks, blocks + 1).item() < restore.psnr(blocks, blocks + 1).item()
    assert restore.psnr_b(shifted, shifted + 1).item() == restore.psnr(shifted, shifted + 1).item()
    # 64 of 896 steps at borders are 4^2; log2(8) / log2(64) of their mean is added to the error of 1.
    assert restore.psnr_b(blocks, blocks + 1).item() == pytest.approx(10 * np.log10(255**2 / (1 + 0.5 * 16 * 64 / 896)))


def test_jpeg_y_scores_rounded_luma_with_psnr_b_and_other_protocols_have_none() -> None:
    image, noisy = photo_and_noisy()
    y, noisy_y = ((16 + rgb.astype(float) @ [65.481, 128.553, 24.966] / 255).round() for rgb in (image, noisy))
    score = PROTOCOLS["jpeg-y"].score(as_tensor(noisy), as_tensor(image))
    assert score.psnr == pytest.approx(10 * np.log10(255**2 / ((y - noisy_y) ** 2).mean()), abs=1e-9)
    assert score.ssim == pytest.approx(skimage_ssim(y[:, :, None], noisy_y[:, :, None]), abs=1e-9)
    assert score.psnr_b is not None
    assert score.psnr_b <= score.psnr
    assert PROTOCOLS["denoise-rgb"].score(as_tensor(noisy), as_tensor(image)).psnr_b is None


def test_images_that_cannot_be_compared_are_refused() -> None:
    with pytest.raises(UserError, match="one shape"):
        restore.psnr(torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 9))
    with pytest.raises(UserError, match="at least 11x11"):
        restore.ssim(torch.zeros(1, 3, 10, 20), torch.zeros(1, 3, 10, 20))
    with pytest.raises(UserError, match="at least 9x9"):
        restore.psnr_b(torch.zeros(1, 3, 8, 20), torch.zeros(1, 3, 8, 20))
    with pytest.raises(UserError, match="shaves 10 pixels"):
        PROTOCOLS["sr-rgb"].score(torch.zeros(1, 3, 30, 30), torch.zeros(1, 3, 30, 30), scale=4)


def test_every_protocol_can_be_named_on_the_command_line() -> None:
    assert set(PROTOCOL_NAMES) == set(PROTOCOLS)
