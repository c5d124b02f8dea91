"""DnCNN: a plain denoiser with residual learning and batch normalization.

Zhang, Zuo, Chen, Meng, Zhang: Beyond a Gaussian Denoiser. IEEE TIP 2017, arXiv:1608.03981.
"""

from functools import partial

from torch import Tensor, nn

from restore.models.init import DnCNNInit, initialize
from restore.models.network import RestorationNetwork, check_channels
from restore.models.norm import ConvNorm, ConvNormFactory, Norm, conv
from restore.models.recompute import Recompute, sequential


class DnCNN(RestorationNetwork):
    """conv-ReLU, (depth - 2) x (conv-norm-ReLU), conv; 3x3 throughout, receptive field (2 depth + 1)^2.

    Args:
        channels: 1 (gray) or 3 (RGB).
        depth: convolutions; 17 for a known noise level, 20 for blind, color and DnCNN-3.
        features: channels between the layers.
        norm: normalization of the middle layers; the paper's is `batch`.
        residual: predict the noise and subtract it (the paper), or predict the clean image.
        bias: a bias on every convolution, even if a norm makes it redundant. Without it the network has
            biases only if they stand in for a norm's shift.
        bn_momentum: weight of the new batch in the running statistics.
        bn_eps: added to the variance.
        recompute: `norm` computes norms and activations again in backward instead of keeping them (`recompute.py`);
            nothing to do for `none` and `weight`.
        init: initial weights, as in the authors' training code or another word of `init.py`.
    """

    residual: bool

    def __init__(
        self,
        channels: int = 1,
        depth: int = 17,
        features: int = 64,
        norm: Norm = "batch",
        residual: bool = True,
        bias: bool = False,
        bn_momentum: float = 0.1,
        bn_eps: float = 1e-5,
        recompute: Recompute = "none",
        init: DnCNNInit = "released",
    ) -> None:
        super().__init__()
        check_channels(channels)
        conv_norm = partial(ConvNorm, norm=norm, bn_momentum=bn_momentum, bn_eps=bn_eps, bias=bias)
        self.body = sequential(norm, recompute)(*plain_layers(self.inputs, channels, depth, features, conv_norm, bias))
        initialize(self, init)

    def forward(self, degraded: Tensor) -> Tensor:
        """(N, channels, H, W) degraded -> (N, channels, H, W) restored, both in [0, 1], unclamped."""
        prediction: Tensor = self.body(degraded)
        return degraded - prediction if self.residual else prediction


def plain_layers(
    inputs: int, outputs: int, depth: int, features: int, conv_norm: ConvNormFactory, bias: bool
) -> list[nn.Module]:
    """conv-ReLU, (depth - 2) x (conv-norm-ReLU), conv.

    Raises:
        ValueError: there are fewer than two convolutions.
    """
    if depth < 2:
        raise ValueError(f"depth must be at least 2, not {depth}")
    layers: list[nn.Module] = [conv(inputs, features, bias=bias), nn.ReLU(inplace=True)]
    for _ in range(depth - 2):
        layers += [conv_norm(features, features), nn.ReLU(inplace=True)]
    return [*layers, conv(features, outputs, bias=bias)]
