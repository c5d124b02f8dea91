"""Degradations against their definitions and against libjpeg."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from restore.data.catalog import find_images
from restore.data.degradation import (
    Bicubic,
    BicubicBlur,
    Degradation,
    DnCNN3Mixture,
    GaussianNoise,
    Jpeg,
    PoissonGaussian,
    from_description,
)
from restore.data.random import seeded
from restore.errors import UserError
from restore.images.io import read_image
from restore.images.resize import imresize
from restore.images.tensors import quantize, to_image, to_tensor

PHOTOS = find_images("photos", "test", Path()).clean
GRAY, COLOR = PHOTOS[0], PHOTOS[2]


def mse(a: np.ndarray, b: np.ndarray) -> float:
    return float(((a.astype(float) - b.astype(float)) ** 2).mean())


def test_noise_has_the_asked_level_and_is_not_clipped() -> None:
    clean = torch.ones(4, 1, 100, 100)
    noise = (GaussianNoise(25)(clean, seeded(0)) - clean) * 255
    assert noise.std().item() == pytest.approx(25, rel=0.01)
    assert noise.mean().item() == pytest.approx(0, abs=0.5)
    assert (noise > 0).float().mean().item() == pytest.approx(0.5, abs=0.01)


def test_blind_noise_draws_a_level_for_each_image_evenly_over_the_range() -> None:
    noise = GaussianNoise((10, 50))(torch.zeros(1000, 1, 40, 40), seeded(0))
    levels = noise.flatten(1).std(1) * 255
    assert levels.min().item() > 9
    assert levels.max().item() < 52
    assert levels.mean().item() == pytest.approx(30, abs=1)
    assert levels.std().item() == pytest.approx(40 / 12**0.5, rel=0.05)


@pytest.mark.parametrize(("gain", "sigma"), [(1.0, 0.0), (8.0, 5.0), (0.25, 2.0)])
def test_a_cameras_noise_is_unbiased_and_its_variance_grows_with_the_light(gain: float, sigma: float) -> None:
    levels = torch.tensor([0.0, 10.0, 100.0, 250.0])
    clean = (levels / 255).view(4, 1, 1, 1).expand(4, 1, 200, 200)
    noise = (PoissonGaussian(gain, sigma)(clean, seeded(0)) - clean).flatten(1) * 255
    expected = gain * levels + sigma**2
    torch.testing.assert_close(noise.var(1), expected, rtol=0.03, atol=1e-9)
    assert (noise.mean(1).abs() <= 4 * (expected / noise.shape[1]).sqrt() + 1e-9).all()
    if sigma == 0:
        photons = ((noise[1] + levels[1]) / gain).round()
        share = (photons == levels[1] / gain).float().mean().item()
        assert share == pytest.approx(0.1251, abs=0.01)  # of a Poisson variable of mean 10


@pytest.mark.parametrize("degradation", [
    GaussianNoise((0.0, 55.0)), PoissonGaussian(2.0, (0.0, 3.0)), Bicubic(3), BicubicBlur((2, 4)), Jpeg((5, 99)),
])  # fmt: skip
def test_a_description_that_went_through_json_gives_the_degradation_back(degradation: Degradation) -> None:
    assert from_description(json.loads(json.dumps(degradation.description))) == degradation


def test_bicubic_is_imresize_of_eight_bit_images() -> None:
    image = read_image(COLOR)[:50, :41]
    low = Bicubic(2)(to_tensor(image), seeded(0))
    np.testing.assert_array_equal(to_image(quantize(low)), imresize(image[:50, :40], 0.5))


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_bicubic_blur_is_imresize_down_and_up(factor: int) -> None:
    image = read_image(GRAY)[:101, :77]
    expected = imresize(imresize(image, 1 / factor), factor)[:101, :77]
    blurred = BicubicBlur((factor,))(to_tensor(image), seeded(0))
    np.testing.assert_array_equal(to_image(quantize(blurred)), expected)


@pytest.mark.parametrize("quality", [1, 5, 10, 30, 49, 50, 75, 95])
@pytest.mark.parametrize("path", [GRAY, COLOR], ids=["gray", "color"])
def test_jpeg_costs_what_libjpeg_costs(path: Path, quality: int) -> None:
    image = read_image(path)[:203, :301]
    ours = to_image(quantize(Jpeg(quality)(to_tensor(image), seeded(0))))
    coded = cv2.imencode(".jpg", image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    libjpeg = cv2.imdecode(coded, cv2.IMREAD_UNCHANGED).reshape(image.shape)[:, :, ::-1]
    assert 10 * np.log10(mse(ours, image) / mse(libjpeg, image)) == pytest.approx(0, abs=0.1)
    assert mse(ours, libjpeg) < 0.1 * mse(libjpeg, image) + 0.2  # libjpeg computes in integers


def test_jpeg_draws_a_quality_for_each_image() -> None:
    clean = to_tensor(read_image(GRAY)[100:164, 100:164]).expand(40, -1, -1, -1)
    coded = Jpeg((5, 95))(clean, seeded(0))
    assert len({image.sum().item() for image in coded}) > 20


def test_the_mixture_of_dncnn3_draws_each_part_for_a_third_of_the_images() -> None:
    clean = to_tensor(read_image(GRAY)[100:132, 100:132]).expand(300, -1, -1, -1)
    degraded = DnCNN3Mixture()(clean, seeded(0))
    noisy = ((degraded * 255 - (degraded * 255).round()).abs().flatten(1).amax(1) > 1e-3).float().mean()
    assert noisy.item() == pytest.approx(1 / 3, abs=0.08)


@pytest.mark.parametrize(
    "degradation", [GaussianNoise((0, 55)), PoissonGaussian(), BicubicBlur(), Jpeg(), DnCNN3Mixture()]
)
def test_equal_generators_degrade_equally_and_others_differently(degradation: Degradation) -> None:
    clean = to_tensor(read_image(COLOR)[:48, :48]).expand(6, -1, -1, -1)
    first, again, other = (degradation(clean, seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize(("make", "complaint"), [
    (lambda: GaussianNoise(-1), "sigma"),
    (lambda: GaussianNoise((50, 10)), "sigma"),
    (lambda: Jpeg(0), "quality"),
    (lambda: PoissonGaussian(0.0), "gain"),
    (lambda: Bicubic(5), "scale"),
])  # fmt: skip
def test_impossible_degradations_are_refused(make: type, complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        make()
