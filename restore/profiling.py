"""Memory and time of a training step, from three sources that are never mixed up.

`forecast` needs no hardware: the step runs on tensors without data (FakeTensorMode), and a ledger follows every
storage from its birth to its death. `cpu` is a real step, read from the profiler's allocation events. `cuda` is a
real step after warm-up, read from the allocator's history.

All three yield lifetimes, and a lifetime tells the category: what is born in the forward pass and outlives it is an
activation kept for backward; what is born in backward and outlives the step is a gradient; what lives within one
convolution is the library's workspace; all else is temporary. The step is one of many: the optimizer has its state,
and there are no gradients at its start. The batch itself is not counted.

The forecast's workspace is an estimate: a copy of what goes in and of what comes out, as oneDNN makes them if
tensors are not channels-last.

What a GPU would show is forecast too: PyTorch's reserved memory, by the rules of its caching allocator, and what
nvidia-smi shows, with the estimate `CONTEXT` for CUDA's own. cuDNN's workspace is taken to be as large as oneDNN's.
"""

import math
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from functools import partial
from typing import Any, Literal, NamedTuple, assert_never

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.profiler import ProfilerActivity, profile, record_function
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from restore.caching_allocator import Block, CachingAllocator
from restore.choices import Quantity, StepPrecision
from restore.losses import find_loss
from restore.models import NetworkSpec, RestorationNetwork, build
from restore.optim import Optimization, state_tensors
from restore.torch_internals import (
    Ledger,
    activation_budget,
    profiled_events,
    record_allocations,
    recorded_allocations,
    storage_key,
    without_data,
)

Source = Literal["forecast", "cpu", "cuda"]

AUTOCAST: dict[StepPrecision, torch.dtype] = {"bf16-mixed": torch.bfloat16, "fp16-mixed": torch.float16}
# Driver and kernels, estimated: 300 to 400 MB since CUDA 11.7 (pytorch/pytorch#107667, #109888). One H100 took 639 MiB.
CONTEXT = 400 * 2**20
REPLAYED_STEPS = 3  # after which a step reserves no more than the one before
CONVOLUTIONS = (torch.ops.aten.convolution.default, torch.ops.aten.convolution_backward.default)


@dataclass(frozen=True)
class Step:
    """A training step.

    Attributes:
        network: what is trained, with all its arguments, as `RestorationNetwork.spec` gives it.
        batch: patches.
        patch: height and width of the network's input.
        loss: see `losses.py`.
        optimizer: see `Optimization`, as for `optimizer_args`.
        precision: `fp32`, or autocast to bfloat16 or float16.
        channels_last: memory format of weights and images.
        compile: None, or torch.compile with this share of activations that may be kept (1: as it likes).
    """

    network: NetworkSpec
    batch: int
    patch: int
    loss: str = Optimization.loss
    optimizer: str = Optimization.optimizer
    precision: StepPrecision = "fp32"
    channels_last: bool = False
    compile: float | None = None
    optimizer_args: Mapping[str, Any] = field(default_factory=dict)

    def having(self, quantity: Quantity, value: int) -> "Step":
        """The step with another batch or patch size, or a network of another width or depth."""
        match quantity:
            case "batch":
                return replace(self, batch=value)
            case "patch":
                return replace(self, patch=value)
            case "features" | "depth":
                name = "blocks" if quantity == "depth" and "blocks" in self.network.arguments else quantity
                spec = NetworkSpec(self.network.name, self.network.arguments | {name: value})
                return replace(self, network=spec)
            case _:
                assert_never(quantity)

    def value(self, quantity: Quantity) -> int:
        """The batch or patch size, or the width or depth of the network."""
        known: dict[str, int] = {"batch": self.batch, "patch": self.patch} | self.network.arguments
        return known["blocks" if quantity == "depth" and "blocks" in known else quantity]


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


def forecast(step: Step) -> Profile:
    """The memory of a step without running it. `compile` is not considered."""
    with without_data():
        trial = _Trial(replace(step, compile=None), torch.device("cpu"))
        ledger = _Ledger()
        with ledger, ledger.following(trial.network):
            loss = trial.forward()
        forward_end = ledger.now
        layers = ledger.layers()
        with ledger:
            trial.backward(loss)
        ledger.forget(trial.state)  # made in the first step, which this is, but held in all others
        device = _on_gpu(trial, ledger.allocations)
        return Profile(step, "forecast", *_peaks(ledger.allocations, forward_end, trial), layers, device)


