"""EDSR: SRResNet without batch normalization, wider, with scaled residuals.

Lim, Son, Kim, Nah, Lee: Enhanced Deep Residual Networks for Single Image Super-Resolution.
CVPR Workshops 2017, arXiv:1707.02921.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from restore.models.blocks import ResidualBlock, Scale, Upsampler, repeated
from restore.models.init import ResidualInit, initialize
from restore.models.network import RestorationNetwork
from restore.models.norm import ConvNorm, Norm, conv
from restore.models.recompute import sequential

DIV2K_MEAN = torch.tensor([0.4488, 0.4371, 0.4040])
LUMA_WEIGHTS = torch.tensor([0.299, 0.587, 0.114])


class EDSR(RestorationNetwork):
    """Head, residual blocks, global skip, sub-pixel upsampler, tail; the mean color of DIV2K is taken out.

    Args:
        channels: 1 (gray) or 3 (RGB).
        features: channels of the body; 64 in the baseline, 256 in the paper's network.
        blocks: residual blocks; 16 in the baseline, 32 in the paper's network.
        scale: 2, 3, 4 or 8.
        res_scale: factor on each residual; 1 in the baseline, 0.1 in the paper's network.
        norm: normalization after each convolution of the residual blocks; the paper's is `none`.
        rgb_range: the network works on pixels times this, as the published one does (0 to 255).
        init: initial weights, `torch` or `zero` (see `init.py`).
        **normalization: the other settings of `Normalization`.
    """

    ends_in_tail = True
    mean: Tensor
    rgb_range: float

    def __init__(
        self,
        channels: int = 3,
        features: int = 64,
        blocks: int = 16,
        scale: Scale = 2,
        res_scale: float = 1.0,
        norm: Norm = "none",
        rgb_range: float = 255.0,
        init: ResidualInit = "torch",
        **normalization: Any,
    ) -> None:
        super().__init__()
        check_range(rgb_range)
        chosen = self.normalization(norm, **normalization)
        conv_norm = partial(ConvNorm, normalization=chosen)
        relu = partial(nn.ReLU, inplace=True)
        self.head = conv(channels, features)
        self.body = sequential(chosen)(
            *repeated(blocks, lambda: ResidualBlock(features, conv_norm, relu, res_scale)),
            conv(features, features),
        )
        self.upsample = Upsampler(scale, features)
        self.tail = conv(features, channels)
        self.register_buffer("mean", mean_color(channels), persistent=False)
        initialize(self, init)

    def forward(self, degraded: Tensor) -> Tensor:
        """(N, channels, H, W) low resolution -> (N, channels, scale*H, scale*W), both in [0, 1], unclamped."""
        shallow: Tensor = self.head((degraded - self.mean) * self.rgb_range)
        deep: Tensor = shallow + self.body(shallow)
        restored: Tensor = self.tail(self.upsample(deep))
        return restored / self.rgb_range + self.mean


def check_range(rgb_range: float) -> None:
    """Raises ValueError if pixels cannot be divided by it again."""
    if not rgb_range > 0:
        raise ValueError(f"rgb_range must be positive, not {rgb_range:g}")


def mean_color(channels: int) -> Tensor:
    """The mean of DIV2K's images, (1, channels, 1, 1) in [0, 1]."""
    mean = DIV2K_MEAN if channels == 3 else (DIV2K_MEAN * LUMA_WEIGHTS).sum(0, keepdim=True)
    return mean.view(1, -1, 1, 1)
