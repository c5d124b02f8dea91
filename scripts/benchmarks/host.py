"""What a training step costs beside the network: ours with Lightning against a bare loop.

The network has two layers and the patches are few and small, so that what remains is the work of Python, of the loaders
and of launching kernels, which a fast GPU waits for. The bare loop has the same patches, noise, loss, fused Adam and
schedule. On a CPU, of which one thread is used, the time is the processor's own, which other programs hardly change; on
a GPU that of the clock.
"""

import argparse
import json
import os
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import torch

from benchmarks.train import Batches, Ours, bare
from benchmarks.turns import Work, take_turns
from restore.files import write_atomically
from restore.hardware import Hardware
from restore.models import NetworkSpec, complete
from restore.profiling import Step
from restore.provenance import provenance
from restore.tables import print_table

STEPS = 50  # at a time; one of them is logged


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--patch", type=int, default=16)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seconds", type=float, default=5, help="of measuring each variant")
    parser.add_argument("--rounds", type=int, default=5, help="in which variants take turns")
    parser.add_argument("--json", type=Path)


def run(args: argparse.Namespace) -> None:
    spec = complete(NetworkSpec("DnCNN", {"depth": 2, "features": 8}))
    step = Step(spec, args.batch, args.patch, "half_squared_error")
    variants: dict[str, tuple[Any, ...]] = {
        "bare loop": (repeated, bare, step, args.device),
        "of which drawing patches": (repeated, drawing, step, args.device, False),
        "drawing and degrading": (repeated, drawing, step, args.device, True),
        "restore.train": (Ours, step, args.device, Hardware(), STEPS),
    }
    os.environ["OMP_NUM_THREADS"] = "1"  # threads that wait for work count as processor time
    clock = time.process_time if args.device == "cpu" else time.perf_counter
    found = take_turns(variants, args.seconds, args.rounds, clock)
    table = []
    for name, measured in found.items():
        ratio, low, high = found["bare loop"].ratio(measured)
        table.append({
            "variant": name,
            "ms/step": f"{1e3 * measured.median / STEPS:.2f}",
            "x bare loop": f"{ratio:.2f} ({low:.2f} to {high:.2f})",
        })  # fmt: skip
    kind = "processor time" if args.device == "cpu" else "time"
    title = f"host: {kind} of a step of 2 layers, batch {args.batch}, {args.patch}x{args.patch}, {args.device}"
    print_table(title, table)
    if args.json:
        document = {
            "title": title,
            "rows": table,
            "seconds": {name: [s / STEPS for s in m.seconds] for name, m in found.items()},
        }
        write_atomically(
            args.json, json.dumps(document | {"provenance": provenance(torch.device(args.device))}, indent=1)
        )


def repeated(prepare: Callable[..., Work], *arguments: Any) -> Work:
    """As many steps at once as ours takes, whose thread has to be woken each time."""
    work = prepare(*arguments)

    def steps() -> None:
        for _ in range(STEPS):
            work()

    return steps


def drawing(step: Step, device: str, degrade: bool) -> Work:
    """A batch of patches, degraded if asked for."""
    batches, numbers = Batches(step, device), count()

    def work() -> None:
        batch = batches.drawn(next(numbers))
        if degrade:
            batches.degraded(batch)

    return work
