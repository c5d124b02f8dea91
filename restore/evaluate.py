"""python -m restore.evaluate: weights x test sets -> a table of PSNR and SSIM."""

import argparse
import json
import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from restore import bundled, command, extensions, running
from restore.benchmark import Outcome, Show, baseline_name, default_protocol, measure, score_folder
from restore.bundled.card import results_table, tier, write_between_markers
from restore.checkpoint import Weights
from restore.compat import load_any
from restore.data.catalog import NAMES, default_root, find_images, has_real_noise
from restore.data.degradation import (
    Bicubic,
    BicubicBlur,
    Degradation,
    GaussianNoise,
    Jpeg,
    Paired,
    from_description,
)
from restore.data.pairs import NOISE_SEED, ImagePair
from restore.errors import UserError
from restore.images.io import read_image, write_atomically
from restore.images.tensors import to_image
from restore.inference import Runner
from restore.metrics import PROTOCOLS, Row
from restore.page import ComparisonPage
from restore.provenance import provenance
from restore.ranks import Ranks, ranks_of_torchrun
from restore.report import Panel, comparison, contact_sheet, print_rows, write_csv

BASELINES = ("noisy", "bicubic")
STDOUT = Path("-")
ANY_CHANNELS = 0  # of a baseline alone: JPEG and gray sets in gray, others in colour

