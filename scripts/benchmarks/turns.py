"""Variants in processes of their own, of which one works at a time: compared within a round, whatever else goes on."""

import ctypes
import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from restore.hardware import keeps_pages

Work = Callable[[], None]
Clock = Callable[[], float]


@dataclass
class Measured:
    """Of one variant.

    Attributes:
        seconds: of one piece of work, by round, on the clock that was asked for.
        peak_rss_mib: of its process.
        anonymous_mib: of that, what is no mapped file, at the end.
        work_mib: how much of the peak the work took beyond what was resident before it.
        peak_cuda_mib: allocated on the GPU; 0 without one.
    """

    seconds: list[float] = field(default_factory=list)
    peak_rss_mib: float = 0.0
    anonymous_mib: float = 0.0
    work_mib: float = 0.0
    peak_cuda_mib: float = 0.0

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    def ratio(self, reference: "Measured") -> tuple[float, float, float]:
        """How many times as fast as the reference: median over rounds, lowest, highest."""
        ratios = sorted(theirs / own for own, theirs in zip(self.seconds, reference.seconds, strict=True))
        return statistics.median(ratios), ratios[0], ratios[-1]


def take_turns(
    variants: Mapping[str, tuple[Any, ...]], seconds: float, rounds: int = 5, clock: Clock = time.perf_counter
) -> dict[str, Measured]:
    """Measure variants against each other.

    Args:
        variants: by name, a function that prepares the work, and its arguments; it returns what does it once.
        seconds: that each variant works for, all rounds together.
        rounds: of turns.
        clock: what seconds are read from; `time.process_time` counts this process's own, whatever else runs.
    """
    context = multiprocessing.get_context("spawn")
    workers = {}
    for name, (prepare, *arguments) in variants.items():
        ours, theirs = context.Pipe()
        process = context.Process(target=_worker, args=(theirs, prepare, arguments, clock), daemon=True)
        process.start()
        theirs.close()  # a worker that fails then ends the pipe: EOFError here instead of waiting for ever
        workers[name] = (process, ours)
    for _, pipe in workers.values():
        pipe.recv()  # ready
    found = {name: Measured() for name in variants}
    for _ in range(rounds):
        for name, (_, pipe) in workers.items():
            pipe.send(seconds / rounds)
            found[name].seconds.append(pipe.recv())
    for name, (process, pipe) in workers.items():
        pipe.send(None)
        measured = found[name]
        measured.peak_rss_mib, measured.anonymous_mib, measured.work_mib, measured.peak_cuda_mib = pipe.recv()
        process.join()
    return found


def _worker(pipe: Connection, prepare: Callable[..., Work], arguments: tuple[Any, ...], clock: Clock) -> None:
    work = prepare(*arguments)
    before = _forget_peak()
    for _ in range(2):
        work()
    _wait()
    pipe.send("ready")
    while (seconds := pipe.recv()) is not None:
        done, start = 0, clock()
        while done == 0 or clock() - start < seconds:
            work()
            _wait()
            done += 1
        pipe.send((clock() - start) / done)
    cuda = torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else 0.0
    peak = _memory_mib("VmHWM")
    pipe.send((peak, _memory_mib("RssAnon"), peak - before, cuda))


def _forget_peak() -> float:
    """MiB resident now, with freed pages given back; what the process took at its peak so far is forgotten."""
    if keeps_pages():
        ctypes.CDLL(None).malloc_trim(0)
    reset = Path("/proc/self/clear_refs")
    if reset.exists():
        reset.write_text("5")
    return _memory_mib("VmHWM")


def _memory_mib(name: str) -> float:
    """Of this process alone: `getrusage` knows the peak of the parent too, from before `exec`."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    line = next(line for line in status.read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) / 2**10


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
