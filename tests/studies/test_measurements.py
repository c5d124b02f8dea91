"""What is measured of trained networks, where the answer is known beforehand."""

import base64
import io
from pathlib import Path

import numpy as np
import pytest
import skimage.metrics
from PIL import Image as Pillow
from torch import Tensor

from restore.models import RestorationNetwork
from restore.studies.budget import BUDGETS
from restore.studies.data import StudyData
from restore.studies.measurements import before_and_after, sample


class Copy(RestorationNetwork):
    """Restores nothing."""

    channels = 1
    scale = 1

    def forward(self, images: Tensor) -> Tensor:
        return images


def pixels(png: str) -> np.ndarray:
    return np.asarray(Pillow.open(io.BytesIO(base64.b64decode(png))))


@pytest.fixture(scope="module")
def copied() -> dict[str, str]:
    data = StudyData("photos", Path(), images=2, crop=96)
    return sample(Copy(), BUDGETS["smoke"].denoising(), data, 0)


def test_a_network_that_copies_leaves_the_noise_in_the_sample(copied: dict[str, str]) -> None:
    assert np.array_equal(pixels(copied["before"]), pixels(copied["after"]))
    noise = pixels(copied["before"]).astype(float) - pixels(copied["clean"])
    assert 15 < noise.std() < 27  # sigma 25, clipped in places


def test_psnr_of_the_sample_is_scikit_images(copied: dict[str, str]) -> None:
    expected = skimage.metrics.peak_signal_noise_ratio(pixels(copied["clean"]), pixels(copied["after"]))
    assert copied["psnr"] == pytest.approx(expected, abs=1e-4)


def test_before_and_after_leave_out_networks_that_diverged(copied: dict[str, str]) -> None:
    (crops,) = before_and_after("t", "noisy", {"good": [copied], "bad": [None]})
    assert list(crops.pictures) == ["noisy", f"good\n{copied['psnr']:.2f} dB", "clean"]
    assert before_and_after("t", "noisy", {"bad": [None]}) == []
