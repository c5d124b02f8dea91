"""Restoring one image: channels, value range, clamping, bit depth."""

import torch
from torch import Tensor
from torch.nn import functional as F

from restore.images.color import rgb_to_gray
from restore.images.io import Pixels
from restore.images.resize import imresize
from restore.images.tensors import as_tensor, quantise, to_image, to_pixels, to_tensor
from restore.inference.runner import Runner


@torch.inference_mode()
def restore_tensor(runner: Runner, degraded: Tensor) -> Tensor:
    """Restore (N, C, H, W) float in [0, 1]; the result is float32, unclamped.

    Gray images through a colour network come back gray. An image is padded if the network takes multiples only.
    """
    height, width = degraded.shape[-2:]
    gray_in_colour = degraded.shape[1] < runner.channels
    if gray_in_colour:
        degraded = degraded.expand(-1, runner.channels, -1, -1)
    padding = 0, -width % runner.multiple_of, 0, -height % runner.multiple_of
    if any(padding):
        degraded = F.pad(degraded, padding, mode="replicate")
    restored: Tensor = runner(degraded).float()[..., : runner.scale * height, : runner.scale * width]
    return rgb_to_gray(restored) if gray_in_colour else restored


def restore_image(runner: Runner, image: Pixels) -> Pixels:
    """Restore one image of any kind with a network in eval mode or another runner.

    A gray image through a colour network comes back gray. A colour image through a gray network has its luma
    restored; its chroma is kept, or enlarged bicubically where the network enlarges.

    Args:
        runner: on any device.
        image: (H, W, 1 or 3), uint8 or uint16.

    Returns:
        (scale*H, scale*W, 1 or 3) of the same type and as many channels.
    """
    if runner.channels == 1 and image.shape[2] == 3:
        return _restore_luma(runner, image)
    return to_pixels(restore_tensor(runner, to_tensor(image).to(runner.device)), image.dtype)


def _restore_luma(runner: Runner, image: Pixels) -> Pixels:
    """Add to red, green and blue what the network adds to luma: the chroma stays, and nothing is rounded twice."""
    degraded = to_tensor(image)
    luma = restore_tensor(runner, rgb_to_gray(degraded).to(runner.device)).cpu()
    if runner.scale > 1:
        degraded = torch.from_numpy(imresize(degraded[0].permute(1, 2, 0).numpy(), runner.scale)).permute(2, 0, 1)[None]
    return to_pixels(degraded + (luma - rgb_to_gray(degraded)), image.dtype)


def baseline(degraded: Tensor, scale: int) -> Tensor:
    """What one has without a network: the degraded image itself, enlarged bicubically where `scale` is not 1.

    Args:
        degraded: (1, C, H, W) float in [0, 1], unclamped.
        scale: enlargement.

    Returns:
        (1, C, scale*H, scale*W), 0 to 255, on the CPU; float and unclipped where `scale` is 1, since the published
        PSNR of noisy images (20.17 dB at sigma 25) is of noise that no file could hold; else uint8.
    """
    if scale == 1:
        return degraded.cpu() * 255
    return as_tensor(imresize(to_image(quantise(degraded)), scale))
