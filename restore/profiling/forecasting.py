"""The memory of a step that is not run."""

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from restore.choices import Quantity
from restore.profiling.caching_allocator import Block, CachingAllocator
from restore.profiling.memory import CONVOLUTIONS, Allocation, DeviceMemory, LayerMemory, Profile, peaks
from restore.profiling.step import Step, Trial
from restore.torch_internals import Ledger, storage_key, without_data

# Driver and kernels, estimated: 300 to 400 MB since CUDA 11.7 (pytorch/pytorch#107667, #109888). One H100 took 639 MiB.
CONTEXT = 400 * 2**20
REPLAYED_STEPS = 3  # after which a step reserves no more than the one before


def forecast(step: Step) -> Profile:
    """The memory of a step without running it. `compile` is not considered."""
    with without_data():
        trial = Trial(replace(step, compile=None), torch.device("cpu"))
        ledger = _Ledger()
        with ledger, ledger.following(trial.network):
            loss = trial.forward()
        forward_end = ledger.now
        layers = ledger.layers()
        with ledger:
            trial.backward(loss)
        ledger.forget(trial.state)  # made in the first step, which this is, but held in all others
        device = _on_gpu(trial, ledger.allocations)
        return Profile(step, "forecast", *peaks(ledger.allocations, forward_end, trial), layers, device)


def largest(step: Step, quantity: Quantity, budget: int, unit: int = 1) -> int:
    """The largest multiple of `unit` for which the forecast stays within `budget` bytes; 0 if none does.

    Between a size that fits and one that does not, the next to try is where a power law through both meets the budget.
    """

    def need(value: int) -> int:
        memory = forecast(step.having(quantity, value * unit)).memory
        assert memory is not None
        return memory.peak

    fits, held = 0, 0
    fails = max(1, step.value(quantity) // unit)
    while (needed := need(fails)) <= budget:
        fits, held = fails, needed
        fails = max(fits + 1, min(4 * fits, int(fits * budget / held)))
    while fails - fits > 1:
        guess = (fits + fails) // 2
        if held:
            guess = int(fits * (budget / held) ** (math.log(fails / fits) / math.log(needed / held)))
        guess = min(max(guess, fits + 1), fails - 1)
        try:
            found = need(guess)
        except ValueError:  # a network cannot be so small
            found = 0
        if found <= budget:
            fits, held = guess, found
        else:
            fails, needed = guess, found
    return fits * unit if held else 0


def _on_gpu(trial: Trial, allocations: Sequence[Allocation]) -> DeviceMemory:
    """What a GPU would show of steps with these allocations; the optimizer's state is born at the end of the first."""
    gpu = CachingAllocator()
    for tensor in (*trial.network.parameters(), *trial.network.buffers(), trial.degraded, trial.clean):
        gpu.allocate(tensor.nbytes)
    born = [(allocation.born, number) for number, allocation in enumerate(allocations)]
    died = [(allocation.died, number) for number, allocation in enumerate(allocations) if allocation.died is not None]
    for step in range(REPLAYED_STEPS):
        live: dict[int, Block] = {}
        for _, number in sorted(born + died):
            if number in live:
                gpu.release(live.pop(number))
            elif allocations[number].size:
                live[number] = gpu.allocate(allocations[number].size)
        for tensor in trial.state if step == 0 else ():
            gpu.allocate(tensor.nbytes)
        for gradient in live.values():
            gpu.release(gradient)
    return DeviceMemory(gpu.peak_allocated, gpu.reserved, gpu.reserved + CONTEXT)


class _Ledger(Ledger):
    """Lifetimes of all storages that are born within, and what each layer keeps of them."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        self.allocations: list[Allocation] = []
        self._live: dict[int, Allocation] = {}
        self._inside = [""]
        self._kinds: dict[str, tuple[str, tuple[int, ...]]] = {}
        self._keepers: dict[int, list[str]] = {}

    def born(self, key: int, size: int) -> None:
        self._live[key] = Allocation(size, self._tick(), layer=self._inside[-1])
        self.allocations.append(self._live[key])

    def died(self, key: int) -> None:
        self._live.pop(key).died = self._tick()
        self._keepers.pop(key, None)

    def called(self, operation: Any, inputs: tuple[Any, ...]) -> None:
        if operation in CONVOLUTIONS:
            born = self._tick()
            self.allocations.append(Allocation(_layout_copies(inputs[:2]), born, self._tick(), workspace=True))

    @contextmanager
    def following(self, network: nn.Module) -> Iterator[None]:
        """Note which layer gives birth to what, and which keep it."""
        handles = []
        for name, module in network.named_modules():
            handles.append(module.register_forward_pre_hook(partial(self._entered, name)))
            handles.append(module.register_forward_hook(partial(self._left, name)))
        try:
            with saved_tensors_hooks(self._kept, lambda tensor: tensor):
                yield
        finally:
            for handle in handles:
                handle.remove()

    def forget(self, tensors: Iterable[Tensor]) -> None:
        """Leave out what holds these tensors."""
        left_out = {id(self._live[storage_key(tensor)]) for tensor in tensors}
        self.allocations = [allocation for allocation in self.allocations if id(allocation) not in left_out]

    def layers(self) -> tuple[LayerMemory, ...]:
        """What each layer keeps at this moment, in the order of the forward pass."""
        saved: dict[str, int] = {}
        shared: dict[str, int] = {}
        for key, allocation in self._live.items():
            owner, *others = self._keepers.get(key, [allocation.layer])
            saved[owner] = saved.get(owner, 0) + allocation.size
            for other in others:
                shared[other] = shared.get(other, 0) + allocation.size
        found = self._kinds | {"": ("loss", ())}
        return tuple(
            LayerMemory(name, *found[name], saved.get(name, 0), shared.get(name, 0))
            for name in found
            if name in saved or name in shared
        )

    def _entered(self, name: str, module: nn.Module, args: Any) -> None:
        self._inside.append(name)
        self._kinds.setdefault(name, (type(module).__name__, ()))

    def _left(self, name: str, module: nn.Module, args: Any, output: Any) -> None:
        self._inside.pop()
        if isinstance(output, Tensor):
            self._kinds[name] = (type(module).__name__, tuple(output.shape))

    def _kept(self, tensor: Tensor) -> Tensor:
        key, layer = storage_key(tensor), self._inside[-1]
        if key in self._live and layer not in self._keepers.setdefault(key, []):
            self._keepers[key].append(layer)
        return tensor

    def _tick(self) -> int:
        self.now += 1
        return self.now


def _layout_copies(inputs: Sequence[Tensor]) -> int:
    return sum(t.nbytes for t in inputs if not t.is_contiguous(memory_format=torch.channels_last))
