"""What runs a network: the one interface of everything that restores tensors."""

from typing import Literal, Protocol

import torch
from torch import Tensor

Floating = Literal["fp32", "bf16"]


class Runner(Protocol):
    """Maps degraded (N, channels, H, W) float in [0, 1] to (N, channels, scale*H, scale*W), unclamped.

    A `RestorationNetwork` is one. Others wrap one: to run it on another backend, in tiles, or over eight orientations.

    Attributes:
        channels: 1 (gray) or 3 (RGB).
        scale: enlargement.
    """

    channels: int
    scale: int

    @property
    def device(self) -> torch.device:
        """Where its input is expected."""

    def __call__(self, degraded: Tensor) -> Tensor:
        """Restore a batch of images."""
