"""What `restore evaluate` does: measures networks on test sets, prints the rows and writes files."""

import itertools
import json
import math
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from restore import bundled, extensions, runner_options
from restore.benchmark import (
    ScoredImage,
    baseline_name,
    default_protocol,
    measure,
    paired_differences,
    score_folder,
)
from restore.bundled.card import around_markers, results_table, trained_on, write_between_markers
from restore.checkpoint import Weights
from restore.data.catalog import ImageSet, find_images
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
from restore.files import check_writable, write_atomically
from restore.foreign_checkpoints import load_any
from restore.hardware import available_device, keep_pages
from restore.images.decode import is_in_color
from restore.images.io import IMAGE_SUFFIXES
from restore.images.tensors import to_image
from restore.inference import Runner
from restore.metrics import PROTOCOLS, Row
from restore.page import ComparisonPage
from restore.provenance import provenance
from restore.ranks import Ranks, ranks_of_torchrun
from restore.report import Panel, comparison, contact_sheet, print_rows, write_csv
from restore.runner_options import Options
from restore.wrong_settings import in_words

BASELINES = ("noisy", "bicubic")
ANY_CHANNELS = 0  # if only a baseline is measured, see `_channels`


@dataclass(frozen=True)
class Evaluation:
    """What is measured, on which images, and how: fields are the options of `restore evaluate`.

    Attributes:
        options: how networks are run.
        data: test sets, known names or folders.
        root: where known sets lie.
        weights: files, `noisy` or `bicubic`.
        model: names of bundled models.
        sigma, quality, scale: levels of degradation; empty: those that the weights state.
        degradation: in place of levels.
        degraded: folders of degraded images, one for each of `data`.
        paired: degraded images are read, of `degraded` or of the sets' own.
        protocol: name; None: the papers' for each set.
    """

    options: Options
    data: Sequence[str]
    root: Path
    weights: Sequence[str] = ()
    model: Sequence[str] = ()
    sigma: Sequence[float] = ()
    quality: Sequence[int] = ()
    scale: Sequence[int] = ()
    degradation: Degradation | None = None
    degraded: Sequence[Path] = ()
    paired: bool = False
    protocol: str | None = None


@dataclass(frozen=True)
class Files:
    """What is written, for each that is not None: JSON and CSV of the rows, a picture, a page."""

    json: Path | None = None
    csv: Path | None = None
    sheet: Path | None = None
    report: Path | None = None

    def check(self, ranks: Ranks) -> None:
        """Raises UserError if something that is asked for cannot be written."""
        if self.sheet and self.sheet.suffix.lower() not in IMAGE_SUFFIXES:
            raise UserError(f"{self.sheet}: cannot write {self.sheet.suffix or 'a file without suffix'}; name a .png")
        for path in filter(None, (self.json, self.csv, self.sheet, self.report)):
            check_writable(ranks.own(path))


def evaluate(asked: Evaluation, files: Files) -> int:
    """Measure networks on test sets, print the table and write files.

    Scores are printed and written first; what else fails is reported after them.

    Returns:
        1 if something could not be measured or written, else 0.

    Raises:
        UserError: weights or images are missing or do not fit.
    """
    device = _prepare(asked.options)
    ranks = ranks_of_torchrun()
    files.check(ranks)
    if files.report and not asked.model and all(name in BASELINES for name in asked.weights):
        raise UserError("--report shows what networks restore, but only baselines are measured; use --sheet")
    failures: list[UserError] = []
    gallery = _Gallery(files)
    rows = _measure_all(asked, gallery, ranks, failures)
    if ranks.rank == 0 and rows:
        _write_scores(rows, files, asked.options.precision, device)

    def write_page(path: Path) -> None:
        protocols = ", ".join(dict.fromkeys(row.protocol for row in rows))
        settings = {"weights": ", ".join([*asked.model, *asked.weights]), "protocol": protocols, **provenance(device)}
        gallery.page.write(path, f"Restored: {', '.join(asked.data)}", settings)

    def write_sheet(path: Path) -> None:
        contact_sheet(path, list(itertools.chain(*gallery.panels.values())))

    for path, write in ((gallery.panels and files.sheet, write_sheet), (gallery.names and files.report, write_page)):
        if path:
            try:
                write(ranks.own(path))
                print(f"written: {ranks.own(path)}")
            except UserError as error:
                failures.append(error)
    for failure in failures:
        print(f"failed: {failure}", file=sys.stderr)
    return 1 if failures else 0


def evaluate_folder(restored: Path, reference: Path, protocol: str, scale: int, files: Files) -> None:
    """Score the images of a folder against the true ones, print the table and write files (the first process does).

    Raises:
        UserError: images are missing, do not fit, or a file cannot be written.
    """
    ranks = ranks_of_torchrun()
    if ranks.rank != 0:
        return
    files.check(ranks)
    rows = [score_folder(restored, reference, PROTOCOLS[protocol], scale)]
    _write_scores(rows, files, "fp32", torch.device("cpu"))


