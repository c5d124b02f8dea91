"""Arrays (H, W, C) <-> tensors (N, C, H, W) in [0, 1]."""

import numpy as np
import torch
from torch import Tensor

from restore.images.io import Image, Pixels


def as_tensor(image: Image) -> Tensor:
    """(H, W, C) uint8 -> (1, C, H, W) uint8."""
    return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None]


def to_tensor(image: Pixels) -> Tensor:
    """(H, W, C) uint8 or uint16 -> (1, C, H, W) float32 in [0, 1]."""
    full = np.iinfo(image.dtype).max
    return torch.from_numpy(image.astype(np.float32) / full).permute(2, 0, 1)[None]


def quantise(images: Tensor) -> Tensor:
    """Float images in [0, 1], unclamped -> uint8, clipped and rounded half up, as saving a file would."""
    return (images.float() * 255 + 0.5).floor().clamp(0, 255).to(torch.uint8)


def to_image(images: Tensor) -> Image:
    """(1, C, H, W), 0 to 255 -> (H, W, C) uint8; floats are clipped and rounded."""
    image: Image = images[0].clamp(0, 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().cpu().numpy()
    return image


def to_pixels(images: Tensor, dtype: np.dtype[np.uint8 | np.uint16]) -> Pixels:
    """(1, C, H, W) float in [0, 1], unclamped -> (H, W, C) of `dtype`, clipped and rounded half up."""
    full = np.iinfo(dtype).max
    levels = (images[0].double() * full + 0.5).floor().clamp(0, full)
    pixels: Pixels = levels.permute(1, 2, 0).cpu().numpy().astype(dtype)
    return pixels
