"""FDnCNN: DnCNN that is told the noise level and gives the clean image, without normalization.

Zhang, Zuo, Zhang: FFDNet. IEEE TIP 2018, arXiv:1710.04026; the network is in the same authors' KAIR.
"""

from typing import Any

from restore.models.dncnn import DnCNN
from restore.models.init import DnCNNInit
from restore.models.norm import Norm


class FDnCNN(DnCNN):
    """DnCNN's layers on an image with its noise level as one more channel, which is sigma / 255 everywhere.

    Args:
        channels: 1 (gray) or 3 (RGB).
        depth: convolutions.
        features: channels between the layers.
        norm: normalization of the middle layers; the authors' is `none`.
        bias: a bias on every convolution, also if a norm makes it redundant.
        init: initial weights, a word of `init.py`.
        downscale: see `DnCNN`.
        **normalization: the other settings of `Normalization`.
    """

    def __init__(
        self,
        channels: int = 1,
        depth: int = 20,
        features: int = 64,
        norm: Norm = "none",
        bias: bool = True,
        init: DnCNNInit = "kair",
        downscale: int = 1,
        **normalization: Any,
    ) -> None:
        super().__init__(channels, depth, features, norm, False, bias, init, downscale, **normalization)

    @property
    def inputs(self) -> int:
        return self.channels + 1
