"""SRResNet: the super-resolution network with batch normalization that EDSR is measured against.

Ledig et al.: Photo-Realistic Single Image Super-Resolution Using a GAN. CVPR 2017, arXiv:1609.04802.
"""

from functools import partial
from typing import Any

from torch import Tensor, nn

from restore.models.blocks import ResidualBlock, Scale, Upsampler, repeated
from restore.models.init import ResidualInit, initialize
from restore.models.network import RestorationNetwork
from restore.models.norm import ConvNorm, Norm, conv
from restore.models.recompute import sequential


class SRResNet(RestorationNetwork):
    """conv9-PReLU, residual blocks, conv-norm, global skip, upsampler with PReLU, conv9.

    Args:
        channels: 1 (gray) or 3 (RGB).
        features: channels of the body.
        blocks: residual blocks.
        scale: 2, 3, 4 or 8.
        res_scale: factor on each residual; 1 as published.
        norm: normalization after each convolution of the body; the paper's is `batch`.
        init: initial weights, `torch` or `zero` (see `init.py`).
        **normalization: the other settings of `Normalization`.
    """

    def __init__(
        self,
        channels: int = 3,
        features: int = 64,
        blocks: int = 16,
        scale: Scale = 4,
        res_scale: float = 1.0,
        norm: Norm = "batch",
        init: ResidualInit = "torch",
        **normalization: Any,
    ) -> None:
        super().__init__()
        chosen = self.normalization(norm, **normalization)
        conv_norm = partial(ConvNorm, normalization=chosen)
        self.head = nn.Sequential(conv(channels, features, kernel=9), nn.PReLU())
        self.body = sequential(chosen)(
            *repeated(blocks, lambda: ResidualBlock(features, conv_norm, nn.PReLU, res_scale)),
            conv_norm(features, features),
        )
        self.upsample = Upsampler(scale, features, activation=nn.PReLU)
        self.tail = conv(features, channels, kernel=9)
        initialize(self, init)

    def forward(self, degraded: Tensor) -> Tensor:
        """(N, channels, H, W) low resolution -> (N, channels, scale*H, scale*W), both in [0, 1], unclamped."""
        shallow: Tensor = self.head(degraded)
        deep: Tensor = shallow + self.body(shallow)
        restored: Tensor = self.tail(self.upsample(deep))
        return restored
