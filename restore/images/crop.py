"""Cropping, as the super-resolution protocols need it."""

from torch import Tensor

from restore.errors import UserError
from restore.images.pixels import AnyPixels


def crop_to_multiple(image: AnyPixels, scale: int) -> AnyPixels:
    """(H, W, C) cut at the bottom and right until H and W are multiples of `scale` ("modcrop").

    Raises:
        UserError: the image is smaller than `scale`.
    """
    height, width = image.shape[:2]
    if min(height, width) < scale:
        raise UserError(f"an image of {width}x{height} is too small for scale {scale}")
    cropped: AnyPixels = image[: height - height % scale, : width - width % scale]  # type: ignore[assignment]
    return cropped


def shave(images: Tensor, border: int) -> Tensor:
    """(N, C, H, W) without `border` pixels on every side."""
    return images[..., border : images.shape[-2] - border, border : images.shape[-1] - border]
