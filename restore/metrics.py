"""PSNR, SSIM and PSNR-B per image, the protocols of published numbers, and the rows that numbers travel in."""

import math
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from restore.choices import ProtocolName
from restore.errors import UserError
from restore.images.color import luma
from restore.images.crop import shave


def psnr(restored: Tensor, reference: Tensor, peak: float = 255.0) -> Tensor:
    """Peak signal-to-noise ratio of each image over all its channels, in dB; infinite for equal images.

    Args:
        restored, reference: (N, C, H, W), any numeric type, on the scale 0 to `peak`.

    Returns:
        (N,) float64.
    """
    _check_shapes(restored, reference)
    error = (restored.double() - reference.double()).square().flatten(1).mean(1)
    return 10 * torch.log10(peak**2 / error)


def ssim(restored: Tensor, reference: Tensor, peak: float = 255.0) -> Tensor:
    """Structural similarity (Wang et al. 2004): 11x11 Gaussian of sigma 1.5, K1 = .01, K2 = .03, valid region only.

    Args:
        restored, reference: (N, C, H, W) of at least 11x11, any numeric type, on the scale 0 to `peak`.

    Returns:
        (N,) float64, the mean over the map and the channels.
    """
    _check_shapes(restored, reference)
    if min(restored.shape[-2:]) < 11:
        raise UserError(f"SSIM needs images of at least 11x11 pixels, found {tuple(restored.shape[-2:])}")
    x, y = restored.double(), reference.double()
    offsets = torch.arange(11, dtype=torch.float64) - 5
    window = torch.exp(-(offsets**2) / (2 * 1.5**2))
    weights = (window / window.sum()).tolist()

    def blur(images: Tensor) -> Tensor:
        for dim in (2, 3):  # sums of shifted images, since convolution in float64 is slow
            room = images.shape[dim] - 10
            images = sum((w * images.narrow(dim, i, room) for i, w in enumerate(weights)), torch.zeros(()))
        return images

    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    mean_x, mean_y = blur(x), blur(y)
    variance_x, variance_y = blur(x * x) - mean_x**2, blur(y * y) - mean_y**2
    covariance = blur(x * y) - mean_x * mean_y
    similarity = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    similarity /= (mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2)
    return similarity.flatten(1).mean(1)


def psnr_b(restored: Tensor, reference: Tensor, peak: float = 255.0) -> Tensor:
    """PSNR with the blocking effect (Yim & Bovik 2011): the steps at the borders of 8x8 blocks count as an error too.

    Args:
        restored, reference: (N, C, H, W) of at least 9x9, any numeric type, on the scale 0 to `peak`; blocks begin at
            the first pixel.

    Returns:
        (N,) float64, in dB; infinite for equal images without blocks.
    """
    _check_shapes(restored, reference)
    if min(restored.shape[-2:]) < 9:
        raise UserError(f"PSNR-B needs images of at least 9x9 pixels, found {tuple(restored.shape[-2:])}")
    error = (restored.double() - reference.double()).square().flatten(1).mean(1)
    return 10 * torch.log10(peak**2 / (error + _blocking_effect(restored.double())))


def _blocking_effect(images: Tensor) -> Tensor:
    """How much larger squared steps are between the 8x8 blocks of (N, C, H, W) than within: the paper's BEF, (N,)."""
    steps = [images.diff(dim=dim).square().movedim(dim, 1).flatten(2).sum(2) for dim in (2, 3)]  # (N, places) each
    between = [step[:, 7::8] for step in steps]
    lines = [images.shape[1] * images.shape[3], images.shape[1] * images.shape[2]]  # steps at each place
    count = sum(part.shape[1] * line for part, line in zip(between, lines, strict=True))
    inner = sum(step.shape[1] * line for step, line in zip(steps, lines, strict=True)) - count
    at_borders = torch.stack([part.sum(1) for part in between]).sum(0)
    elsewhere = torch.stack([step.sum(1) for step in steps]).sum(0) - at_borders
    excess = at_borders / count - elsewhere / inner
    return math.log(8) / math.log(min(images.shape[-2:])) * excess.clamp(min=0)


def _check_shapes(restored: Tensor, reference: Tensor) -> None:
    if restored.shape != reference.shape or restored.ndim != 4:
        raise UserError(
            f"expected two batches of images of one shape (N, C, H, W), "
            f"found {tuple(restored.shape)} and {tuple(reference.shape)}"
        )


