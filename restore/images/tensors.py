"""Arrays (H, W, C) <-> tensors (N, C, H, W) in [0, 1]."""

import numpy as np
import torch
from torch import Tensor

from restore.images.pixels import Image, Pixels

ROWS = 256  # of an image that are converted at once


def as_tensor(image: Image) -> Tensor:
    """(H, W, C) uint8 -> (1, C, H, W) uint8."""
    return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None]


def to_tensor(image: Pixels) -> Tensor:
    """(H, W, C) uint8 or uint16 -> (1, C, H, W) float32 in [0, 1]."""
    full = np.iinfo(image.dtype).max
    return torch.from_numpy(np.divide(image, full, dtype=np.float32)).permute(2, 0, 1)[None]


def quantize(images: Tensor) -> Tensor:
    """Float images in [0, 1], unclamped -> uint8, clipped and rounded half up, as saving a file would."""
    return (images.float() * 255 + 0.5).floor().clamp(0, 255).to(torch.uint8)


def to_image(images: Tensor) -> Image:
    """(1, C, H, W), 0 to 255 -> (H, W, C) uint8; floats are clipped and rounded."""
    image: Image = images[0].clamp(0, 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().cpu().numpy()
    return image


def to_pixels(images: Tensor, dtype: np.dtype[np.uint8 | np.uint16]) -> Pixels:
    """(1, C, H, W) float in [0, 1], unclamped -> (H, W, C) of `dtype`, clipped and rounded half up."""
    full = np.iinfo(dtype).max
    _, channels, height, width = images.shape
    pixels: Pixels = np.empty((height, width, channels), dtype)
    for top in range(0, height, ROWS):  # so that large images are never held in double precision
        levels = (images[0, :, top : top + ROWS].double() * full + 0.5).floor().clamp(0, full)
        pixels[top : top + ROWS] = levels.permute(1, 2, 0).cpu().numpy()
    return pixels
