"""What every restoration network has in common: a contract and a specification that rebuilds it."""

import inspect
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from restore.models.norm import Norm


@dataclass(frozen=True)
class NetworkSpec:
    """A network's class name and constructor arguments: all that rebuilds it but for its weights."""

    name: str
    arguments: dict[str, Any]


class RestorationNetwork(nn.Module, ABC):
    """Maps a degraded image (N, channels, H, W), RGB or gray in [0, 1], to (N, channels, scale*H, scale*W).

    The output is not clamped. Each constructor argument is kept as an attribute of the same name.
    """

    channels: int
    scale: int
    norm: Norm

    @abstractmethod
    def forward(self, degraded: Tensor) -> Tensor:
        """Restore a batch of images."""

    @property
    def all_scales(self) -> tuple[int, ...]:
        """The scales that it is made for."""
        return (self.scale,)

    def at(self, scale: int) -> Self:
        """This network working at another of its scales; both share their weights.

        Raises:
            ValueError: it is not made for `scale`.
        """
        if scale != self.scale:
            raise ValueError(f"scale must be {self.scale}, not {scale}")
        return self

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    @property
    def spec(self) -> NetworkSpec:
        names = list(inspect.signature(type(self)).parameters)
        return NetworkSpec(type(self).__name__, {name: getattr(self, name) for name in names})


def check_channels(channels: int) -> None:
    """Raise ValueError unless `channels` is 1 (gray) or 3 (RGB)."""
    if channels not in (1, 3):
        raise ValueError(f"channels must be 1 (gray) or 3 (RGB), not {channels}")