def evaluate_bundled(options: Options, root: Path, table_file: Path | None) -> None:
    """Print the table of all bundled models, or write it between the markers of `table_file`.

    Raises:
        UserError: no models are bundled, or test sets are missing.
    """
    _prepare(options)
    if table_file is not None:
        around_markers(table_file)
    results = []
    for model in bundled.available():
        weights = load_any(model.weights)
        runner, _ = runner_options.runner(options, model.weights, weights, root)
        rows = bundled.measure_bundled(model, runner, root)
        results.append((model, trained_on(weights), [row.summary for row in rows]))
    if not results:
        raise UserError("no models are bundled")
    table = results_table(results)
    if table_file is None:
        print(table, end="")
    else:
        write_between_markers(table_file, table)
        print(f"written: {table_file}")


class _Gallery:
    """What the sheet and the page show, if they are asked for, by task: a test set and a degradation, in words.

    Attributes:
        panels: rows of the sheet.
        page: as it is so far.
        names: of the images on the page.
    """

    def __init__(self, files: Files) -> None:
        self.panels: dict[str, list[list[Panel]]] = {}
        self.page = ComparisonPage()
        self.names: dict[str, set[str]] = {}
        self._files = files

    @property
    def is_asked_for(self) -> bool:
        return bool(self._files.sheet or self._files.report)

    def add(self, task: str, pair: ImagePair, outcomes: dict[str, ScoredImage]) -> None:
        """Take in an image: on the page each network's result against the baseline's."""
        about = f", {task}" if task else ""
        if self._files.sheet:
            self.panels.setdefault(task, []).append(comparison(pair, outcomes, about=about))
        if not self._files.report:
            return
        (_, baseline), *networks = outcomes.items()
        for model, outcome in networks:
            psnr, ssim, psnr_b = outcome.score
            scores = {"input PSNR (dB)": baseline.score.psnr, "PSNR (dB)": psnr, "SSIM": ssim}
            scores |= {} if psnr_b is None else {"PSNR-B (dB)": psnr_b}
            name = f"{pair.name}{about}" if len(networks) == 1 else f"{pair.name}{about}, {model}"
            before, after = to_image(baseline.restored), to_image(outcome.restored)
            self.page.add(name, before, after, to_image(pair.clean), scores)
            self.names.setdefault(task, set()).add(name)

    def discard(self, task: str) -> None:
        """Take out what was shown of a task that could not be measured to its end."""
        self.panels.pop(task, None)
        self.page.discard(self.names.pop(task, set()))


def _prepare(options: Options) -> torch.device:
    """The device that networks run on."""
    device = available_device(options.device)
    if device.type == "cpu":
        keep_pages()
    return device


def _write_scores(rows: list[Row], files: Files, precision: str, device: torch.device) -> None:
    """Print the table, and write what else is asked for of numbers."""
    print_rows([row.summary for row in rows])
    for row in rows:
        if equal := sum(math.isinf(image.psnr) for image in row.per_image):
            print(
                f"{row.model} on {row.set}, {row.degradation}: {equal} of {row.images} images are equal to the truth; "
                "PSNR is the mean of the others"
            )
    differences = paired_differences([row for row in rows if row.model not in (*BASELINES, Degradation.baseline)])
    for difference in differences:
        print(difference)
    if files.json:
        document = {
            "rows": [asdict(row) for row in rows],
            "differences": [asdict(difference) for difference in differences],
            "noise_seed": NOISE_SEED,
            "precision": precision,
            "provenance": provenance(device),
        }
        write_atomically(files.json, json.dumps(_finite(document), indent=1, allow_nan=False) + "\n")
    if files.csv:
        write_csv(files.csv, [row.summary for row in rows])
    for path in filter(None, (files.json, files.csv)):
        print(f"written: {path}")


def _measure_all(asked: Evaluation, gallery: _Gallery, ranks: Ranks, failures: list[UserError]) -> list[Row]:
    """The rows of all that can be measured; a single process adds what cannot be to `failures` and continues."""
    tasks: dict[tuple[Degradation, int], dict[str, Runner | None]] = {}
    files = {model.name: model.weights for model in map(bundled.find, asked.model)}
    files |= {name: Path(name).expanduser() for name in asked.weights if name not in BASELINES}
    for name, path in files.items():
        weights = load_any(path)
        runners: dict[int, Runner] = {}
        for degradation in _degradations(name, weights, asked):
            if degradation.scale not in runners:
                at_scale = replace(weights, network=weights.network.at(degradation.scale))
                runners[degradation.scale], engine = runner_options.runner(asked.options, path, at_scale, asked.root)
                if asked.options.precision != "fp32" and ranks.rank == 0:
                    print(f"{name} run by {engine}")
            task = tasks.setdefault((degradation, weights.network.channels), {baseline_name(degradation): None})
            task[name] = runners[degradation.scale]
    for name in asked.weights:
        if name in BASELINES:
            for degradation in _baseline_degradations(name, asked):
                if not any(degradation == known for known, _ in tasks):
                    tasks[degradation, ANY_CHANNELS] = {name: None}

    _check_levels(asked, [degradation for degradation, _ in tasks])

    rows = []
    scale = next((degradation.scale for degradation, _ in tasks), 1)
    test_sets = _test_sets(asked, scale)
    for images in test_sets:
        for (degradation, of_network), models in tasks.items():
            about = [images.name] * (len(test_sets) > 1) + [degradation.label] * (len(tasks) > 1)
            label = ", ".join(about)
            show = partial(gallery.add, label) if gallery.is_asked_for else None
            channels = of_network or _channels(images, degradation)
            protocol = PROTOCOLS[asked.protocol] if asked.protocol else default_protocol(images, degradation, channels)
            try:
                rows += measure(models, images, degradation, protocol, channels, show, ranks)
            except UserError as error:
                if ranks.count > 1:  # the others wait for this one's scores
                    raise
                gallery.discard(label)
                failures.append(error)
    if failures and not rows:
        raise failures[0]
    return rows


