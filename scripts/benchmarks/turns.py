"""Variants in processes of their own, of which one works at a time: compared within a round, whatever else goes on."""

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

Work = Callable[[], None]


@dataclass
class Measured:
    """Of one variant.

    Attributes:
        seconds: of one piece of work, by round.
        peak_rss_mib: of its process.
        anonymous_mib: of that, what is no mapped file, at the end.
        peak_cuda_mib: allocated on the GPU; 0 without one.
    """

    seconds: list[float] = field(default_factory=list)
    peak_rss_mib: float = 0.0
    anonymous_mib: float = 0.0
    peak_cuda_mib: float = 0.0

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    def ratio(self, reference: "Measured") -> tuple[float, float, float]:
        """How many times as fast as the reference: median over rounds, lowest, highest."""
        ratios = sorted(theirs / own for own, theirs in zip(self.seconds, reference.seconds, strict=True))
        return statistics.median(ratios), ratios[0], ratios[-1]


def take_turns(variants: Mapping[str, tuple[Any, ...]], seconds: float, rounds: int = 5) -> dict[str, Measured]:
    """Measure variants against each other.

    Args:
        variants: by name, a function that prepares the work, and its arguments; it returns what does it once.
        seconds: that each variant works for, all rounds together.
        rounds: of turns.
    """
    context = multiprocessing.get_context("spawn")
    workers = {}
    for name, (prepare, *arguments) in variants.items():
        ours, theirs = context.Pipe()
        process = context.Process(target=_worker, args=(theirs, prepare, arguments), daemon=True)
        process.start()
        ours.recv()  # ready: prepared one after the other, so that none disturbs another
        workers[name] = (process, ours)
    found = {name: Measured() for name in variants}
    for _ in range(rounds):
        for name, (_, pipe) in workers.items():
            pipe.send(seconds / rounds)
            found[name].seconds.append(pipe.recv())
    for name, (process, pipe) in workers.items():
        pipe.send(None)
        found[name].peak_rss_mib, found[name].anonymous_mib, found[name].peak_cuda_mib = pipe.recv()
        process.join()
    return found


def _worker(pipe: Connection, prepare: Callable[..., Work], arguments: tuple[Any, ...]) -> None:
    work = prepare(*arguments)
    for _ in range(2):
        work()
    _wait()
    pipe.send("ready")
    while (seconds := pipe.recv()) is not None:
        done, start = 0, time.perf_counter()
        while done == 0 or time.perf_counter() - start < seconds:
            work()
            _wait()
            done += 1
        pipe.send((time.perf_counter() - start) / done)
    cuda = torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else 0.0
    pipe.send((_memory_mib("VmHWM"), _memory_mib("RssAnon"), cuda))


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
