"""FFDNet: a fast denoiser that is told the noise level and works at half the size, four pixels in one.

Zhang, Zuo, Zhang: FFDNet: Toward a Fast and Flexible Solution for CNN-Based Image Denoising. IEEE TIP 2018,
arXiv:1710.04026.
"""

from typing import Any

from restore.models.fdncnn import FDnCNN

DOWNSCALE = 2


class FFDNet(FDnCNN):
    """FDnCNN on four pixels and their noise level at a time.

    Args:
        channels: 1 (gray) or 3 (RGB).
        depth: convolutions; 15 for gray, 12 for color images.
        features: channels between the layers; 64 for gray, 96 for color images.
        downscale: pixels a side that the layers see as one.
        **plain: the other arguments of `FDnCNN`.
    """

    def __init__(
        self, channels: int = 1, depth: int = 15, features: int = 64, downscale: int = DOWNSCALE, **plain: Any
    ) -> None:
        super().__init__(channels, depth, features, downscale=downscale, **plain)
