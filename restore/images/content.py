"""What is in an image, by its pixels: whether it is gray, and whether its noise is in its colors."""

from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from restore.images.pixels import Pixels

Content = Literal["gray", "luma", "color"]
CONTENTS: tuple[Content, ...] = ("gray", "luma", "color")

SAMPLED = 1_000_000  # pixels that are looked at, in bands of whole rows
BAND = 64  # rows
GRAY = 0.08  # of luma's deviation, up to which chroma's deviation is that of an image without color
QUIET = 0.5  # of luma's noise, up to which chroma's is left to itself
MEDIAN = 0.6745  # of the absolute value of a normal variable of deviation 1
# The Laplacian of Immerkaer (1996), to which smooth parts and edges are nothing, for noise of deviation 1.
LAPLACIAN = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32) / 6


def content(pixels: Pixels) -> Content:
    """What a denoiser finds in an image (H, W, 1 or 3), uint8 or uint16.

    Returns:
        `gray` if its channels are equal or its chroma is far below its luma, as in a gray scan that was saved in RGB;
        `luma` if it is in color but what noise there is is in its luma, as where JPEG has smoothed the chroma; else
        `color`.
    """
    if pixels.shape[2] == 1 or np.array_equal(pixels, np.broadcast_to(pixels[..., :1], pixels.shape)):
        return "gray"
    step = max(1, pixels[..., 0].size // SAMPLED)
    bands = [pixels[top : top + BAND] for top in range(0, len(pixels), BAND * step)]
    sample = np.concatenate(bands).astype(np.float32) / np.iinfo(pixels.dtype).max
    planes: NDArray[np.float32] = np.asarray(cv2.cvtColor(sample, cv2.COLOR_RGB2YCrCb), np.float32)
    luma, *chroma = np.moveaxis(planes, 2, 0)
    if max(part.std() for part in chroma) <= GRAY * luma.std():
        return "gray"
    return "luma" if max(map(_noise, chroma)) <= QUIET * _noise(luma) else "color"


def _noise(plane: NDArray[np.float32]) -> float:
    """The standard deviation of white noise in (H, W)."""
    return float(np.median(np.abs(cv2.filter2D(plane, -1, LAPLACIAN)))) / MEDIAN
