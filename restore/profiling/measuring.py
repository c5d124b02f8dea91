"""The memory and the time of a step that is run."""

import statistics
import time
from collections.abc import Sequence
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from restore.profiling.memory import CONVOLUTIONS, Allocation, DeviceMemory, Profile, peaks
from restore.profiling.step import Step, Trial
from restore.torch_internals import Operations, profiled_events, record_allocations, recorded_allocations


def measure(step: Step, device: torch.device) -> Profile:
    """The memory of a real step."""
    return _measure_cuda(step, device) if device.type == "cuda" else _measure_cpu(step)


def measure_times(steps: Sequence[Step], device: torch.device, rounds: int = 5) -> list[list[float]]:
    """Seconds of each step in each round, after one to warm up; taking turns, so that rounds can be compared."""
    trials = [Trial(step, device) for step in steps]
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


def time_ratio(times: Sequence[float], reference: Sequence[float]) -> float:
    """How many times as long one step takes as another, each round for itself: the median over rounds."""
    return statistics.median(own / other for own, other in zip(times, reference, strict=True))


def _measure_cpu(step: Step) -> Profile:
    trial = Trial(step, torch.device("cpu"))
    trial.warm_up()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as profiler:
        with record_function("forward"):
            loss = trial.forward()
        trial.backward(loss)
    roots = profiled_events(profiler)
    forward_end = next(root.end_time_ns for root in roots if root.name == "forward")
    return Profile(step, "cpu", *peaks(_allocations(roots), forward_end, trial))


def _allocations(roots: Sequence[Any]) -> list[Allocation]:
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
    live: dict[int, tuple[Allocation, Any]] = {}
    for moment, address, size, convolution in sorted(changes, key=lambda change: change[0]):
        if size > 0:
            live[address] = Allocation(size, moment), convolution
            found.append(live[address][0])
        elif address in live:
            allocation, origin = live.pop(address)
            allocation.died = moment
            allocation.workspace = origin is not None and origin is convolution
    return found


def _measure_cuda(step: Step, device: torch.device) -> Profile:
    torch.cuda.empty_cache()
    try:
        trial = Trial(step, device)
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
    at_peak = peaks(_traced_allocations(trace, convolutions.spans), forward_end, trial)
    return Profile(step, "cuda", *at_peak, device=DeviceMemory(allocated, reserved, total - free))


class _Convolutions(Operations):
    """Notes when convolutions begin and end, in microseconds."""

    def __init__(self) -> None:
        super().__init__()
        self.spans: list[tuple[int, int]] = []

    def run(self, operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        begin = _now_us()
        result = super().run(operation, args, kwargs)
        if operation in CONVOLUTIONS:
            self.spans.append((begin, _now_us()))
        return result


def _traced_allocations(trace: Sequence[dict[str, Any]], spans: Sequence[tuple[int, int]]) -> list[Allocation]:
    """Lifetimes from the CUDA allocator's history, in microseconds."""
    found = []
    live: dict[int, Allocation] = {}
    for entry in trace:
        if entry["action"] == "alloc":
            live[entry["addr"]] = Allocation(entry["size"], entry["time_us"])
            found.append(live[entry["addr"]])
        elif entry["action"] == "free_completed" and entry["addr"] in live:
            allocation = live.pop(entry["addr"])
            allocation.died = entry["time_us"]
            begin, end = max((span for span in spans if span[0] <= allocation.born), default=(0, 0))
            allocation.workspace = begin <= allocation.born and allocation.died <= end
    return found


def _now_us() -> int:
    return time.time_ns() // 1000
