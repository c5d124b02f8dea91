"""FFDNet: a fast denoiser that is told the noise level and works at half the size, four pixels in one.

Zhang, Zuo, Zhang: FFDNet: Toward a Fast and Flexible Solution for CNN-Based Image Denoising. IEEE TIP 2018,
arXiv:1710.04026.
"""

from typing import Any

from torch import Tensor
from torch.nn import functional as F

from restore.models.fdncnn import FDnCNN

FACTOR = 2  # by which the image is made smaller, and its channels more


class FFDNet(FDnCNN):
    """FDnCNN on four pixels and their noise level at a time.

    Args:
        channels: 1 (gray) or 3 (RGB).
        depth: convolutions; 15 for gray, 12 for color images.
        features: channels between the layers; 64 for gray, 96 for color images.
        **plain: the other arguments of `FDnCNN`.
    """

    multiple_of = FACTOR

    def __init__(self, channels: int = 1, depth: int = 15, features: int = 64, **plain: Any) -> None:
        super().__init__(channels, depth, features, **plain)

    @property
    def _body_channels(self) -> tuple[int, int]:
        packed = FACTOR**2 * self.channels
        return packed + 1, packed

    def forward(self, degraded: Tensor) -> Tensor:
        """(N, channels + 1, H, W), the last the noise level / 255 -> (N, channels, H, W) restored, unclamped.

        H and W are even.
        """
        packed = F.pixel_unshuffle(degraded, FACTOR)[:, : FACTOR**2 * self.channels + 1]
        return F.pixel_shuffle(self.body(packed), FACTOR)
