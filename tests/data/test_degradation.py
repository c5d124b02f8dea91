"""Degradations against their definitions and against libjpeg."""

import json
from functools import partial
from pathlib import Path
from typing import Any, Literal

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
    RealNoise,
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
    Jpeg(20, "4:4:4", cropped=True), RealNoise(sigma=(5.0, 9.0), sizes=(1.0, 0.5)),
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
@pytest.mark.parametrize(
    ("path", "subsampling"), [(GRAY, "4:2:0"), (COLOR, "4:2:0"), (COLOR, "4:4:4")], ids=["gray", "color", "4:4:4"]
)
def test_jpeg_costs_what_libjpeg_costs(path: Path, subsampling: Literal["4:2:0", "4:4:4"], quality: int) -> None:
    image = read_image(path)[:203, :301]
    ours = to_image(quantize(Jpeg(quality, subsampling)(to_tensor(image), seeded(0))))
    factor = {"4:2:0": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420, "4:4:4": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444}
    settings = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, factor[subsampling]]
    coded = cv2.imencode(".jpg", image[:, :, ::-1], settings)[1]
    libjpeg = cv2.imdecode(coded, cv2.IMREAD_UNCHANGED).reshape(image.shape)[:, :, ::-1]
    assert 10 * np.log10(mse(ours, image) / mse(libjpeg, image)) == pytest.approx(0, abs=0.1)
    assert mse(ours, libjpeg) < 0.1 * mse(libjpeg, image) + 0.2  # libjpeg computes in integers


def test_jpeg_draws_a_quality_for_each_image() -> None:
    clean = to_tensor(read_image(GRAY)[100:164, 100:164]).expand(40, -1, -1, -1)
    coded = Jpeg((5, 95))(clean, seeded(0))
    assert len({image.sum().item() for image in coded}) > 20


@pytest.mark.parametrize("channels", [1, 3])
def test_the_blocks_of_a_crop_begin_anywhere_and_those_of_a_whole_image_at_its_corner(channels: int) -> None:
    slope = torch.linspace(0, 1, 64).expand(50, channels, 64, 64)  # lowest quality: steps between blocks

    def columns_of_steps(degradation: Jpeg) -> list[set[int]]:
        steps = degradation(slope, seeded(0)).diff(dim=3).abs().mean((1, 2))
        return [{int(column) % 8 for column in (row > 0.5 * row.max()).nonzero()} for row in steps]

    assert columns_of_steps(Jpeg(1, "4:4:4")) == [{7}] * 50
    cropped = columns_of_steps(Jpeg(1, "4:4:4", cropped=True))
    assert {len(columns) for columns in cropped} == {1}
    assert set.union(*cropped) == set(range(8))


def correlation(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1])


def noise_of(degradation: RealNoise, level: float = 128.0, count: int = 8) -> torch.Tensor:
    """On the 0-255 scale, of (count, 3, 128, 128) of that level, coded at the highest quality."""
    clean = torch.full((count, 3, 128, 128), level / 255)
    return (degradation(clean, seeded(0)) - clean) * 255


ONE_SIZE: dict[str, Any] = {"quality": 100, "sizes": (1.0,)}


@pytest.mark.parametrize(("photons", "level", "expected"), [
    (0.0, 64.0, 10.0), (0.0, 192.0, 10.0), (1.0, 64.0, 10 / 2**0.5), (0.5, 192.0, 10 * 1.25**0.5),
])  # fmt: skip
def test_real_noise_has_the_asked_level_in_mid_gray_and_a_share_that_grows_with_the_light(
    photons: float, level: float, expected: float
) -> None:
    noise = noise_of(RealNoise(10.0, photons, common=1.0, blur=0.5, **ONE_SIZE), level)  # 4:2:0 keeps equal channels
    assert noise.std().item() == pytest.approx(expected, rel=0.03)
    assert noise.mean().item() == pytest.approx(0, abs=0.2)