def measure(step: Step, device: torch.device) -> Profile:
    """The memory of a real step."""
    return _measure_cuda(step, device) if device.type == "cuda" else _measure_cpu(step)


def measure_times(steps: Sequence[Step], device: torch.device, rounds: int = 5) -> list[list[float]]:
    """Seconds of each step in each round, after one to warm up; taking turns, so that rounds can be compared."""
    trials = [_Trial(step, device) for step in steps]
    times: list[list[float]] = [[] for _ in trials]
    for number in range(rounds + 1):
        for trial, elapsed in zip(trials, times, strict=True):
            start = time.perf_counter()
            trial.backward(trial.forward())
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            if number:
                elapsed.append(time.perf_counter() - start)
            trial.optimizer.zero_grad()
    return times


def flops(step: Step) -> int:
    """Floating-point operations of a step, with backward at twice the forward pass. Needs no hardware."""
    with without_data():
        trial = _Trial(replace(step, compile=None), torch.device("cpu"))
        with FlopCounterMode(display=False) as counter:
            trial.forward()
    total: int = counter.get_total_flops()
    return 3 * total


def reduced(step: Step, most: float) -> Step:
    """The step on fewer and, if one is still too much, smaller patches, so that it takes at most `most` FLOPs."""
    smaller = replace(step, batch=max(1, min(step.batch, int(step.batch * most / flops(step)))))
    excess = flops(smaller) / most
    return smaller if excess <= 1 else replace(smaller, patch=max(1, int(smaller.patch / excess**0.5)))


def time_ratio(times: Sequence[float], reference: Sequence[float]) -> float:
    """How many times as long one step takes as another, each round for itself: the median over rounds."""
    return statistics.median(own / other for own, other in zip(times, reference, strict=True))


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


class _Trial:
    """A network, its optimizer and a batch."""

    def __init__(self, step: Step, device: torch.device) -> None:
        form = torch.channels_last if step.channels_last else torch.contiguous_format
        self.step = step
        self.device = device
        self.network: RestorationNetwork = build(step.network)
        if device.type != "cpu":  # tensors without data cannot be moved
            self.network.to(device)
        for parameter in self.network.parameters():
            if parameter.dim() == 4:
                parameter.data = parameter.data.contiguous(memory_format=form)
        n, channels, size = step.batch, self.network.channels, step.patch
        self.degraded = torch.rand(n, self.network.inputs, size, size, device=device).to(memory_format=form)
        self.clean = torch.rand(n, channels, size * self.network.scale, size * self.network.scale, device=device)
        self._run: Callable[[Tensor], Tensor] = self.network
        if step.compile is not None:
            self._run = torch.compile(self.network)
        optim = Optimization(step.loss, step.optimizer, optimizer_args=dict(step.optimizer_args))
        self.optimizer = optim.optimizer_of(self.network, fused=False)

    def warm_up(self) -> None:
        """Take a step, so that the next is one of many."""
        self.backward(self.forward())
        self.optimizer.zero_grad()

    def forward(self) -> Tensor:
        dtype = AUTOCAST.get(self.step.precision)
        budget = 1.0 if self.step.compile is None else self.step.compile
        with (
            activation_budget(budget),
            torch.autocast(self.device.type, dtype, enabled=dtype is not None),
        ):
            restored = self._run(self.degraded)
        return find_loss(self.step.loss)(restored.float(), self.clean).mean()

    def backward(self, loss: Tensor) -> None:
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()

    @property
    def state(self) -> list[Tensor]:
        """The optimizer's."""
        return state_tensors(self.optimizer)

    @property
    def held(self) -> Memory:
        """What lives on from step to step: parameters with buffers, and the optimizer's state."""
        tensors = (*self.network.parameters(), *self.network.buffers())
        return Memory(parameters=sum(t.nbytes for t in tensors), optimizer=sum(t.nbytes for t in self.state))


@dataclass
class _Allocation:
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


def _peaks(allocations: Sequence[_Allocation], forward_end: int, trial: _Trial) -> tuple[Memory, int]:
    """What is held at the peak, and the bytes at the peak of tensors only."""
    tensors = [allocation for allocation in allocations if not allocation.workspace]
    return _at_peak(allocations, forward_end, trial), _at_peak(tensors, forward_end, trial).peak


def _at_peak(allocations: Sequence[_Allocation], forward_end: int, trial: _Trial) -> Memory:
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
    return replace(trial.held, **sizes)


def _on_gpu(trial: _Trial, allocations: Sequence[_Allocation]) -> DeviceMemory:
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


