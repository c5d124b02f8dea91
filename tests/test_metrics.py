"""PSNR, SSIM and protocols against scikit-image and hand-made arithmetic."""

from pathlib import Path

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

import restore
from restore.data.catalog import find_images
from restore.errors import UserError
from restore.images.io import Image, read_image
from restore.images.tensors import as_tensor
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


def test_images_that_cannot_be_compared_are_refused() -> None:
    with pytest.raises(UserError, match="one shape"):
        restore.psnr(torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 9))
    with pytest.raises(UserError, match="at least 11x11"):
        restore.ssim(torch.zeros(1, 3, 10, 20), torch.zeros(1, 3, 10, 20))
    with pytest.raises(UserError, match="shaves 10 pixels"):
        PROTOCOLS["sr-rgb"].score(torch.zeros(1, 3, 30, 30), torch.zeros(1, 3, 30, 30), scale=4)
