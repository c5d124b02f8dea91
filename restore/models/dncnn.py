"""DnCNN: a plain denoiser with residual learning and batch normalization.

Zhang, Zuo, Chen, Meng, Zhang: Beyond a Gaussian Denoiser. IEEE TIP 2017, arXiv:1608.03981.
"""

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from restore.models.init import DnCNNInit, initialize
from restore.models.network import RestorationNetwork
from restore.models.norm import ConvNorm, Norm, Normalization, conv
from restore.models.recompute import sequential


class DnCNN(RestorationNetwork):
    """conv-ReLU, (depth - 2) x (conv-norm-ReLU), conv; 3x3 throughout, receptive field (2 depth + 1)^2 x downscale^2.

    Args:
        channels: 1 (gray) or 3 (RGB).
        depth: convolutions; 17 for a known noise level, 20 for blind, color and DnCNN-3.
        features: channels between the layers.
        norm: normalization of the middle layers; the paper's is `batch`.
        residual: predict the noise and subtract it (the paper), or predict the clean image.
        bias: a bias on every convolution, even if a norm makes it redundant. Without it the network has
            biases only if they stand in for a norm's shift.
        downscale: the layers work at 1 / `downscale` of the height and width, with the pixels of a square as channels
            (FFDNet's reversible downsampling, with 2): as many times less work as a square has pixels. H and W are
            multiples of it.
        init: initial weights, as in the authors' training code or another word of `init.py`.
        **normalization: the other settings of `Normalization`.
    """

    features: int
    residual: bool
    bias: bool
    downscale: int

    def __init__(
        self,
        channels: int = 1,
        depth: int = 17,
        features: int = 64,
        norm: Norm = "batch",
        residual: bool = True,
        bias: bool = False,
        init: DnCNNInit = "released",
        downscale: int = 1,
        **normalization: Any,
    ) -> None:
        super().__init__()
        if depth < 2:
            raise ValueError(f"depth must be at least 2, not {depth}")
        if downscale < 1:
            raise ValueError(f"downscale must be at least 1, not {downscale}")
        self.multiple_of = downscale
        chosen = self.normalization(norm, **normalization)
        inputs, outputs = self._body_channels
        layers = [conv(inputs, features, bias=bias), self._activation()]
        for _ in range(depth - 2):
            layers += self._middle_layer(chosen)
        self.body = sequential(chosen)(*layers, conv(features, outputs, bias=bias))
        initialize(self, init)

    def _activation(self) -> nn.Module:
        return nn.ReLU(inplace=True)

    def _middle_layer(self, normalization: Normalization) -> list[nn.Module]:
        """A convolution with its norm, and what follows."""
        return [ConvNorm(self.features, self.features, normalization, bias=self.bias), self._activation()]

    @property
    def _body_channels(self) -> tuple[int, int]:
        """Channels that the first convolution reads and the last one makes."""
        pixels = self.downscale**2
        return pixels * self.channels + self.inputs - self.channels, pixels * self.channels

    def forward(self, degraded: Tensor) -> Tensor:
        """(N, inputs, H, W) degraded -> (N, channels, H, W) restored, both in [0, 1], unclamped."""
        prediction: Tensor = self.body(degraded) if self.downscale == 1 else self._downscaled(degraded)
        return degraded - prediction if self.residual else prediction

    def _downscaled(self, degraded: Tensor) -> Tensor:
        """The body's prediction from squares of pixels; of a noise level, which is the same in all, one is enough."""
        packed = F.pixel_unshuffle(degraded, self.downscale)[:, : self._body_channels[0]]
        return F.pixel_shuffle(self.body(packed), self.downscale)
