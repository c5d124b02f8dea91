"""Restoring one image: channels, value range, clamping, bit depth."""

import torch
from torch import Tensor
from torch.nn import functional as F

from restore.errors import UserError
from restore.images.color import rgb_to_gray
from restore.images.pixels import Pixels
from restore.images.resize import imresize
from restore.images.tensors import as_tensor, quantize, to_image, to_pixels, to_tensor
from restore.inference.runner import Runner


def check_finite(restored: Tensor) -> None:
    """Raises UserError if a network's result holds numbers that are not finite, which as pixels would be black."""
    if not restored.isfinite().all():
        raise UserError("the network's output is not finite (NaN or infinity); its weights may be damaged")


def padded(degraded: Tensor, multiple_of: int) -> Tensor:
    """Images (N, C, H, W) whose last row and column are repeated until H and W are multiples."""
    height, width = degraded.shape[-2:]
    padding = 0, -width % multiple_of, 0, -height % multiple_of
    return F.pad(degraded, padding, mode="replicate") if any(padding) else degraded


@torch.inference_mode()
def restore_tensor(runner: Runner, degraded: Tensor) -> Tensor:
    """Restore (N, C, H, W) float in [0, 1]; the result is float32, unclamped.

    Gray images through a color network come back gray. An image is padded if the network takes multiples only.
    """
    height, width = degraded.shape[-2:]
    gray_in_color = degraded.shape[1] < runner.channels
    if gray_in_color:
        degraded = degraded.expand(-1, runner.channels, -1, -1)
    restored: Tensor = runner(padded(degraded, runner.multiple_of)).float()
    restored = restored[..., : runner.scale * height, : runner.scale * width]
    return rgb_to_gray(restored) if gray_in_color else restored


def restore_image(runner: Runner, image: Pixels) -> Pixels:
    """Restore one image of any kind with a network in eval mode or another runner.

    A gray image through a color network comes back gray. A color image through a gray network has its luma
    restored; its chroma is kept, or enlarged bicubically if the network enlarges.

    Args:
        runner: on any device.
        image: (H, W, 1 or 3), uint8 or uint16.

    Returns:
        (scale*H, scale*W, 1 or 3) of the same type and as many channels.

    Raises:
        UserError: the result is not finite.
    """
    return to_pixels(restore_any(runner, to_tensor(image)), image.dtype)


def restore_any(runner: Runner, degraded: Tensor) -> Tensor:
    """Restore one image, (1, 1 or 3, H, W) float in [0, 1], as `restore_image` does; the result is unclamped."""
    if runner.channels == 1 and degraded.shape[1] == 3:
        return _restore_luma(runner, degraded)
    restored = restore_tensor(runner, degraded.to(runner.device))
    check_finite(restored)
    return restored


def _restore_luma(runner: Runner, degraded: Tensor) -> Tensor:
    """Add to red, green and blue what the network adds to luma: the chroma stays, and nothing is rounded twice."""
    luma = restore_tensor(runner, rgb_to_gray(degraded).to(runner.device)).cpu()
    check_finite(luma)
    if runner.scale > 1:
        degraded = torch.from_numpy(imresize(degraded[0].permute(1, 2, 0).numpy(), runner.scale)).permute(2, 0, 1)[None]
    return degraded + (luma - rgb_to_gray(degraded))


def baseline(degraded: Tensor, scale: int) -> Tensor:
    """What one has without a network: the degraded image itself, enlarged bicubically if `scale` is not 1.

    Args:
        degraded: (1, C, H, W) float in [0, 1], unclamped.
        scale: enlargement.

    Returns:
        (1, C, scale*H, scale*W), 0 to 255, on the CPU; float and unclipped if `scale` is 1, since the published
        PSNR of noisy images (20.17 dB at sigma 25) is of noise that no file could hold; else uint8.
    """
    if scale == 1:
        return degraded.cpu() * 255
    return as_tensor(imresize(to_image(quantize(degraded)), scale))
