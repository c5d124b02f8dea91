"""Quality against speed: what each way to denoise by a command gives on a test set, and how fast it is.

Each row is a command of `restore infer`: its PSNR is that of whole test images at sigma 25 under the papers' protocol,
its speed that of one large image once it is read. Speeds are compared in turns, as ratios to the first row.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import torch

from benchmarks.turns import take_turns
from restore import bundled, runner_options
from restore.benchmark import measure
from restore.checkpoint import load_weights
from restore.choices import InferencePrecision, ProtocolName
from restore.data.catalog import default_root, find_images
from restore.data.degradation import GaussianNoise
from restore.hardware import gains_from_bf16, keep_pages
from restore.images.content import Content
from restore.inference import Runner, restore_tensor
from restore.metrics import PROTOCOLS
from restore.report import plot_lines
from restore.tables import print_table

SIGMA = 25.0
TESTS: dict[Content, tuple[str, ProtocolName]] = {
    "gray": ("BSD68", "denoise-gray"),
    "color": ("CBSD68", "denoise-rgb"),
}


@dataclass(frozen=True)
class Way:
    """One command for images of a content; `level` is given to it, or not."""

    content: Content
    level: float | None
    fast: bool
    precision: InferencePrecision

    @property
    def model(self) -> bundled.BundledModel:
        return bundled.denoiser(self.level, self.content, self.fast)

    @property
    def command(self) -> str:
        level = "" if self.level is None else f" {self.level:g}"
        return f"--denoise{level}{' --fast' if self.fast else ''} --precision {self.precision}"

    def runner(self, root: Path) -> Runner:
        path, options = self.model.weights, runner_options.Options(precision=self.precision)
        return runner_options.runner(options, path, load_weights(path), root)[0]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--content", choices=TESTS, default="gray", help="of the images (default: %(default)s)")
    parser.add_argument("--size", default="1200x1600", help="of the image that is timed (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=20.0, help="for each way")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--root", type=Path, default=default_root(), help="where the test set lies")
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="PSNR over megapixels a second")


def run(args: argparse.Namespace) -> None:
    keep_pages()
    height, width = map(int, args.size.split("x"))
    ways = _ways(args.content)
    name, protocol = TESTS[args.content]
    images = find_images(name, "test", args.root)
    runners = {way.command: way.runner(args.root) for way in ways}
    channels = ways[0].model.channels
    rows = measure(runners, images, GaussianNoise(SIGMA), PROTOCOLS[protocol], channels)
    found = {row.model: row.psnr for row in rows}
    print(f"{name} is measured; now speeds", flush=True)
    del runners
    times = take_turns({way.command: (_work, way, args.root, height, width) for way in ways}, args.seconds, args.rounds)
    table: list[dict[str, str]] = []
    lines: dict[str, list[tuple[float, float]]] = {}
    for way in ways:
        taken = times[way.command]
        ratio, low, high = taken.ratio(times[ways[0].command])
        speed = height * width / 1e6 / taken.median
        lines.setdefault(way.model.name, []).append((speed, found[way.command]))
        table.append({
            "restore infer": way.command,
            "network": way.model.name,
            f"{name}, sigma {SIGMA:g} (dB)": f"{found[way.command]:.2f}",
            "megapixels/s": f"{speed:.2f}",
            "x the first": f"{ratio:.2f} ({low:.2f} to {high:.2f})",
        })  # fmt: skip
    print_table(f"{args.content} images of {width}x{height}, {torch.get_num_threads()} threads", table)
    if args.plot:
        plot_lines(args.plot, lines, "megapixels a second", f"PSNR on {name} (dB)")
        print(f"written: {args.plot}")


def _ways(content: Content) -> list[Way]:
    """Each network that `--denoise` may take for this content, at each precision; of equal ones the first."""
    precisions: list[InferencePrecision] = (
        ["fp32", "bf16", "int8"] if gains_from_bf16(torch.device("cpu")) else ["fp32", "int8"]
    )
    ways: dict[tuple[str, InferencePrecision], Way] = {}
    for (level, fast), precision in product(((SIGMA, False), (None, False), (SIGMA, True)), precisions):
        way = Way(content, level, fast, precision)
        ways.setdefault((way.model.name, precision), way)
    return list(ways.values())


def _work(way: Way, root: Path, height: int, width: int) -> Callable[[], None]:
    keep_pages()
    runner = way.runner(root)
    image = torch.rand(1, runner.channels, height, width, generator=torch.Generator().manual_seed(0))

    def work() -> None:
        restore_tensor(runner, image)

    return work
