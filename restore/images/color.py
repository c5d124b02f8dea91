"""Color conversions, on arrays and tensors alike."""

from typing import Any

import cv2
from torch import Tensor

from restore.images.pixels import AnyPixels


def luma(rgb: Tensor) -> Tensor:
    """Studio-range luma of BT.601, as MATLAB's rgb2ycbcr defines it, not rounded.

    Args:
        rgb: (N, 3, H, W), 0 to 255.

    Returns:
        (N, 1, H, W), 16 to 235.
    """
    red, green, blue = rgb.chunk(3, dim=1)
    return 16 + (65.481 * red + 128.553 * green + 24.966 * blue) / 255


def rgb_to_gray(rgb: Tensor) -> Tensor:
    """(N, 3, H, W) -> (N, 1, H, W) on the same scale: 0.299 R + 0.587 G + 0.114 B."""
    red, green, blue = rgb.chunk(3, dim=1)
    return 0.299 * red + 0.587 * green + 0.114 * blue


def with_channels(image: AnyPixels, channels: int) -> AnyPixels:
    """`image` (H, W, 1 or 3) in gray (`channels` 1: luma 0.299 R + 0.587 G + 0.114 B) or RGB (3)."""
    if image.shape[2] == channels:
        return image
    converted: Any = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY if channels == 1 else cv2.COLOR_GRAY2RGB)
    gray_or_rgb: AnyPixels = converted.reshape(*image.shape[:2], channels)
    return gray_or_rgb
