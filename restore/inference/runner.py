"""What runs a network: the one interface of everything that restores tensors."""

from typing import Literal, Protocol

import torch
from torch import Tensor

from restore.errors import UserError

FloatPrecision = Literal["fp32", "bf16"]


class Runner(Protocol):
    """Maps degraded (N, inputs, H, W) float in [0, 1] to (N, channels, scale*H, scale*W), unclamped.

    A `RestorationNetwork` is one. Others wrap one: to run it on another backend, in tiles, or over eight orientations.

    Attributes:
        channels: 1 (gray) or 3 (RGB).
        scale: enlargement.
        inputs: channels that are read; one more than `channels` if the noise level is among them.
        multiple_of: H and W are multiples of this.
    """

    channels: int
    scale: int
    multiple_of: int

    @property
    def inputs(self) -> int: ...

    @property
    def device(self) -> torch.device:
        """Where its input is expected."""

    def __call__(self, degraded: Tensor) -> Tensor:
        """Restore a batch of images."""


class WrappedRunner:
    """What reads and gives images of the same kinds as another runner."""

    def __init__(self, other: Runner) -> None:
        self.channels = other.channels
        self.scale = other.scale
        self.multiple_of = other.multiple_of
        self._inputs = other.inputs

    @property
    def inputs(self) -> int:
        return self._inputs


class AtLevel(WrappedRunner):
    """A runner that is told the noise level, at one level: it reads images only.

    Args:
        runner: that reads the level as one more channel.
        level: standard deviation of the noise in the image's range of [0, 1].
    """

    def __init__(self, runner: Runner, level: float) -> None:
        super().__init__(runner)
        self._inputs = runner.channels
        self._runner = runner
        self._level = level

    @property
    def device(self) -> torch.device:
        return self._runner.device

    def __call__(self, degraded: Tensor) -> Tensor:
        """(N, channels, H, W) in [0, 1] -> (N, channels, scale*H, scale*W), unclamped."""
        return self._runner(torch.cat([degraded, torch.full_like(degraded[:, :1], self._level)], 1))


def at_level(runner: Runner, level: float | None) -> Runner:
    """A runner that reads images only, at this noise level if it is told one.

    Raises:
        UserError: it is told the level, and none is known.
    """
    if runner.inputs == runner.channels:
        return runner
    if level is None:
        raise UserError("this network takes the noise level of the image as input; set it with --sigma")
    return AtLevel(runner, level)
