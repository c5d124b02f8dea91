"""What patches and minutes buy: the PSNR of DnCNN-17x64 on BSD68 at sigma 25 over both, each recipe a line.

Lines come from the records of `restore study contrast`: whole runs of several lengths, means over seeds, with the
minutes of one thread. Points come from weights files, the bundled ones and those of finished runs. The paper's network
has its published value.
"""

import argparse
import statistics
from collections.abc import Iterator
from pathlib import Path

from restore import bundled
from restore.benchmark import measure
from restore.checkpoint import Weights, load_weights
from restore.data.catalog import default_root, find_images
from restore.data.degradation import GaussianNoise
from restore.errors import UserError
from restore.hardware import keep_pages
from restore.inference import tiled
from restore.metrics import PROTOCOLS
from restore.report import plot_lines
from restore.studies.contrast import FULL, NORMS, SIZES, so_far
from restore.studies.curves import psnr
from restore.studies.requests import StudyRecords
from restore.tables import print_table

PAPER_PATCHES = 50 * 1600 * 128  # DnCNN-S of Zhang et al. 2017
PAPER_DB = 29.23
SIGMA = 25.0
BUNDLED = ("dncnn-gray-25", "dncnn-gray-25-nobn")

Row = tuple[str, int, float | None, float]  # recipe, patches, minutes, dB


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--contrast", type=Path, default=Path("docs/results/contrast"), help="folder of records.json")
    parser.add_argument("--weights", type=Path, nargs="+", default=[], help="of finished runs, beside the bundled ones")
    parser.add_argument("--root", type=Path, default=default_root(), help="where BSD68 lies")
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="PSNR over patches")


def run(args: argparse.Namespace) -> None:
    files = {
        model.name: model.weights for model in map(bundled.MODELS.get, BUNDLED) if model and model.weights.is_file()
    }
    rows = [*of_contrast(args.contrast), *of_weights(files | {path.stem: path for path in args.weights}, args.root)]
    rows.append(("the paper", PAPER_PATCHES, None, PAPER_DB))
    table = [
        {
            "recipe": name,
            "patches": f"{patches:,}",
            "minutes": "" if minutes is None else f"{minutes:.0f}",
            "BSD68 (dB)": f"{value:.2f}",
        }
        for name, patches, minutes, value in rows
    ]
    print_table("DnCNN, gray, sigma 25", table)
    if args.plot:
        lines: dict[str, list[tuple[float, float]]] = {}
        for name, patches, _, value in rows:
            lines.setdefault(name, []).append((patches, value))
        plot_lines(args.plot, lines, "patches", "PSNR on BSD68 (dB)")
        print(f"written: {args.plot}")


def of_contrast(folder: Path) -> Iterator[Row]:
    """Rounds that are complete, of all sizes; nothing if there are no records."""
    try:
        records = StudyRecords.load(folder / "records.json")
    except UserError as error:
        print(f"note: {error}")
        return
    found, _ = so_far(records)
    for size in SIZES:
        for norm in NORMS:
            for length in FULL.lengths:
                runs = found.runs.get(((size.name, norm), length))
                if runs:
                    minutes = statistics.fmean(run.step_s * run.steps / 60 for run in runs)
                    yield f"{size.name} {norm}", runs[0].steps * FULL.batch, minutes, psnr(runs).mean


def of_weights(files: dict[str, Path], root: Path) -> Iterator[Row]:
    """Networks for sigma 25, measured here unless the file says how they score."""
    keep_pages()
    for name, path in files.items():
        weights = load_weights(path)
        scored = [row for row in weights.results if row["model"] != GaussianNoise.baseline]
        known = (row["psnr"] for row in scored if (row["set"], row["sigma"]) == ("BSD68", SIGMA))
        score = next(known, None)
        if score is None:
            images = find_images("BSD68", "test", root)
            rows = measure({name: tiled(weights.network)}, images, GaussianNoise(SIGMA), PROTOCOLS["denoise-gray"], 1)
            score = rows[0].psnr
        yield name, patches_of(weights), minutes_of(weights), score


def patches_of(weights: Weights) -> int:
    training = weights.training
    return int(training["steps"]) * int(training["batch_size"])


def minutes_of(weights: Weights) -> float:
    return patches_of(weights) / float(weights.training["images_per_s"]) / 60
