"""What a step takes of memory, and the peak of what lives and dies in it."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Literal, NamedTuple

import torch

from restore.profiling.step import Step, Trial

Source = Literal["forecast", "cpu", "cuda"]

CONVOLUTIONS = (torch.ops.aten.convolution.default, torch.ops.aten.convolution_backward.default)


@dataclass(frozen=True)
class Memory:
    """What is held at the moment of the peak, in bytes."""

    parameters: int = 0
    gradients: int = 0
    optimizer: int = 0
    activations: int = 0
    temporaries: int = 0
    workspace: int = 0

    @property
    def peak(self) -> int:
        return sum(getattr(self, category.name) for category in fields(self))


class LayerMemory(NamedTuple):
    """What a layer keeps for backward.

    Attributes:
        name: as in the state dict.
        kind: class of the layer.
        shape: of its output.
        saved: bytes kept.
        shared: bytes it needs as well, but that another layer has kept already.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    saved: int
    shared: int


class DeviceMemory(NamedTuple):
    """What CUDA says of the step, or would say by the forecast, in bytes: peaks of allocated and reserved memory, and
    memory in use on the whole device, as nvidia-smi shows it."""

    allocated: int
    reserved: int
    used: int


@dataclass(frozen=True)
class Profile:
    """A step's memory.

    Attributes:
        step: what was measured.
        source: where the figures come from.
        memory: None if the device has too little.
        tensors: bytes at the peak of tensors only, without the workspace, which depends on the library.
        layers: by layer, of a forecast.
        device: of a CUDA step or a forecast.
    """

    step: Step
    source: Source
    memory: Memory | None
    tensors: int | None = None
    layers: tuple[LayerMemory, ...] = ()
    device: DeviceMemory | None = None


@dataclass
class Allocation:
    """`born` and `died` are moments; `died` is None for what outlives the step."""

    size: int
    born: int
    died: int | None = None
    workspace: bool = False
    layer: str = ""

    def category(self, forward_end: int) -> str:
        if self.workspace:
            return "workspace"
        if self.born <= forward_end:
            return "activations" if self.died is None or self.died > forward_end else "temporaries"
        return "gradients" if self.died is None else "temporaries"


def peaks(allocations: Sequence[Allocation], forward_end: int, trial: Trial) -> tuple[Memory, int]:
    """What is held at the peak, and the bytes at the peak of tensors only."""
    tensors = [allocation for allocation in allocations if not allocation.workspace]
    return _at_peak(allocations, forward_end, trial), _at_peak(tensors, forward_end, trial).peak


def _at_peak(allocations: Sequence[Allocation], forward_end: int, trial: Trial) -> Memory:
    changes = [(a.born, a.size) for a in allocations] + [(a.died, -a.size) for a in allocations if a.died is not None]
    total, highest, peak = 0, 0, 0
    for moment, change in sorted(changes):
        total += change
        if total > highest:
            highest, peak = total, moment
    sizes: dict[str, int] = {}
    for a in allocations:
        if a.born <= peak and (a.died is None or a.died > peak):
            category = a.category(forward_end)
            sizes[category] = sizes.get(category, 0) + a.size
    return replace(_held(trial), **sizes)


def _held(trial: Trial) -> Memory:
    """What lives on from step to step: parameters with buffers, and the optimizer's state."""
    tensors = (*trial.network.parameters(), *trial.network.buffers())
    return Memory(parameters=sum(t.nbytes for t in tensors), optimizer=sum(t.nbytes for t in trial.state))
