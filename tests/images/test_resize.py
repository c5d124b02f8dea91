"""imresize against images that MATLAB made, and against the arithmetic of interpolation."""

from pathlib import Path

import numpy as np
import pytest

from restore.images.crop import crop_to_multiple
from restore.images.io import read_image
from restore.images.resize import imresize, resize_matrix


@pytest.mark.parametrize("scale", [2, 4])
def test_downsampling_is_bit_identical_to_matlab(reference_data: Path, scale: int) -> None:
    originals = sorted((reference_data / "Set5/HR").iterdir())
    assert len(originals) == 5
    for original in originals:
        published = read_image(reference_data / f"Set5/LR_bicubic/X{scale}/{original.stem}x{scale}.png")
        ours = imresize(crop_to_multiple(read_image(original), scale), 1 / scale)
        np.testing.assert_array_equal(ours, published)


@pytest.mark.parametrize("scale", [1 / 8, 1 / 4, 1 / 3, 1 / 2, 0.7, 0.9, 2, 3, 4, 8])
@pytest.mark.parametrize("size", [7, 24, 49])
def test_the_size_is_the_scaled_one_rounded_up(size: int, scale: float) -> None:
    expected = int(np.ceil(round(size * scale, 9)))
    assert imresize(np.zeros((size, size + 1, 3)), scale).shape[0] == expected


@pytest.mark.parametrize("scale", [0.5, 0.7, 3])
def test_constant_images_stay_constant(scale: float) -> None:
    assert (imresize(np.full((9, 11), 77, np.uint8), scale) == 77).all()


def test_enlarging_reproduces_quadratics_away_from_the_border() -> None:
    x = np.arange(20.0)
    enlarged = imresize(np.tile(x**2, (20, 1)), 2)
    at = (np.arange(40) + 0.5) / 2 - 0.5
    np.testing.assert_allclose(enlarged[10, 6:-6], at[6:-6] ** 2, atol=1e-10)


def test_shrinking_widens_the_kernel_against_aliasing() -> None:
    checkerboard = np.indices((32, 32)).sum(0) % 2 * 255.0
    assert np.abs(imresize(checkerboard, 0.5)[2:-2, 2:-2] - 127.5).max() < 1e-9


def test_the_matrix_is_what_is_applied_to_each_axis() -> None:
    image = np.random.default_rng(0).random((13, 10))
    expected = resize_matrix(13, 1 / 3).toarray() @ image @ resize_matrix(10, 1 / 3).toarray().T
    np.testing.assert_allclose(imresize(image, 1 / 3), expected, atol=1e-12)


def test_sixteen_bits_are_rounded_to_sixteen_bits() -> None:
    image = np.random.default_rng(0).integers(20000, 40000, (12, 12, 3), np.uint16)
    resized = imresize(image, 0.5)
    assert resized.dtype == np.uint16
    np.testing.assert_allclose(resized, imresize(image.astype(float), 0.5), atol=1.5)


def test_a_scale_must_be_positive() -> None:
    with pytest.raises(ValueError, match="must be positive"):
        imresize(np.zeros((4, 4)), 0)
