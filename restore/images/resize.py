"""MATLAB's `imresize` with the bicubic kernel: what the literature means by bicubic downsampling.

Cubic kernel a = -0.5 (Keys 1981), widened by 1/scale when shrinking (antialiasing), borders mirrored, output
size ceil(size * scale). For uint8 the rows are resized first and rounded to uint8 in between, then the columns;
only so are the published low-resolution images reproduced bit for bit.
"""

import math
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # it takes half a second
    from scipy.sparse import csr_array

Float = NDArray[np.float64]
AnyArray = TypeVar("AnyArray", bound=NDArray[np.unsignedinteger[Any] | np.floating[Any]])


def imresize(image: AnyArray, scale: float) -> AnyArray:
    """Resize an image as MATLAB's `imresize(image, scale, 'bicubic')` does.

    Args:
        image: (H, W) or (H, W, C); unsigned integers (rounded half up and clipped after each axis) or floats.
        scale: output size over input size, e.g. 1/2, 2, 0.9.

    Returns:
        (ceil(H * scale), ceil(W * scale)[, C]) of the same type.

    Raises:
        ValueError: `scale` is not positive.
    """
    if not scale > 0:
        raise ValueError(f"scale must be positive, not {scale}")
    resized = image
    for axis in (0, 1):
        resized = _round_like(_resample(resized, resize_matrix(image.shape[axis], scale), axis), image)
    return resized


def resize_matrix(size: int, scale: float) -> "csr_array":
    """The sparse (ceil(size * scale), size) matrix that `imresize` applies along one axis, before any rounding."""
    from scipy.sparse import csr_array

    stretch = min(scale, 1.0)
    width = 4 / stretch
    output = math.ceil(round(size * scale, 9))
    center = (np.arange(output) + 0.5) / scale - 0.5
    first = np.floor(center - width / 2).astype(np.int64)
    taps = first[:, None] + np.arange(math.ceil(width) + 2)
    weights = stretch * _cubic(stretch * (center[:, None] - taps))
    weights /= weights.sum(axis=1, keepdims=True)
    mirrored = np.concatenate([np.arange(size), np.arange(size)[::-1]])[taps % (2 * size)]
    rows = np.repeat(np.arange(output), taps.shape[1])
    return csr_array((weights.ravel(), (rows, mirrored.ravel())), shape=(output, size))


def _resample(image: NDArray[np.generic], matrix: "csr_array", axis: int) -> Float:
    values = np.moveaxis(np.asarray(image, dtype=np.float64), axis, 0)
    resampled: Float = (matrix @ values.reshape(len(values), -1)).reshape(-1, *values.shape[1:])
    return np.moveaxis(resampled, 0, axis)


def _round_like(values: Float, image: AnyArray) -> AnyArray:
    dtype: np.dtype[Any] = image.dtype
    if np.issubdtype(dtype, np.unsignedinteger):
        values = np.clip(np.floor(values + 0.5), 0, np.iinfo(dtype).max)
    rounded: AnyArray = values.astype(dtype)  # type: ignore[assignment]
    return rounded


def _cubic(x: Float) -> Float:
    """Keys' cubic convolution kernel with a = -0.5."""
    x = np.abs(x)
    near = 1.5 * x**3 - 2.5 * x**2 + 1
    far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.where(x <= 1, near, np.where(x <= 2, far, 0))
