"""FDnCNN: DnCNN that is told the noise level and gives the clean image, without normalization.

Zhang, Zuo, Zhang: FFDNet. IEEE TIP 2018, arXiv:1710.04026; the network is in the same authors' KAIR.
"""

from functools import partial

from torch import Tensor

from restore.models.dncnn import plain_layers
from restore.models.init import DnCNNInit, initialize
from restore.models.network import RestorationNetwork, check_channels
from restore.models.norm import ConvNorm, Norm
from restore.models.recompute import Recompute, sequential


class FDnCNN(RestorationNetwork):
    """conv-ReLU, (depth - 2) x (conv-norm-ReLU), conv on an image with its noise level as one more channel.

    Args:
        channels: 1 (gray) or 3 (RGB).
        depth: convolutions.
        features: channels between the layers.
        norm: normalization of the middle layers; the authors' is `none`.
        bias: a bias on every convolution, also if a norm makes it redundant.
        bn_momentum: weight of the new batch in the running statistics.
        bn_eps: added to the variance.
        recompute: `norm` computes norms and activations again in backward (`recompute.py`).
        init: initial weights, a word of `init.py`.
    """

    def __init__(
        self,
        channels: int = 1,
        depth: int = 20,
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
        self.body = sequential(norm, recompute)(*plain_layers(self.inputs, channels, depth, features, conv_norm, bias))
        initialize(self, init)

    @property
    def inputs(self) -> int:
        return self.channels + 1

    def forward(self, degraded: Tensor) -> Tensor:
        """(N, channels + 1, H, W), the last the noise level / 255 -> (N, channels, H, W) restored, unclamped."""
        restored: Tensor = self.body(degraded)
        return restored
