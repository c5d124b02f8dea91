"""python -m restore.evaluate: weights x test sets -> a table of PSNR and SSIM."""

import argparse
import json
import math
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from restore import bundled, command, running
from restore.benchmark import Outcome, Show, default_protocol, measure, score_folder
from restore.bundled.card import results_table, tier, write_between_markers
from restore.checkpoint import Weights
from restore.compat import load_any
from restore.data.catalog import NAMES, default_root, find_images
from restore.data.degradation import Bicubic, BicubicBlur, Degradation, GaussianNoise, Jpeg
from restore.data.pairs import NOISE_SEED, ImagePair
from restore.errors import UserError
from restore.images.io import IMAGE_SUFFIXES, check_writable, read_image, write_atomically
from restore.images.tensors import to_image
from restore.inference import Runner
from restore.metrics import PROTOCOLS, Row
from restore.page import ComparisonPage
from restore.provenance import provenance
from restore.ranks import Ranks, ranks_of_torchrun
from restore.report import Panel, comparison, contact_sheet, print_rows, write_csv

BASELINES = ("noisy", "bicubic")
STDOUT = Path("-")
ANY_CHANNELS = 0  # of a baseline alone: gray sets in gray, others in colour

EXAMPLES = f"""examples:
  python -m restore.evaluate --weights runs/quickstart/weights.safetensors --data photos --sigma 15 25 50
  python -m restore.evaluate --weights edsr.safetensors edsr_bn.safetensors --data Set5 B100 --json scores.json
  python -m restore.evaluate --model dncnn-gray-25 --data BSD68 --root DATA
  python -m restore.evaluate --weights bicubic --scale 2 --data B100 --root DATA
  torchrun --nproc-per-node 4 -m restore.evaluate --weights edsr.safetensors --data Urban100
  python -m restore.evaluate --restored out/ --reference Set5/HR --protocol sr-y --scale 2
  python -m restore.evaluate --all-bundled README.md --root DATA

bundled models: {", ".join(bundled.MODELS)}
known data sets: {", ".join(NAMES)}; or any folder
"""


def main(argv: list[str] | None = None) -> int:
    parser = command.ArgumentParser("restore.evaluate", "Measure networks by the papers' protocols.", EXAMPLES)
    parser.add_argument("--weights", nargs="+", default=[], help="weights files, `noisy` or `bicubic`")
    parser.add_argument("--model", nargs="+", default=[], metavar="NAME", help="bundled models")
    parser.add_argument("--data", nargs="+", default=[], help="test sets: known names or folders")
    parser.add_argument(
        "--root", type=command.path, default=default_root(), help="where known sets lie (default: %(default)s)"
    )
    parser.add_argument("--sigma", type=float, nargs="+", default=[], help="noise levels, 0-255 (default: as trained)")
    parser.add_argument("--quality", type=int, nargs="+", default=[], help="JPEG qualities")
    parser.add_argument("--scale", type=int, nargs="+", default=[], help="scales, for `bicubic` and DnCNN-3")
    parser.add_argument("--protocol", choices=PROTOCOLS, help="default: the papers' for each test set")
    parser.add_argument("--restored", type=command.path, help="score these images instead of restoring any")
    parser.add_argument("--reference", type=command.path, help="the true images for --restored, of the same names")
    parser.add_argument(
        "--all-bundled",
        nargs="?",
        type=command.path,
        const=STDOUT,
        metavar="FILE.md",
        help="measure all bundled models on their test sets and print the table, or write it between FILE's markers",
    )
    parser.add_argument("--json", type=command.path, help="write the rows with every image's scores")
    parser.add_argument("--csv", type=command.path, help="write the rows")
    parser.add_argument("--sheet", type=command.path, help="write a PNG contact sheet: degraded, restored, truth")
    parser.add_argument(
        "--report", type=command.path, metavar="FILE.html", help="write a page with sliders: degraded, restored, truth"
    )
    running.add_arguments(parser, precision="fp32")
    args = parser.parse_args(argv)
    if args.all_bundled:
        others = "weights", "model", "data", "restored", "reference", "json", "csv", "sheet", "report"
        if given := [name for name in others if getattr(args, name)]:
            parser.error(f"--all-bundled goes without --{given[0]}")
        return _measure_bundled(args)

    ranks = ranks_of_torchrun()
    _check_targets(args, ranks)
    failures: list[UserError] = []
    panels: list[list[Panel]] = []
    page = ComparisonPage()
    if args.restored or args.reference:
        if not (args.restored and args.reference and args.protocol):
            parser.error("--restored, --reference and --protocol go together")
        if args.weights or args.model or args.data or args.sheet or args.report:
            parser.error("--restored goes without --weights, --model, --data, --sheet and --report")
        rows = [score_folder(args.restored, args.reference, PROTOCOLS[args.protocol], (args.scale or [1])[0])]
    else:
        if not ((args.weights or args.model) and args.data):
            parser.error("--weights or --model, and --data are needed (or --restored and --reference)")

        def show(pair: ImagePair, outcomes: dict[str, Outcome]) -> None:
            if args.sheet:
                panels.append(comparison(pair, outcomes))
            if args.report:
                _add_to(page, pair, outcomes)

        rows = _measure_all(args, show, ranks, failures)
    if ranks.rank == 0:
        _write_scores(args, rows)
    _write_pictures(args, panels, page, rows, ranks, failures)
    for failure in failures:
        print(f"failed: {failure}", file=sys.stderr)
    return 1 if failures else 0


