"""What an image is in memory: (H, W, C) arrays, C = 1 (gray) or 3 (RGB), of 8 or 16 bits."""

from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Pixels = NDArray[np.uint8 | np.uint16]
AnyPixels = TypeVar("AnyPixels", bound=Pixels)


def to_uint8(pixels: Pixels) -> Image:
    """8 bits from 8 or 16, rounded: 65535 becomes 255."""
    if pixels.dtype == np.uint8:
        return pixels.astype(np.uint8, copy=False)
    return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)


def fill_transparent(pixels: Pixels, alpha: Pixels | None) -> Pixels:
    """`pixels` (H, W, C) with the nearest visible pixel's values where `alpha` (H, W, 1) is 0.

    What a file holds under an alpha of 0 means nothing, but a network would draw it into what is visible.
    """
    if alpha is None or alpha.all() or not alpha.any():
        return pixels
    hidden = (alpha[:, :, 0] == 0).astype(np.uint8)
    _, nearest = cv2.distanceTransformWithLabels(hidden, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    visible = np.flatnonzero(hidden == 0)
    place = np.zeros(int(nearest.max()) + 1, np.int64)  # of each label, which is a visible pixel's
    place[nearest.ravel()[visible]] = visible
    filled: Pixels = pixels.reshape(-1, pixels.shape[2])[place[nearest]]
    return filled