class _Ledger(Ledger):  # type: ignore[no-untyped-call]
    """Lifetimes of all storages that are born within, and what each layer keeps of them."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        self.allocations: list[_Allocation] = []
        self._live: dict[int, _Allocation] = {}
        self._inside = [""]
        self._kinds: dict[str, tuple[str, tuple[int, ...]]] = {}
        self._keepers: dict[int, list[str]] = {}

    def born(self, key: int, size: int) -> None:
        self._live[key] = _Allocation(size, self._tick(), layer=self._inside[-1])
        self.allocations.append(self._live[key])

    def died(self, key: int) -> None:
        self._live.pop(key).died = self._tick()
        self._keepers.pop(key, None)

    def called(self, operation: Any, inputs: tuple[Any, ...]) -> None:
        if operation in CONVOLUTIONS:
            born = self._tick()
            self.allocations.append(_Allocation(_layout_copies(inputs[:2]), born, self._tick(), workspace=True))

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


def _measure_cpu(step: Step) -> Profile:
    trial = _Trial(step, torch.device("cpu"))
    trial.warm_up()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as profiler:
        with record_function("forward"):
            loss = trial.forward()
        trial.backward(loss)
    roots = profiled_events(profiler)
    forward_end = next(root.end_time_ns for root in roots if root.name == "forward")
    return Profile(step, "cpu", *_peaks(_allocations(roots), forward_end, trial))


def _allocations(roots: Sequence[Any]) -> list[_Allocation]:
    """Lifetimes from the profiler's tree of events, in nanoseconds."""
    changes = []
    pending = [(root, None) for root in roots]
    while pending:
        event, convolution = pending.pop()
        if event.tag.name == "Allocation":
            changes.append((event.start_time_ns, event.extra_fields.ptr, event.extra_fields.alloc_size, convolution))
        elif convolution is None and "aten::" in event.name and "convolution" in event.name:
            convolution = event
        pending += [(child, convolution) for child in event.children]
    found = []
    live: dict[int, tuple[_Allocation, Any]] = {}
    for moment, address, size, convolution in sorted(changes, key=lambda change: change[0]):
        if size > 0:
            live[address] = _Allocation(size, moment), convolution
            found.append(live[address][0])
        elif address in live:
            allocation, origin = live.pop(address)
            allocation.died = moment
            allocation.workspace = origin is not None and origin is convolution
    return found


def _measure_cuda(step: Step, device: torch.device) -> Profile:
    torch.cuda.empty_cache()
    try:
        trial = _Trial(step, device)
        for _ in range(2):
            trial.warm_up()
        torch.cuda.reset_peak_memory_stats(device)
        record_allocations(True)
        with _Convolutions() as convolutions:
            loss = trial.forward()
            forward_end = _now_us()
            trial.backward(loss)
        torch.cuda.synchronize(device)
        trace = recorded_allocations(device)
    except torch.OutOfMemoryError:
        return Profile(step, "cuda", None)
    finally:
        record_allocations(False)
    free, total = torch.cuda.mem_get_info(device)
    allocated, reserved = torch.cuda.max_memory_allocated(device), torch.cuda.max_memory_reserved(device)
    peaks = _peaks(_traced_allocations(trace, convolutions.spans), forward_end, trial)
    return Profile(step, "cuda", *peaks, device=DeviceMemory(allocated, reserved, total - free))


class _Convolutions(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes when convolutions begin and end, in microseconds."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.spans: list[tuple[int, int]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        begin = _now_us()
        result = func(*args, **(kwargs or {}))
        if func in CONVOLUTIONS:
            self.spans.append((begin, _now_us()))
        return result


def _traced_allocations(trace: Sequence[dict[str, Any]], spans: Sequence[tuple[int, int]]) -> list[_Allocation]:
    """Lifetimes from the CUDA allocator's history, in microseconds."""
    found = []
    live: dict[int, _Allocation] = {}
    for entry in trace:
        if entry["action"] == "alloc":
            live[entry["addr"]] = _Allocation(entry["size"], entry["time_us"])
            found.append(live[entry["addr"]])
        elif entry["action"] == "free_completed" and entry["addr"] in live:
            allocation = live.pop(entry["addr"])
            allocation.died = entry["time_us"]
            begin, end = max((span for span in spans if span[0] <= allocation.born), default=(0, 0))
            allocation.workspace = begin <= allocation.born and allocation.died <= end
    return found


def _now_us() -> int:
    return time.time_ns() // 1000