def _check_targets(args: argparse.Namespace, ranks: Ranks) -> None:
    """Raises UserError if something that is asked for cannot be written."""
    if args.sheet and args.sheet.suffix.lower() not in IMAGE_SUFFIXES:
        raise UserError(f"{args.sheet}: cannot write {args.sheet.suffix or 'a file without suffix'}; name a .png")
    for path in filter(None, (args.json, args.csv, args.sheet, args.report)):
        check_writable(ranks.own(path))


def _write_scores(args: argparse.Namespace, rows: list[Row]) -> None:
    """Print the table, and write what else is asked for of numbers."""
    if not rows:
        return
    print_rows([row.summary for row in rows])
    if args.json:
        document = {
            "rows": [asdict(row) for row in rows],
            "noise_seed": NOISE_SEED,
            "precision": args.precision,
            "provenance": provenance(torch.device(args.device)),
        }
        write_atomically(args.json, json.dumps(_finite(document), indent=1, allow_nan=False) + "\n")
    if args.csv:
        write_csv(args.csv, [row.summary for row in rows])
    for path in filter(None, (args.json, args.csv)):
        print(f"written: {path}")


def _write_pictures(
    args: argparse.Namespace,
    panels: list[list[Panel]],
    page: ComparisonPage,
    rows: list[Row],
    ranks: Ranks,
    failures: list[UserError],
) -> None:
    """Sheet and page, if they are asked for, of the images that this process has measured."""

    def write_page() -> None:
        protocols = ", ".join(dict.fromkeys(row.protocol for row in rows))
        names = ", ".join([*args.model, *args.weights])
        settings = {"weights": names, "protocol": protocols, **provenance(torch.device(args.device))}
        page.write(ranks.own(args.report), f"Restored: {', '.join(args.data)}", settings)

    if args.sheet and panels:
        _try(lambda: contact_sheet(ranks.own(args.sheet), panels), ranks.own(args.sheet), failures)
    if args.report:
        _try(write_page, ranks.own(args.report), failures)


def _try(write: Callable[[], None], path: Path, failures: list[UserError]) -> None:
    """Write a file whose failure must not cost the scores."""
    try:
        write()
        print(f"written: {path}")
    except UserError as error:
        failures.append(error)


