"""Cropping, as the super-resolution protocols need it."""

from torch import Tensor

from restore.images.io import AnyPixels


def crop_to_multiple(image: AnyPixels, scale: int) -> AnyPixels:
    """(H, W, C) cut at the bottom and right until H and W are multiples of `scale` ("modcrop")."""
    height, width = image.shape[:2]
    cropped: AnyPixels = image[: height - height % scale, : width - width % scale]  # type: ignore[assignment]
    return cropped


def shave(images: Tensor, border: int) -> Tensor:
    """(N, C, H, W) without `border` pixels on every side."""
    return images[..., border : images.shape[-2] - border, border : images.shape[-1] - border]
