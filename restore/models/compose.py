"""Upsampler and last convolution as one convolution on the small grid: the same linear map for far less work.

EDSR's end is linear: a convolution to scale^2 times the features, a pixel shuffle, a convolution to the channels. One
5x5 convolution to scale^2 times the *channels* and one shuffle compute the same, but for the outermost pixels, where
the convolutions of the original see zeros beyond the border at each size between.
"""

import copy
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from restore.models.blocks import Upsampler
from restore.models.network import RestorationNetwork

AnyNetwork = TypeVar("AnyNetwork", bound=RestorationNetwork)

RADIUS = 2  # of the 3x3 convolutions together, in pixels of the small grid: 1 + 1/2 + 1/4 + 1/8, rounded up
BORDER = 1  # width of the border affected by zero padding between the layers: 1/2 + 1/4 + 1/8, rounded up


class ComposedUpsampling(nn.Module):
    """Upsampler and last convolution in one: (N, features, H, W) -> (N, channels, scale*H, scale*W).

    The border of the image is computed as before, from strips.

    Args:
        upsample: without activations.
        tail: the 3x3 convolution after it.
    """

    def __init__(self, upsample: Upsampler, tail: nn.Conv2d) -> None:
        super().__init__()
        self.plain = nn.Sequential(*copy.deepcopy(upsample), copy.deepcopy(tail))
        weight, bias, self._scale = _composed(self.plain)
        self.conv = nn.Conv2d(weight.shape[1], weight.shape[0], 2 * RADIUS + 1, padding=RADIUS).to(tail.weight)
        self.conv.load_state_dict({"weight": weight, "bias": bias})
        self.shuffle = nn.PixelShuffle(self._scale)

    def forward(self, features: Tensor) -> Tensor:
        """(N, features, H, W) -> (N, channels, scale*H, scale*W)."""
        strip, border = BORDER + RADIUS, BORDER * self._scale
        inside = self.shuffle(self.conv(features))[..., border:-border, border:-border]
        top = self.plain(features[..., :strip, :])[..., :border, :]
        bottom = self.plain(features[..., -strip:, :])[..., -border:, :]
        left = self.plain(features[..., :strip])[..., border:-border, :border]
        right = self.plain(features[..., -strip:])[..., border:-border, -border:]
        # of an image of one pixel left and right are the same, and so are top and bottom
        between = torch.cat([left, inside, right], -1)[..., : self._scale * features.shape[-1]]
        return torch.cat([top, between, bottom], -2)[..., : self._scale * features.shape[-2], :]


def compose(network: AnyNetwork) -> AnyNetwork:
    """A copy whose upsamplers and last convolution are composed if the network `ends_in_tail` and they are linear.

    It is for inference only.
    """
    composed = copy.deepcopy(network).eval()
    if not composed.ends_in_tail:
        return composed
    upsample: Any = composed.upsample
    tail: Any = composed.tail
    several = isinstance(upsample, nn.ModuleList)
    branches = list(upsample) if several else [upsample]
    if not all(_is_known(layer) for branch in branches for layer in (*branch, tail)):
        return composed
    ends = [ComposedUpsampling(branch, tail) for branch in branches]
    composed.upsample = nn.ModuleList(ends) if several else ends[0]
    composed.tail = nn.Identity()
    return composed


def _is_known(layer: nn.Module) -> bool:
    """Whether a layer is linear and reaches no further than `RADIUS` and `BORDER` allow for."""
    if isinstance(layer, nn.Conv2d):
        geometry = layer.kernel_size, layer.stride, layer.padding, layer.dilation, layer.padding_mode
        return geometry == ((3, 3), (1, 1), (1, 1), (1, 1), "zeros")
    return isinstance(layer, nn.PixelShuffle)


def _composed(plain: nn.Sequential) -> tuple[Tensor, Tensor, int]:
    """Weight and bias of the 5x5 convolution which, shuffled, does what `plain` does far from the border; the scale.

    The weights of a linear map are its gradient: here of each output at one pixel of the small grid, in float64.
    """
    with torch.inference_mode(mode=False), torch.enable_grad():
        exact = copy.deepcopy(plain).cpu().double()  # not every device has float64
        features = next(layer.in_channels for layer in exact if isinstance(layer, nn.Conv2d))
        size = 2 * RADIUS + 1
        image = torch.zeros(1, features, size, size, dtype=torch.float64)
        restored: Tensor = exact(image)
        scale = restored.shape[-1] // size
        outputs = restored.shape[1] * scale**2
        images = image.repeat(outputs, 1, 1, 1).requires_grad_()
        center = F.pixel_unshuffle(exact(images), scale)[:, :, RADIUS, RADIUS]
        (weight,) = torch.autograd.grad(center.diagonal().sum(), images)
        return weight, center[0].detach(), scale