def test_real_noise_is_as_equal_in_all_channels_and_as_smooth_as_asked() -> None:
    red, green, _ = noise_of(RealNoise(20.0, 0.5, common=1.0, blur=0.0, **ONE_SIZE)).unbind(1)
    assert correlation(red, green) > 0.99
    assert correlation(green[..., 1:], green[..., :-1]) == pytest.approx(0, abs=0.02)
    smooth = noise_of(RealNoise(20.0, 0.5, common=1.0, blur=0.8, **ONE_SIZE))[:, 1]
    offsets = np.arange(-3, 4)  # the correlation of a filter with itself, one pixel on
    kernel = np.exp(-(offsets**2) / (2 * 0.8**2))
    expected = (kernel[1:] * kernel[:-1]).sum() / (kernel**2).sum()
    assert correlation(smooth[..., 1:], smooth[..., :-1]) == pytest.approx(expected, abs=0.03)
    assert correlation(smooth[:, 1:], smooth[:, :-1]) == pytest.approx(expected, abs=0.03)
    white = RealNoise(20.0, 0.5, common=0.5, blur=0.0, **ONE_SIZE)._noisy(torch.full((8, 3, 128, 128), 0.5), seeded(0))
    assert correlation(white[:, 0], white[:, 2]) == pytest.approx(0.5, abs=0.02)


def test_real_noise_of_a_reduced_photograph_is_reduced() -> None:
    whole, half = (
        noise_of(RealNoise(20.0, 0.0, common=1.0, blur=0.0, quality=100, sizes=(size,))).std() for size in (1.0, 0.5)
    )
    assert 0.4 < (half / whole).item() < 0.7  # by averaging; 1 would be noise added after it


@pytest.mark.parametrize("factors", [(), (0,), (2, -1)])
def test_factors_of_a_blur_that_are_none_are_refused(factors: tuple[int, ...]) -> None:
    for kind in (BicubicBlur, partial(DnCNN3Mixture, 25.0)):
        with pytest.raises(UserError, match="factors must be one or more numbers of at least 1"):
            kind(factors)


def test_each_image_gets_real_noise_of_its_own_kind() -> None:
    noise = noise_of(RealNoise(), count=60)
    levels = noise.flatten(1).std(1)
    assert levels.min().item() < 6
    assert levels.max().item() > 30
    equal = [correlation(image[0], image[1]) for image in noise[levels > 5]]
    assert min(equal) < 0.3
    assert max(equal) > 0.7


def test_a_third_of_the_images_with_real_noise_is_not_coded() -> None:
    clean = to_tensor(read_image(COLOR)[:32, :32]).repeat(90, 1, 1, 1)
    degraded = RealNoise(0.0, quality=1, sizes=(1.0,))(clean, seeded(0))
    lost = (degraded - clean).square().mean((1, 2, 3)).sqrt() * 255
    assert 15 < int((lost < 1).sum()) < 45
    assert lost[lost > 1].min().item() > 10


def test_without_noise_real_noise_is_jpeg_of_high_quality() -> None:
    clean = to_tensor(read_image(COLOR)[:120, :160])
    degraded = RealNoise(0.0, quality=100, sizes=(0.5,))(clean, seeded(0))
    assert degraded.shape == clean.shape
    assert (degraded - clean).square().mean().sqrt().item() * 255 < 3


def test_the_mixture_of_dncnn3_draws_each_part_for_a_third_of_the_images() -> None:
    clean = to_tensor(read_image(GRAY)[100:132, 100:132]).expand(300, -1, -1, -1)
    degraded = DnCNN3Mixture()(clean, seeded(0))
    noisy = ((degraded * 255 - (degraded * 255).round()).abs().flatten(1).amax(1) > 1e-3).float().mean()
    assert noisy.item() == pytest.approx(1 / 3, abs=0.08)


@pytest.mark.parametrize(
    "degradation", [GaussianNoise((0, 55)), PoissonGaussian(), BicubicBlur(), Jpeg(), DnCNN3Mixture(), RealNoise()]
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
    (lambda: Jpeg(10, "4:2:2"), "subsampling"),  # type: ignore[arg-type]
    (lambda: RealNoise(photons=1.5), "photons must lie in 0 to 1"),
    (lambda: RealNoise(sizes=(1.0, 2.0)), "sizes must lie in 0.25 to 1"),
    (lambda: RealNoise(quality=(90, 60)), "quality"),
])  # fmt: skip
def test_impossible_degradations_are_refused(make: type, complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        make()
