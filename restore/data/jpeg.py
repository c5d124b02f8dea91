"""Baseline JPEG coding on tensors: the transform coding of libjpeg without the entropy coder, which loses nothing."""

import torch
import torch.nn.functional as F
from torch import Tensor

# Annex K of the JPEG standard (ITU-T T.81).
_LUMA = torch.tensor([
    [16, 11, 10, 16, 24, 40, 51, 61],
    [12, 12, 14, 19, 26, 58, 60, 55],
    [14, 13, 16, 24, 40, 57, 69, 56],
    [14, 17, 22, 29, 51, 87, 80, 62],
    [18, 22, 37, 56, 68, 109, 103, 77],
    [24, 35, 55, 64, 81, 104, 113, 92],
    [49, 64, 78, 87, 103, 121, 120, 101],
    [72, 92, 95, 98, 112, 100, 103, 99],
])  # fmt: skip
_CHROMA = torch.full((8, 8), 99)
_CHROMA[:4, :4] = torch.tensor([[17, 18, 24, 47], [18, 21, 26, 66], [24, 26, 56, 99], [47, 66, 99, 99]])

_YCC = torch.tensor([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])


def coded(image: Tensor, quality: Tensor, halved: bool) -> Tensor:
    """Images as they are after JPEG coding, on the device that they are on, for training in bulk.

    Args:
        image: gray or RGB (N, C, H, W) in [0, 255]; height and width are multiples of 8, or of 16 if `halved`.
        quality: 1 to 100 (libjpeg's scale) for each image, (N, 1, 1).
        halved: whether the chroma of color images has half the resolution (4:2:0).
    """
    if image.shape[1] != 3:
        return _code_blocks(image, _LUMA, quality)
    y, chroma = _rgb_to_ycc(image).tensor_split([1], dim=1)
    y = _code_blocks(y, _LUMA, quality)
    chroma = _code_blocks(F.avg_pool2d(chroma, 2) if halved else chroma, _CHROMA, quality)
    if halved:
        chroma = F.interpolate(chroma, scale_factor=2, mode="bilinear", align_corners=False)
    return _ycc_to_rgb(torch.cat([y, chroma], dim=1))


def _code_blocks(image: Tensor, table: Tensor, quality: Tensor) -> Tensor:
    """Quantize the 8x8 cosine transform of (N, C, H, W), 0 to 255, by libjpeg's table for each image's quality."""
    percent = torch.where(quality < 50, 5000 // quality, 200 - 2 * quality)
    steps = ((table.to(image.device) * percent + 50) // 100).clamp(1, 255).view(-1, 1, 1, 1, 8, 8)
    k = torch.arange(8.0, device=image.device)
    dct = torch.cos((2 * k + 1) * k[:, None] * torch.pi / 16) / 2
    dct[0] /= 2**0.5
    n, c, height, width = image.shape
    blocks = (image - 128).reshape(n, c, height // 8, 8, width // 8, 8).transpose(3, 4)
    coefficients = (dct @ blocks @ dct.T / steps).round() * steps
    decoded = (dct.T @ coefficients @ dct).transpose(3, 4).reshape(n, c, height, width)
    return (decoded + 128).round().clamp(0, 255)


def _rgb_to_ycc(image: Tensor) -> Tensor:
    """JFIF's full-range YCbCr of (N, 3, H, W), 0 to 255, rounded."""
    shift = image.new_tensor([0.0, 128.0, 128.0]).view(3, 1, 1)
    return (torch.einsum("yc,nchw->nyhw", _YCC.to(image), image) + shift).round()


def _ycc_to_rgb(image: Tensor) -> Tensor:
    shift = image.new_tensor([0.0, 128.0, 128.0]).view(3, 1, 1)
    return torch.einsum("cy,nyhw->nchw", torch.linalg.inv(_YCC).to(image), image - shift)
