"""What `restore evaluate` does: measures networks on test sets, prints the rows and writes files."""

import argparse
import json
import math
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from restore import bundled, cli, extensions, runner_options
from restore.benchmark import (
    ScoredImage,
    Show,
    baseline_name,
    default_protocol,
    measure,
    paired_differences,
    score_folder,
)
from restore.bundled.card import results_table, trained_on, write_between_markers
from restore.checkpoint import Weights
from restore.data.catalog import find_images
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
from restore.evaluate import STDOUT
from restore.foreign_checkpoints import load_any
from restore.hardware import available_device, keep_pages
from restore.images.io import IMAGE_SUFFIXES, check_writable, read_image, write_atomically
from restore.images.tensors import to_image
from restore.inference import Runner
from restore.metrics import PROTOCOLS, Row
from restore.page import ComparisonPage
from restore.provenance import provenance
from restore.ranks import Ranks, ranks_of_torchrun
from restore.report import Panel, comparison, contact_sheet, print_rows, write_csv

BASELINES = ("noisy", "bicubic")
ANY_CHANNELS = 0  # if only a baseline is measured: JPEG and gray sets in gray, others in color


def evaluate(args: argparse.Namespace, settings: list[str]) -> int:
    """Measure what the options of `restore evaluate` ask for, print the table and write the files.

    Scores are printed and written first; what else fails is reported after them.

    Args:
        args: of the command line.
        settings: those of `--degradation`, as words.

    Returns:
        1 if something could not be measured or written, else 0.

    Raises:
        UserError: weights or images are missing or do not fit.
    """
    args.degradation = make_degradation(args.degradation, settings) if args.degradation or settings else None
    if available_device(args.device).type == "cpu":
        keep_pages()
    if args.all_bundled:
        _measure_bundled(args)
        return 0
    ranks = ranks_of_torchrun()
    _check_targets(args, ranks)
    failures: list[UserError] = []
    panels: list[list[Panel]] = []
    page = ComparisonPage()
    if args.restored or args.reference:
        rows = [score_folder(args.restored, args.reference, PROTOCOLS[args.protocol], (args.scale or [1])[0])]
    else:

        def show(pair: ImagePair, outcomes: dict[str, ScoredImage]) -> None:
            if args.sheet:
                panels.append(comparison(pair, outcomes))
            if args.report:
                _add_to(page, pair, outcomes)

        rows = _measure_all(args, show, ranks, failures)
    if ranks.rank == 0 and rows:
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
    print_rows([row.summary for row in rows])
    differences = paired_differences([row for row in rows if row.model not in (*BASELINES, Degradation.baseline)])
    for difference in differences:
        print(difference)
    if args.json:
        document = {
            "rows": [asdict(row) for row in rows],
            "differences": [asdict(difference) for difference in differences],
            "noise_seed": NOISE_SEED,
            "precision": args.precision,
            "provenance": provenance(available_device(args.device)),
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

    def write_page(path: Path) -> None:
        protocols = ", ".join(dict.fromkeys(row.protocol for row in rows))
        names = ", ".join([*args.model, *args.weights])
        settings = {"weights": names, "protocol": protocols, **provenance(available_device(args.device))}
        page.write(path, f"Restored: {', '.join(args.data)}", settings)

    for asked, write in ((panels and args.sheet, lambda path: contact_sheet(path, panels)), (args.report, write_page)):
        if asked:
            try:
                write(ranks.own(asked))
                print(f"written: {ranks.own(asked)}")
            except UserError as error:
                failures.append(error)


def _measure_all(args: argparse.Namespace, show: Show, ranks: Ranks, failures: list[UserError]) -> list[Row]:
    """The rows of all that can be measured; a single process adds what cannot be to `failures` and goes on."""
    tasks: dict[tuple[Degradation, int], dict[str, Runner | None]] = {}
    files = {model.name: model.weights for model in map(bundled.find, args.model)}
    files |= {name: cli.path(name) for name in args.weights if name not in BASELINES}
    for name, path in files.items():
        weights = load_any(path)
        runners: dict[int, Runner] = {}
        for degradation in _degradations(name, weights, args):
            if degradation.scale not in runners:
                at_scale = replace(weights, network=weights.network.at(degradation.scale))
                runners[degradation.scale], engine = runner_options.runner(
                    runner_options.options(args), path, at_scale, args.root
                )
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
            try:
                rows += measure(models, images, degradation, protocol, channels, look, ranks)
            except UserError as error:
                if ranks.count > 1:  # the others wait for this one's scores
                    raise
                failures.append(error)
    if failures and not rows:
        raise failures[0]
    return rows


def _measure_bundled(args: argparse.Namespace) -> None:
    """The table of all bundled models, printed or written between the markers of a file."""
    results = []
    for model in bundled.available():
        weights = load_any(model.weights)
        runner, _ = runner_options.runner(runner_options.options(args), model.weights, weights, args.root)
        rows = bundled.measure_bundled(model, runner, args.root)
        results.append((model, trained_on(weights), [row.summary for row in rows]))
    if not results:
        raise UserError("no models are bundled")
    table = results_table(results)
    if args.all_bundled == STDOUT:
        print(table, end="")
    else:
        write_between_markers(args.all_bundled, table)
        print(f"written: {args.all_bundled}")


def _add_to(page: ComparisonPage, pair: ImagePair, outcomes: dict[str, ScoredImage]) -> None:
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
    """Degradations at which to measure a network: what is asked for, else what its weights state, at all of its scales.

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
            raise UserError(
                f"{name}: is a super-resolution network; --sigma and --quality do not apply to it (--degradation can)"
            )
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
        raise UserError(
            f"{name}: cannot be measured: the file states no degradation, or it does not apply; choose one with "
            "--degradation, --sigma, --quality or --scale"
        )
    for degradation in asked:
        if degradation.scale not in network.all_scales:
            raise UserError(f"{name}: {degradation.label} has scale {degradation.scale}, the network {network.scale}")
        if isinstance(degradation, Paired) and not args.paired:
            raise UserError(
                f"{name}: was trained on pairs of images; give the folder of degraded images with --degraded"
            )
    return asked


def _baseline_degradations(name: str, args: argparse.Namespace) -> list[Degradation]:
    """Degradations at which to measure a baseline without a network."""
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
