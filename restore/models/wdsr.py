"""WDSR: few features between residual blocks, many before each activation, weight norm on every convolution.

Yu, Fan, Yang, Xu, Wang, Wang, Huang: Wide Activation for Efficient and Accurate Image Super-Resolution.
2018, arXiv:1808.08718.
"""

from abc import abstractmethod
from functools import partial
from typing import Any

from torch import Tensor, nn

from restore.models.blocks import Residual, Scale, repeated
from restore.models.edsr import mean_color
from restore.models.init import ResidualInit, initialize
from restore.models.network import RestorationNetwork
from restore.models.norm import ConvNorm, Norm, conv
from restore.models.recompute import sequential

CONTRAST = 2.0  # the published networks work on (pixel - mean) / 127.5


class _WDSR(RestorationNetwork):
    """Head, residual blocks and tail; beside them a skip of one 5x5 convolution; a pixel shuffle enlarges the sum.

    Args:
        channels: 1 (gray) or 3 (RGB).
        features: channels between the blocks.
        blocks: residual blocks.
        scale: 2, 3, 4 or 8.
        res_scale: factor on each residual; 1 as published.
        norm: normalization after each convolution of the residual blocks. The paper's, `weight`, is on all
            convolutions of the network.
        init: initial weights, `torch` or `zero` (see `init.py`).
        **normalization: the other settings of `Normalization`.
    """

    mean: Tensor
    features: int
    expansion: int

    def __init__(
        self,
        channels: int = 3,
        features: int = 32,
        blocks: int = 16,
        scale: Scale = 2,
        res_scale: float = 1.0,
        norm: Norm = "weight",
        init: ResidualInit = "torch",
        **normalization: Any,
    ) -> None:
        super().__init__()
        chosen = self.normalization(norm, **normalization)
        conv_norm = partial(ConvNorm, normalization=chosen)
        outer = partial(conv, weight_normed=norm == "weight")
        self.head = outer(channels, features)
        self.body = sequential(chosen)(*repeated(blocks, lambda: Residual(self._residual(conv_norm), res_scale)))
        self.skip = outer(channels, scale**2 * channels, kernel=5)
        self.tail = outer(features, scale**2 * channels)
        self.enlarge = nn.PixelShuffle(scale)
        self.register_buffer("mean", mean_color(channels), persistent=False)
        initialize(self, init)

    @abstractmethod
    def _residual(self, conv_norm: partial[ConvNorm]) -> nn.Sequential:
        """The layers of a block beside its skip."""

    def forward(self, degraded: Tensor) -> Tensor:
        """(N, channels, H, W) low resolution -> (N, channels, scale*H, scale*W), both in [0, 1], unclamped."""
        centered = (degraded - self.mean) * CONTRAST
        restored: Tensor = self.enlarge(self.tail(self.body(self.head(centered))) + self.skip(centered))
        return restored / CONTRAST + self.mean


class WDSRA(_WDSR):
    """WDSR-A: blocks of two 3x3 convolutions, with `expansion` times the features at the ReLU between them.

    Args:
        expansion: channels before the activation, in `features`; 2 to 4 in the paper.
        **shared: what WDSR-A and WDSR-B have in common.
    """

    def __init__(self, *, expansion: int = 4, **shared: Any) -> None:
        super().__init__(**shared)

    def _residual(self, conv_norm: partial[ConvNorm]) -> nn.Sequential:
        wide = self.expansion * self.features
        return nn.Sequential(conv_norm(self.features, wide), nn.ReLU(inplace=True), conv_norm(wide, self.features))


class WDSRB(_WDSR):
    """WDSR-B: a 1x1 convolution to more features, ReLU, and 1x1 with 3x3 in place of one 3x3, of low rank.

    Args:
        expansion: channels before the activation, in `features`; 6 to 9 in the paper.
        low_rank: channels between the two convolutions after the ReLU, in `features`, rounded down.
        **shared: what WDSR-A and WDSR-B have in common.
    """

    low_rank: float

    def __init__(self, *, expansion: int = 6, low_rank: float = 0.8, **shared: Any) -> None:
        super().__init__(**shared)

    def _residual(self, conv_norm: partial[ConvNorm]) -> nn.Sequential:
        wide, narrow = self.expansion * self.features, int(self.low_rank * self.features)
        return nn.Sequential(
            conv_norm(self.features, wide, kernel=1),
            nn.ReLU(inplace=True),
            conv_norm(wide, narrow, kernel=1),
            conv_norm(narrow, self.features),
        )