EXAMPLES = f"""examples:
  python -m restore.evaluate --weights runs/quickstart/weights.safetensors --data photos --sigma 15 25 50
  python -m restore.evaluate --weights edsr.safetensors edsr_bn.safetensors --data Set5 B100 --json scores.json
  python -m restore.evaluate --model dncnn-gray-25 --data BSD68 --root DATA
  python -m restore.evaluate --weights my.safetensors --data photos --degradation PoissonGaussian --degradation.gain 2
  python -m restore.evaluate --weights my.safetensors --data CLEAN --degraded NOISY
  python -m restore.evaluate --model dncnn-color-blind --data PolyU --root DATA
  python -m restore.evaluate --weights my.safetensors --data classic5 LIVE1 --quality 10 20 30 40
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
    parser.add_argument("--root", type=Path, default=default_root(), help="where known sets lie (default: %(default)s)")
    parser.add_argument("--sigma", type=float, nargs="+", default=[], help="noise levels, 0-255 (default: as trained)")
    parser.add_argument("--quality", type=int, nargs="+", default=[], help="JPEG qualities")
    parser.add_argument("--scale", type=int, nargs="+", default=[], help="scales, for `bicubic`, MDSR and DnCNN-3")
    parser.add_argument(
        "--degradation",
        metavar="CLASS",
        help="measure at this degradation, with its settings as --degradation.NAME VALUE (default: the one that the "
        "weights state)",
    )
    parser.add_argument(
        "--degraded",
        nargs="+",
        type=Path,
        default=[],
        help="folders of degraded images, one for each of --data, of the same names",
    )
    parser.add_argument("--protocol", choices=PROTOCOLS, help="default: the papers' for each test set")
    parser.add_argument("--restored", type=Path, help="score these images instead of restoring any")
    parser.add_argument("--reference", type=Path, help="the true images for --restored, of the same names")
    parser.add_argument(
        "--all-bundled",
        nargs="?",
        type=Path,
        const=STDOUT,
        metavar="FILE.md",
        help="measure all bundled models on their test sets and print the table, or write it between FILE's markers",
    )
    parser.add_argument("--json", type=Path, help="write the rows with every image's scores")
    parser.add_argument("--csv", type=Path, help="write the rows")
    parser.add_argument("--sheet", type=Path, help="write a PNG contact sheet: degraded, restored, truth")
    parser.add_argument(
        "--report", type=Path, metavar="FILE.html", help="write a page with sliders: degraded, restored, truth"
    )
    running.add_arguments(parser, precision="fp32")
    args, settings = parser.parse_known_args(argv)
    if stray := [word for word in settings if word.startswith("--") and not word.startswith("--degradation.")]:
        parser.error(f"unrecognized arguments: {stray[0]}")
    args.degradation = make_degradation(args.degradation, settings) if args.degradation or settings else None
    if args.all_bundled:
        others = "weights", "model", "data", "restored", "reference", "json", "csv", "sheet", "report"
        if given := [name for name in others if getattr(args, name)]:
            parser.error(f"--all-bundled goes without --{given[0]}")
        return _measure_bundled(args)

    ranks = ranks_of_torchrun()
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
        _check_asked(parser, args)

        def show(pair: ImagePair, outcomes: dict[str, Outcome]) -> None:
            if args.sheet:
                panels.append(comparison(pair, outcomes))
            if args.report:
                _add_to(page, pair, outcomes)

        rows = _measure_all(args, show, ranks)
    written = _write_pictures(args, panels, page, rows, ranks)
    if ranks.rank > 0:
        return 0
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
    for path in filter(None, (args.json, args.csv, *written)):
        print(f"written: {path}")
    return 0


def _check_asked(parser: command.ArgumentParser, args: argparse.Namespace) -> None:
    """See whether the test sets' own noisy images are measured.

    Raises:
        UserError: two options say different things about the degradation, or only some test sets have noisy images.
    """
    levels = [f"--{name}" for name in ("sigma", "quality") if getattr(args, name)]
    ways = [*levels[:1], *(f"--{name}" for name in ("degradation", "degraded") if getattr(args, name))]
    if len(ways) > 1:
        parser.error(f"{ways[0]} cannot be combined with {ways[1]}")
    if args.degraded and len(args.degraded) != len(args.data):
        parser.error(f"--degraded needs a folder for each of --data: {len(args.data)}, not {len(args.degraded)}")
    noisy = [name for name in args.data if has_real_noise(name)]
    if noisy and not ways and len(noisy) < len(args.data):
        parser.error(f"{noisy[0]} has noisy images of its own: measure it alone, or say by --sigma what all go through")
    args.paired = bool(args.degraded or (noisy and not ways))


def _write_pictures(
    args: argparse.Namespace, panels: list[list[Panel]], page: ComparisonPage, rows: list[Row], ranks: Ranks
) -> list[Path]:
    """Sheet and page, where they are asked for, of the images that this process has measured."""
    written = []
    if args.sheet and panels:
        written.append(ranks.own(args.sheet))
        contact_sheet(written[-1], panels)
    if args.report:
        protocols = ", ".join(dict.fromkeys(row.protocol for row in rows))
        names = ", ".join([*args.model, *args.weights])
        settings = {"weights": names, "protocol": protocols, **provenance(torch.device(args.device))}
        written.append(ranks.own(args.report))
        page.write(written[-1], f"Restored: {', '.join(args.data)}", settings)
    return written


def _measure_all(args: argparse.Namespace, show: Show, ranks: Ranks) -> list[Row]:
    tasks: dict[tuple[Degradation, int], dict[str, Runner | None]] = {}
    files = {model.name: model.weights for model in map(bundled.find, args.model)}
    files |= {name: Path(name) for name in args.weights if name not in BASELINES}
    for name, path in files.items():
        weights = load_any(path)
        runners: dict[int, Runner] = {}
        for degradation in _degradations(name, weights, args):
            if degradation.scale not in runners:
                at_scale = replace(weights, network=weights.network.at(degradation.scale))
                runners[degradation.scale], engine = running.runner(args, path, at_scale, args.root)
                if args.precision != "fp32" and ranks.rank == 0:
                    print(f"{name} run by {engine}")
            task = tasks.setdefault((degradation, weights.network.channels), {baseline_name(degradation): None})
            task[name] = runners[degradation.scale]
    for name in args.weights:
        if name in BASELINES:
            for degradation in _baseline_degradations(name, args):
                if not any(degradation == known for known, _ in tasks):
                    tasks[degradation, ANY_CHANNELS] = {name: None}

    rows = []
    scale = next((degradation.scale for degradation, _ in tasks), 1)
    for data, degraded in zip(args.data, args.degraded or [None] * len(args.data), strict=True):
        images = find_images(data, "test", args.root, degraded, scale)
        for (degradation, of_network), models in tasks.items():
            channels = of_network or (1 if isinstance(degradation, Jpeg) else read_image(images.clean[0]).shape[2])
            protocol = PROTOCOLS[args.protocol] if args.protocol else default_protocol(images, degradation, channels)
            look = show if args.sheet or args.report else None
            rows += measure(models, images, degradation, protocol, channels, look, ranks)
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
        psnr, ssim, psnr_b = outcome.score
        scores = {"input PSNR (dB)": baseline.score.psnr, "PSNR (dB)": psnr, "SSIM": ssim}
        scores |= {} if psnr_b is None else {"PSNR-B (dB)": psnr_b}
        name = pair.name if len(networks) == 1 else f"{pair.name}, {model}"
        page.add(name, to_image(baseline.restored), to_image(outcome.restored), truth, scores)


def make_degradation(name: str | None, settings: list[str]) -> Degradation:
    """The degradation that `--degradation NAME --degradation.setting value ...` stands for.

    Raises:
        UserError: there is none, or it does not take these settings.
    """
    from jsonargparse import ArgumentError, ArgumentParser, set_parsing_settings  # takes a second

    if name is None:
        raise UserError(f"{settings[0]}: --degradation CLASS is missing")
    set_parsing_settings(import_path_denylist=["*"], import_path_allowlist=["restore", *extensions.packages()])
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(Degradation, "degradation")
    try:
        made = parser.instantiate(parser.parse_args([f"--degradation={name}", *settings])).degradation
    except (ArgumentError, ValueError) as error:
        raise UserError(f"--degradation {name}: {error}") from error
    assert isinstance(made, Degradation)
    return made


def _degradations(name: str, weights: Weights, args: argparse.Namespace) -> list[Degradation]:
    """Under what to measure a network: what is asked for, else what its weights state, at all of its scales.

    Raises:
        UserError: what is asked for does not apply to the network, or nothing is asked for or stated.
    """
    network = weights.network
    if args.paired:
        asked: list[Degradation] = [Paired(network.scale)]
    elif args.degradation:
        asked = [args.degradation]
    elif network.scale > 1:
        if args.sigma or args.quality:
            raise UserError(f"{name}: enlarges images; --sigma and --quality do not apply to it, --degradation may")
        stated = from_description(weights.degradation) or Bicubic(network.scale)
        scales = [scale for scale in network.all_scales if scale in (args.scale or network.all_scales)]
        asked = [Bicubic(scale) for scale in scales] if isinstance(stated, Bicubic) else [stated]
    else:
        asked = [
            *map(GaussianNoise, args.sigma),
            *map(Jpeg, args.quality),
            *(BicubicBlur((factor,)) for factor in args.scale),
        ]
        if not asked and weights.degradation:
            asked = list(filter(None, [from_description(weights.degradation)]))
    if not asked:
        raise UserError(f"{name}: does not work at this, or say what it was trained for; name a degradation or scale")
    for degradation in asked:
        if degradation.scale not in network.all_scales:
            raise UserError(f"{name}: {degradation.label} has scale {degradation.scale}, the network {network.scale}")
        if isinstance(degradation, Paired) and not args.paired:
            raise UserError(f"{name}: was trained on pairs of images; name the folder of degraded ones by --degraded")
    return asked


def _baseline_degradations(name: str, args: argparse.Namespace) -> list[Degradation]:
    """Under what to measure a baseline that stands alone."""
    if name == "bicubic" and not args.scale:
        raise UserError("--weights bicubic needs --scale")
    if args.paired:
        return [Paired(scale) for scale in (args.scale or [1])]
    if args.degradation:
        return [args.degradation]
    if name == "bicubic":
        return [Bicubic(scale) for scale in args.scale]
    return [*map(GaussianNoise, args.sigma), *map(Jpeg, args.quality)] or [GaussianNoise()]


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
