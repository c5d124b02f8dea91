"""How long commands take to start, against `import torch`: help, a wrong option, one small photograph restored.

Runs take turns, so that whatever else the machine does meets all; the best of each counts.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from restore.__main__ import COMMANDS
from restore.images.io import write_image
from restore.progress import progress
from restore.tables import print_table

TORCH = "import torch"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, default=3, help="runs of each (default: %(default)s)")


def run(args: argparse.Namespace) -> None:
    restore = [sys.executable, "-m", "restore"]
    with tempfile.TemporaryDirectory() as folder:
        photo = Path(folder, "photo.png")
        write_image(photo, np.random.default_rng(0).integers(0, 256, (64, 64, 1), np.uint8))
        started = {
            "python": [sys.executable, "-c", ""],
            TORCH: [sys.executable, "-c", TORCH],
            "import restore": [sys.executable, "-c", "import restore"],
            **{f"restore {name} --help": [*restore, name, "--help"] for name in COMMANDS},
            "restore infer --wrong": [*restore, "infer", "--wrong"],
            "restore infer, 64x64": [
                *(*restore, "infer", "--denoise", "25", "--precision", "fp32", "--backend", "torch", "--overwrite"),
                *("--input", str(photo), "--output", str(Path(folder, "out"))),
            ],
        }
        seconds: dict[str, list[float]] = {name: [] for name in started}
        for _ in progress(range(args.rounds), "Starting"):
            for name, command in started.items():
                seconds[name].append(_time(command))
    best = {name: min(times) for name, times in seconds.items()}
    rows = [
        {"command": name, "seconds": f"{time_s:.2f}", "of import torch": f"{time_s / best[TORCH]:.2f}"}
        for name, time_s in best.items()
    ]
    print_table(f"time to start, best of {args.rounds}", rows)


def _time(command: list[str]) -> float:
    since = time.perf_counter()
    subprocess.run(command, capture_output=True, check=False)
    return time.perf_counter() - since
