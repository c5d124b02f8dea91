"""MDSR: one EDSR for several scales, which share the body.

Lim, Son, Kim, Nah, Lee: Enhanced Deep Residual Networks for Single Image Super-Resolution.
CVPR Workshops 2017, arXiv:1707.02921, section 3.4.
"""

import copy
from functools import partial
from typing import Any, Self

from torch import Tensor, nn

from restore.models.blocks import ResidualBlock, Scale, Upsampler, repeated
from restore.models.edsr import check_range, mean_color
from restore.models.init import ResidualInit, initialize
from restore.models.network import RestorationNetwork
from restore.models.norm import ConvNorm, Norm, conv
from restore.models.recompute import sequential


class MDSR(RestorationNetwork):
    """EDSR with two residual blocks of 5x5 convolutions after the head and an upsampler for each scale.

    Args:
        channels: 1 (gray) or 3 (RGB).
        features: channels of the body.
        blocks: residual blocks of the body; 16 in the baseline, 80 in the paper's network.
        scales: those it is trained for, each 2, 3, 4 or 8.
        scale: the one of `scales` at which it works now; `at` gives it at another.
        norm: normalization after each convolution of the residual blocks; the paper's is `none`.
        rgb_range: the network works on pixels times this, as the published one does (0 to 255).
        init: initial weights, `torch` or `zero` (see `init.py`).
        **normalization: the other settings of `Normalization`.
    """

    ends_in_tail = True
    mean: Tensor
    rgb_range: float
    scales: tuple[Scale, ...]

    def __init__(
        self,
        channels: int = 3,
        features: int = 64,
        blocks: int = 16,
        scales: tuple[Scale, ...] = (2, 3, 4),
        scale: Scale = 4,
        norm: Norm = "none",
        rgb_range: float = 255.0,
        init: ResidualInit = "torch",
        **normalization: Any,
    ) -> None:
        super().__init__()
        if scale not in scales:
            raise ValueError(f"scale must be one of scales, {_words(scales)}, not {scale}")
        check_range(rgb_range)
        self.restate(scales=tuple(scales))

        chosen = self.normalization(norm, **normalization)
        conv_norm = partial(ConvNorm, normalization=chosen)
        body = sequential(chosen)
        relu = partial(nn.ReLU, inplace=True)
        self.head = conv(channels, features)
        self.pre_process = nn.ModuleList(
            body(*(ResidualBlock(features, partial(conv_norm, kernel=5), relu) for _ in range(2))) for _ in scales
        )
        self.body = body(
            *repeated(blocks, lambda: ResidualBlock(features, conv_norm, relu)),
            conv(features, features),
        )
        self.upsample = nn.ModuleList(Upsampler(scale, features) for scale in scales)
        self.tail = conv(features, channels)
        self.register_buffer("mean", mean_color(channels), persistent=False)
        initialize(self, init)

    @property
    def all_scales(self) -> tuple[int, ...]:
        return self.scales

    def at(self, scale: int) -> Self:
        if scale not in self.scales:
            raise ValueError(f"scale must be one of {_words(self.scales)}, not {scale}")
        view = copy.copy(self)
        view.restate(scale=scale)
        return view

    def forward(self, degraded: Tensor) -> Tensor:
        """(N, channels, H, W) low resolution -> (N, channels, scale*H, scale*W), both in [0, 1], unclamped."""
        branch = self.scales.index(self.scale)
        shallow: Tensor = self.pre_process[branch](self.head((degraded - self.mean) * self.rgb_range))
        deep: Tensor = shallow + self.body(shallow)
        restored: Tensor = self.tail(self.upsample[branch](deep))
        return restored / self.rgb_range + self.mean


def _words(scales: tuple[int, ...]) -> str:
    return ", ".join(map(str, scales))