def _measure_all(args: argparse.Namespace, show: Show, ranks: Ranks, failures: list[UserError]) -> list[Row]:
    """The rows of all that could be measured; of a single process, what could not is added to `failures`."""
    tasks: dict[tuple[Degradation, int], dict[str, Runner | None]] = {}
    files = {model.name: model.weights for model in map(bundled.find, args.model)}
    files |= {name: command.path(name) for name in args.weights if name not in BASELINES}
    for name, path in files.items():
        weights = load_any(path)
        runners: dict[int, Runner] = {}
        for degradation in _degradations(name, weights, args.sigma, args.quality, args.scale):
            if degradation.scale not in runners:
                at_scale = replace(weights, network=weights.network.at(degradation.scale))
                runners[degradation.scale], engine = running.runner(args, path, at_scale, args.root)
                if args.precision != "fp32" and ranks.rank == 0:
                    print(f"{name} run by {engine}")
            task = tasks.setdefault((degradation, weights.network.channels), {_baseline_name(degradation): None})
            task[name] = runners[degradation.scale]
    for name in args.weights:
        if name not in BASELINES:
            continue
        if name == "bicubic" and not args.scale:
            raise UserError("--weights bicubic needs --scale")
        alone = map(Bicubic, args.scale) if name == "bicubic" else map(GaussianNoise, args.sigma or [25.0])
        for degradation in alone:
            if not any(degradation == known for known, _ in tasks):
                tasks[degradation, ANY_CHANNELS] = {name: None}

    rows = []
    for data in args.data:
        images = find_images(data, "test", args.root)
        for (degradation, of_network), models in tasks.items():
            channels = of_network or read_image(images.clean[0]).shape[2]
            protocol = PROTOCOLS[args.protocol] if args.protocol else default_protocol(images, degradation, channels)
            look = show if args.sheet or args.report else None
            try:
                rows += measure(models, images, degradation, protocol, channels, look, ranks)
            except UserError as error:
                if ranks.count > 1:  # the others wait for this one's scores
                    raise
                failures.append(error)
    if failures and not rows:
        raise failures[0]
    return rows


def _measure_bundled(args: argparse.Namespace) -> int:
    """The table of all bundled models, printed or written between the markers of a file."""
    results = []
    for model in bundled.available():
        weights = load_any(model.weights)
        runner, _ = running.runner(args, model.weights, weights, args.root)
        rows = bundled.measure_bundled(model, runner, args.root)
        results.append((model, tier(weights), [row.summary for row in rows]))
    if not results:
        raise UserError("no model is bundled yet")
    table = results_table(results)
    if args.all_bundled == STDOUT:
        print(table, end="")
    else:
        write_between_markers(args.all_bundled, table)
        print(f"written: {args.all_bundled}")
    return 0


def _add_to(page: ComparisonPage, pair: ImagePair, outcomes: dict[str, Outcome]) -> None:
    """Each network's result against the baseline's."""
    (_, baseline), *networks = outcomes.items()
    truth = to_image(pair.clean)
    for model, outcome in networks:
        psnr, ssim = outcome.score
        scores = {"input PSNR (dB)": baseline.score.psnr, "PSNR (dB)": psnr, "SSIM": ssim}
        name = pair.name if len(networks) == 1 else f"{pair.name}, {model}"
        page.add(name, to_image(baseline.restored), to_image(outcome.restored), truth, scores)


def _degradations(
    name: str, weights: Weights, sigmas: list[float], qualities: list[int], scales: list[int]
) -> list[Degradation]:
    """Under what to measure a network: its scales, else what is asked for, else the single level it was trained on."""
    if weights.network.scale > 1:
        return [Bicubic(scale) for scale in weights.network.all_scales]
    asked: list[Degradation] = [
        *map(GaussianNoise, sigmas),
        *map(Jpeg, qualities),
        *(BicubicBlur((factor,)) for factor in scales),
    ]
    if not asked:
        match weights.degradation.get("init_args"):
            case {"sigma": float() | int() as sigma}:
                asked = [GaussianNoise(float(sigma))]
            case {"quality": int() as quality}:
                asked = [Jpeg(quality)]
    if not asked:
        raise UserError(f"{name}: trained for a range of degradations; name some by --sigma, --quality or --scale")
    return asked


def _baseline_name(degradation: Degradation) -> str:
    if degradation.scale > 1:
        return "bicubic"
    return "noisy" if isinstance(degradation, GaussianNoise) else "input"


def _finite(value: Any) -> Any:
    """`value` with null for numbers that JSON has no word for (the PSNR of equal images is infinite)."""
    match value:
        case float() if not math.isfinite(value):
            return None
        case dict():
            return {key: _finite(item) for key, item in value.items()}
        case list() | tuple():
            return [_finite(item) for item in value]
    return value


if __name__ == "__main__":
    command.run(main)
