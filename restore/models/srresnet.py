"""SRResNet: the super-resolution network with batch normalization that EDSR is measured against.

Ledig et al.: Photo-Realistic Single Image Super-Resolution Using a GAN. CVPR 2017, arXiv:1609.04802.
"""

from functools import partial

from torch import Tensor, nn

from restore.models.blocks import ResidualBlock, Scale, Upsampler
from restore.models.init import ResidualInit, initialize
from restore.models.network import RestorationNetwork, check_channels
from restore.models.norm import ConvNorm, Norm, conv
from restore.models.recompute import Recompute, sequential


class SRResNet(RestorationNetwork):
    """conv9-PReLU, residual blocks, conv-norm, global skip, upsampler with PReLU, conv9.

    Args:
        channels: 1 (gray) or 3 (RGB).
        features: channels of the body.
        blocks: residual blocks.
        scale: 2, 3, 4 or 8.
        res_scale: factor on each residual; 1 as published.
        norm: normalization after each convolution of the body; the paper's is `batch`.
        bn_momentum: weight of the new batch in the running statistics.
        bn_eps: added to the variance.
        recompute: `norm` computes norms and activations again in backward instead of keeping them (`recompute.py`);
            nothing to do for `none` and `weight`.
        init: initial weights, `torch` or `zero` (see `init.py`).
    """

    def __init__(
        self,
        channels: int = 3,
        features: int = 64,
        blocks: int = 16,
        scale: Scale = 4,
        res_scale: float = 1.0,
        norm: Norm = "batch",
        bn_momentum: float = 0.1,
        bn_eps: float = 1e-5,
        recompute: Recompute = "none",
        init: ResidualInit = "torch",
    ) -> None:
        super().__init__()
        check_channels(channels)

        conv_norm = partial(ConvNorm, norm=norm, bn_momentum=bn_momentum, bn_eps=bn_eps)
        self.head = nn.Sequential(conv(channels, features, kernel=9), nn.PReLU())
        self.body = sequential(norm, recompute)(
            *(ResidualBlock(features, conv_norm, nn.PReLU, res_scale) for _ in range(blocks)),
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