def _check_levels(asked: Evaluation, measured: Sequence[Degradation]) -> None:
    """Raises UserError for a level that nothing is measured at."""
    used: dict[str, set[object]] = {
        "--sigma": {it.sigma for it in measured if isinstance(it, GaussianNoise)},
        "--quality": {it.quality for it in measured if isinstance(it, Jpeg)},
        "--scale": {it.scale for it in measured}
        | {factor for it in measured if isinstance(it, BicubicBlur) for factor in it.factors},
    }
    for option, values in (("--sigma", asked.sigma), ("--quality", asked.quality), ("--scale", asked.scale)):
        for value in values:
            if value not in used[option]:
                raise UserError(f"{option} {value:g}: applies to nothing that is measured here")


def _test_sets(asked: Evaluation, scale: int) -> list[ImageSet]:
    """The sets in their order; folders of the same name are called by their paths."""
    folders: Sequence[Path | None] = asked.degraded or [None] * len(asked.data)
    pairs = list(zip(asked.data, folders, strict=True))
    found = [find_images(data, "test", asked.root, degraded, scale) for data, degraded in pairs]
    count = Counter(images.name for images in found)
    return [
        replace(images, name=data) if count[images.name] > 1 else images
        for images, (data, _) in zip(found, pairs, strict=True)
    ]


def _channels(images: ImageSet, degradation: Degradation) -> int:
    """In which a baseline is measured: JPEG and gray sets in gray, others in color, whichever image is the first."""
    in_color = degradation.scale > 1 or any(map(is_in_color, images.clean))
    return 3 if in_color and not isinstance(degradation, Jpeg) else 1


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
        raise UserError(f"--degradation {name}: {in_words(str(error))}") from error
    assert isinstance(made, Degradation)
    return made


def _degradations(name: str, weights: Weights, asked: Evaluation) -> list[Degradation]:
    """Degradations at which to measure a network: what is asked for, else what its weights state, at all of its scales.

    Raises:
        UserError: what is asked for does not apply to the network, or nothing is asked for or stated.
    """
    network = weights.network
    if asked.paired:
        chosen: list[Degradation] = [Paired(scale) for scale in asked.scale or [network.scale]]
    elif asked.degradation:
        chosen = [asked.degradation]
    elif network.scale > 1:
        if asked.sigma or asked.quality:
            raise UserError(
                f"{name}: is a super-resolution network; --sigma and --quality do not apply to it (--degradation can)"
            )
        stated = from_description(weights.degradation) or Bicubic(network.scale)
        scales = [scale for scale in network.all_scales if scale in (asked.scale or network.all_scales)]
        chosen = [Bicubic(scale) for scale in scales] if isinstance(stated, Bicubic) else [stated]
    else:
        chosen = [
            *map(GaussianNoise, asked.sigma),
            *map(Jpeg, asked.quality),
            *(BicubicBlur((factor,)) for factor in asked.scale),
        ]
        if not chosen and weights.degradation:
            chosen = list(filter(None, [from_description(weights.degradation)]))
    if not chosen:
        raise UserError(
            f"{name}: cannot be measured: the file states no degradation, or it does not apply; choose one with "
            "--degradation, --sigma, --quality or --scale"
        )
    for degradation in chosen:
        if degradation.scale not in network.all_scales:
            raise UserError(f"{name}: {degradation.label} has scale {degradation.scale}, the network {network.scale}")
        if isinstance(degradation, Paired) and not asked.paired:
            raise UserError(
                f"{name}: was trained on pairs of images; give the folder of degraded images with --degraded"
            )
    return chosen


def _baseline_degradations(name: str, asked: Evaluation) -> list[Degradation]:
    """Degradations at which to measure a baseline without a network."""
    if name == "bicubic" and not asked.scale:
        raise UserError("--weights bicubic needs --scale")
    if asked.paired:
        return [Paired(scale) for scale in (asked.scale or [1])]
    if asked.degradation:
        return [asked.degradation]
    if name == "bicubic":
        return [Bicubic(scale) for scale in asked.scale]
    return [*map(GaussianNoise, asked.sigma), *map(Jpeg, asked.quality)] or [GaussianNoise()]


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