class Score(NamedTuple):
    """One image under one protocol: PSNR in dB, SSIM, and PSNR-B in dB if the protocol has it, else None."""

    psnr: float
    ssim: float
    psnr_b: float | None = None


@dataclass(frozen=True)
class Protocol:
    """How a published number was measured; it travels with every number.

    Attributes:
        name: as printed beside the number.
        border: pixels shaved off every side beside `scale` of them; None shaves nothing.
        on_luma: score the luma (BT.601 studio range, not rounded) of color images instead of RGB.
        of_jpeg: for JPEG images: luma is rounded to 8 bits, also if gray networks get it as their input, and PSNR-B
            is measured as well.
    """

    name: ProtocolName
    border: int | None
    on_luma: bool
    of_jpeg: bool = False

    def score(self, restored: Tensor, reference: Tensor, scale: int = 1) -> Score:
        """Score one restored image against its reference, both (1, C, H, W), 0 to 255.

        Gray images are scored as they are under every protocol.

        Raises:
            UserError: the shapes differ, or too little is left after shaving.
        """
        x, y = self._compared(restored, reference, scale)
        return Score(psnr(x, y).item(), ssim(x, y).item(), psnr_b(x, y).item() if self.of_jpeg else None)

    def psnr(self, restored: Tensor, reference: Tensor, scale: int = 1) -> float:
        """The PSNR (dB) of `score` only, in a fraction of its time."""
        return psnr(*self._compared(restored, reference, scale)).item()

    def _compared(self, restored: Tensor, reference: Tensor, scale: int) -> tuple[Tensor, Tensor]:
        _check_shapes(restored, reference)
        border = 0 if self.border is None else scale + self.border
        if min(restored.shape[-2:]) - 2 * border < 11:
            raise UserError(
                f"{self.name} shaves {border} pixels per side and needs 11x11 after that; "
                f"the image has {tuple(restored.shape[-2:])}"
            )
        x, y = restored.double(), reference.double()
        if self.on_luma and x.shape[1] == 3:
            x, y = (luma(image).round() if self.of_jpeg else luma(image) for image in (x, y))
        return shave(x, border), shave(y, border)


PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        # Set5, Set14, B100, Urban100 as EDSR, RCAN and their successors report them.
        Protocol("sr-y", border=0, on_luma=True),
        # DIV2K validation: what EDSR's code shaves, and what its README says instead.
        Protocol("sr-rgb", border=6, on_luma=False),
        Protocol("sr-rgb-shave2", border=2, on_luma=False),
        # Set12 and BSD68 as DnCNN reports them; CBSD68, Kodak24, McMaster in color.
        Protocol("denoise-gray", border=None, on_luma=False),
        Protocol("denoise-rgb", border=None, on_luma=False),
        # classic5 and LIVE1 as AR-CNN, DnCNN-3 and their successors report them.
        Protocol("jpeg-y", border=None, on_luma=True, of_jpeg=True),
    )
}


@dataclass(frozen=True)
class ImageScore:
    """One image of a row: name without suffix, PSNR in dB, SSIM, and PSNR-B in dB if the protocol has it."""

    name: str
    psnr: float
    ssim: float
    psnr_b: float | None = None


@dataclass(frozen=True)
class Row:
    """One model on one test set under one protocol; PSNR (dB) and SSIM are means over the images' own values.

    Attributes:
        model: weights file or baseline.
        set: name of the test set.
        protocol: under which the images were scored.
        degradation: in words.
        scale: of the super-resolution, else 1.
        sigma: of Gaussian noise of one level, else None.
        psnr, ssim: means of the images' own.
        images: how many.
        per_image: their own scores.
        psnr_b: mean of the images' own, in dB; None under protocols without it.
    """

    model: str
    set: str
    protocol: str
    degradation: str
    scale: int
    sigma: float | None
    psnr: float
    ssim: float
    images: int
    per_image: tuple[ImageScore, ...]
    psnr_b: float | None = None

    @property
    def summary(self) -> dict[str, Any]:
        """All but the single images and what the protocol does not have."""
        left_out = {"per_image"} if self.psnr_b is not None else {"per_image", "psnr_b"}
        return {name: value for name, value in asdict(self).items() if name not in left_out}
