"""WDSR: few features between residual blocks, many before each activation, weight norm on every convolution.

Yu, Fan, Yang, Xu, Wang, Wang, Huang: Wide Activation for Efficient and Accurate Image Super-Resolution.
2018, arXiv:1808.08718.
"""

import math
from functools import partial
from typing import Literal

from torch import Tensor, nn

from restore.models.blocks import Residual, Scale
from restore.models.edsr import mean_colour
from restore.models.network import RestorationNetwork, check_channels
from restore.models.norm import ConvNorm, Norm, conv, initialise
from restore.models.recompute import Recompute, sequential

CONTRAST = 2.0  # the published networks work on (pixel - mean) / 127.5


class WDSR(RestorationNetwork):
    """Head, residual blocks and tail; beside them a skip of one 5x5 convolution; a pixel shuffle enlarges the sum.

    Args:
        channels: 1 (gray) or 3 (RGB).
        features: channels between the residual blocks.
        blocks: residual blocks.
        scale: 2, 3, 4 or 8.
        kind: what is in a block.
            `A`: a 3x3 convolution to `expansion` times the features, ReLU, 3x3 back.
            `B`: 1x1 to `expansion` times the features, ReLU, and two convolutions in place of 3x3: 1x1 to `low_rank`
                times the features, 3x3.
        expansion: channels before the activation, in `features`; by default 4 in A and 6 in B. The paper tries 2 to 4
            in A, 6 to 9 in B.
        low_rank: channels between the last two convolutions of B, in `features`, rounded down.
        res_scale: factor on each residual; 1 as published.
        norm: normalisation behind each convolution of the residual blocks. The paper's, `weight`, is on all
            convolutions of the network.
        bn_momentum: weight of the new batch in the running statistics.
        bn_eps: added to the variance.
        recompute: `norm` computes norms and activations again in backward instead of keeping them (`recompute.py`);
            nothing to do for `none` and `weight`.
    """

    mean: Tensor

    def __init__(
        self,
        channels: int = 3,
        features: int = 32,
        blocks: int = 16,
        scale: Scale = 2,
        kind: Literal["A", "B"] = "A",
        expansion: int | None = None,
        low_rank: float = 0.8,
        res_scale: float = 1.0,
        norm: Norm = "weight",
        bn_momentum: float = 0.1,
        bn_eps: float = 1e-5,
        recompute: Recompute = "none",
    ) -> None:
        super().__init__()
        check_channels(channels)
        self.channels = channels
        self.features = features
        self.blocks = blocks
        self.scale = scale
        self.kind = kind
        self.expansion = {"A": 4, "B": 6}[kind] if expansion is None else expansion
        self.low_rank = low_rank
        self.res_scale = res_scale
        self.norm = norm
        self.bn_momentum = bn_momentum
        self.bn_eps = bn_eps
        self.recompute = recompute

        outer = partial(conv, weight_normed=norm == "weight")
        body = sequential(norm, recompute)
        self.head = outer(channels, features)
        self.body = body(*(Residual(self._residual(), res_scale) for _ in range(blocks)))
        self.tail = outer(features, scale**2 * channels)
        self.skip = outer(channels, scale**2 * channels, kernel=5)
        self.enlarge = nn.PixelShuffle(scale)
        self.register_buffer("mean", mean_colour(channels), persistent=False)
        initialise(self, partial(nn.init.kaiming_uniform_, a=math.sqrt(5)))

    def _residual(self) -> nn.Sequential:
        conv_norm = partial(ConvNorm, norm=self.norm, bn_momentum=self.bn_momentum, bn_eps=self.bn_eps)
        wide, narrow = self.expansion * self.features, int(self.low_rank * self.features)
        relu = nn.ReLU(inplace=True)
        if self.kind == "A":
            return nn.Sequential(conv_norm(self.features, wide), relu, conv_norm(wide, self.features))
        return nn.Sequential(
            conv_norm(self.features, wide, kernel=1),
            relu,
            conv_norm(wide, narrow, kernel=1),
            conv_norm(narrow, self.features),
        )

    def forward(self, degraded: Tensor) -> Tensor:
        """(N, channels, H, W) low resolution -> (N, channels, scale*H, scale*W), both in [0, 1], unclamped."""
        centred = (degraded - self.mean) * CONTRAST
        restored: Tensor = self.enlarge(self.tail(self.body(self.head(centred))) + self.skip(centred))
        return restored / CONTRAST + self.mean
