"""FFDNet: a fast denoiser that is told the noise level and works at half the size, four pixels in one.

Zhang, Zuo, Zhang: FFDNet: Toward a Fast and Flexible Solution for CNN-Based Image Denoising. IEEE TIP 2018,
arXiv:1710.04026.
"""

from functools import partial

from torch import Tensor
from torch.nn import functional as F

from restore.models.dncnn import plain_layers
from restore.models.init import DnCNNInit, initialize
from restore.models.network import RestorationNetwork, check_channels
from restore.models.norm import ConvNorm, Norm
from restore.models.recompute import Recompute, sequential

FACTOR = 2  # by which the image is made smaller, and its channels more


class FFDNet(RestorationNetwork):
    """conv-ReLU, (depth - 2) x (conv-norm-ReLU), conv on four pixels and their noise level at a time.

    Args:
        channels: 1 (gray) or 3 (RGB).
        depth: convolutions; 15 for gray, 12 for color images.
        features: channels between the layers; 64 for gray, 96 for color images.
        norm: normalization of the middle layers; that of the released files is `none`.
        bias: a bias on every convolution, also if a norm makes it redundant.
        bn_momentum: weight of the new batch in the running statistics.
        bn_eps: added to the variance.
        recompute: `norm` computes norms and activations again in backward (`recompute.py`).
        init: initial weights, a word of `init.py`.
    """

    multiple_of = FACTOR

    def __init__(
        self,
        channels: int = 1,
        depth: int = 15,
        features: int = 64,
        norm: Norm = "none",
        bias: bool = True,
        bn_momentum: float = 0.1,
        bn_eps: float = 1e-5,
        recompute: Recompute = "none",
        init: DnCNNInit = "kair",
    ) -> None:
        super().__init__()
        check_channels(channels)
        conv_norm = partial(ConvNorm, norm=norm, bn_momentum=bn_momentum, bn_eps=bn_eps, bias=bias)
        packed = FACTOR**2 * channels
        layers = plain_layers(packed + 1, packed, depth, features, conv_norm, bias)
        self.body = sequential(norm, recompute)(*layers)
        initialize(self, init)

    @property
    def inputs(self) -> int:
        return self.channels + 1

    def forward(self, degraded: Tensor) -> Tensor:
        """(N, channels + 1, H, W), the last the noise level / 255 -> (N, channels, H, W) restored, unclamped.

        H and W are even.
        """
        packed = F.pixel_unshuffle(degraded, FACTOR)[:, : FACTOR**2 * self.channels + 1]
        return F.pixel_shuffle(self.body(packed), FACTOR)
