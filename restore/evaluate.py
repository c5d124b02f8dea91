"""python -m restore.evaluate: weights x test sets -> a table of PSNR and SSIM."""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from restore import command, running
from restore.choices import BUNDLED_NAMES, PROTOCOL_NAMES
from restore.data.catalog import NAMES, default_root
from restore.errors import UserError

if TYPE_CHECKING:  # with torch, which is not imported before the arguments are known to be right
    from restore.benchmark import Outcome, Show
    from restore.checkpoint import Weights
    from restore.data.degradation import Degradation
    from restore.data.pairs import ImagePair
    from restore.inference import Runner
    from restore.metrics import Row
    from restore.page import ComparisonPage
    from restore.ranks import Ranks
    from restore.report import Panel

BASELINES = ("noisy", "bicubic")
STDOUT = Path("-")
ANY_CHANNELS = 0  # of a baseline alone: gray sets in gray, others in colour

EXAMPLES = f"""examples:
  restore evaluate --weights runs/quickstart/weights.safetensors --data photos
  restore evaluate --model dncnn-gray-blind --data Set12 BSD68 --sigma 15 25 50
  restore evaluate --weights a.safetensors b.safetensors --data Set5 B100
  restore evaluate --weights bicubic --scale 2 --data B100 --root DATA
  restore evaluate --restored out/ --reference Set5/HR --protocol sr-y --scale 2
  restore evaluate --all-bundled docs/results/models.md --root DATA
  torchrun --nproc-per-node 4 -m restore.evaluate --weights edsr.safetensors \\
    --data Urban100

bundled models: {", ".join(BUNDLED_NAMES[:3])},
  {", ".join(BUNDLED_NAMES[3:6])},
  {", ".join(BUNDLED_NAMES[6:])}
known data sets: {", ".join(NAMES[:8])},
  {", ".join(NAMES[8:])}; or any folder
"""


def main(argv: list[str] | None = None) -> int:
    parser = _parser()
    args = parser.parse_args(argv)
    from restore.benchmark import score_folder
    from restore.data.pairs import NOISE_SEED
    from restore.hardware import available_device
    from restore.images.io import write_atomically
    from restore.metrics import PROTOCOLS
    from restore.page import ComparisonPage
    from restore.provenance import provenance
    from restore.ranks import ranks_of_torchrun
    from restore.report import comparison, print_rows, write_csv

    if args.all_bundled:
        others = "weights", "model", "data", "restored", "reference", "json", "csv", "sheet", "report"
        if given := [name for name in others if getattr(args, name)]:
            parser.error(f"--all-bundled cannot be combined with --{given[0]}")
        return _measure_bundled(args)

    ranks = ranks_of_torchrun()
    panels: list[list[Panel]] = []
    page = ComparisonPage()
    if args.restored or args.reference:
        if not (args.restored and args.reference and args.protocol):
            parser.error("--restored, --reference and --protocol go together")
        if args.weights or args.model or args.data or args.sheet or args.report:
            parser.error("--restored cannot be combined with --weights, --model, --data, --sheet or --report")
        rows = [score_folder(args.restored, args.reference, PROTOCOLS[args.protocol], (args.scale or [1])[0])]
    else:
        if not ((args.weights or args.model) and args.data):
            parser.error("--weights or --model, and --data are needed (or --restored and --reference)")

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
            "provenance": provenance(available_device(args.device)),
        }
        write_atomically(args.json, json.dumps(_finite(document), indent=1, allow_nan=False) + "\n")
    if args.csv:
        write_csv(args.csv, [row.summary for row in rows])
    for path in filter(None, (args.json, args.csv, *written)):
        print(f"written: {path}")
    return 0


def _parser() -> command.ArgumentParser:
    parser = command.ArgumentParser("evaluate", "Measure networks by the papers' protocols.", EXAMPLES)
    what = parser.add_argument_group("what is measured")
    what.add_argument("--weights", nargs="+", default=[], metavar="FILE", help="weights files, `noisy` or `bicubic`")
    what.add_argument("--model", nargs="+", default=[], metavar="NAME", help="bundled models")
    what.add_argument("--restored", type=Path, metavar="DIR", help="score existing images, against --reference")
    what.add_argument("--reference", type=Path, metavar="DIR", help="the true images for --restored, of the same names")
    what.add_argument(
        "--all-bundled",
        nargs="?",
        type=Path,
        const=STDOUT,
        metavar="FILE.md",
        help="measure all bundled models on their test sets and print the table, or write it between FILE's markers",
    )
    on = parser.add_argument_group("on which images")
    on.add_argument("--data", nargs="+", default=[], metavar="SET", help="test sets: known names or folders")
    on.add_argument("--root", type=Path, default=default_root(), help="folder of the known sets (default: %(default)s)")
    on.add_argument("--sigma", type=float, nargs="+", default=[], help="noise levels, 0-255 (default: as trained)")
    on.add_argument("--quality", type=int, nargs="+", default=[], help="JPEG qualities")
    on.add_argument("--scale", type=int, nargs="+", default=[], help="scales, for `bicubic` and DnCNN-3")
    on.add_argument("--protocol", choices=PROTOCOL_NAMES, help="default: the papers' for each test set")
    written = parser.add_argument_group("files to write")
    written.add_argument("--json", type=Path, metavar="FILE", help="the rows with every image's scores")
    written.add_argument("--csv", type=Path, metavar="FILE", help="the rows")
    written.add_argument("--sheet", type=Path, metavar="FILE.png", help="a sheet: degraded, restored, truth")
    written.add_argument("--report", type=Path, metavar="FILE.html", help="a page with sliders, crops and scores")
    running.add_arguments(parser, precision="fp32")
    return parser


def _write_pictures(
    args: argparse.Namespace, panels: list[list[Panel]], page: ComparisonPage, rows: list[Row], ranks: Ranks
) -> list[Path]:
    """Sheet and page, where they are asked for, of the images that this process has measured."""
    from restore.hardware import available_device
    from restore.provenance import provenance
    from restore.report import contact_sheet

    written = []
    if args.sheet and panels:
        written.append(ranks.own(args.sheet))
        contact_sheet(written[-1], panels)
    if args.report:
        protocols = ", ".join(dict.fromkeys(row.protocol for row in rows))
        names = ", ".join([*args.model, *args.weights])
        settings = {"weights": names, "protocol": protocols, **provenance(available_device(args.device))}
        written.append(ranks.own(args.report))
        page.write(written[-1], f"Restored: {', '.join(args.data)}", settings)
    return written


def _measure_all(args: argparse.Namespace, show: Show, ranks: Ranks) -> list[Row]:
    from restore import bundled
    from restore.benchmark import default_protocol, measure
    from restore.compat import load_any
    from restore.data.catalog import find_images
    from restore.data.degradation import Bicubic, GaussianNoise
    from restore.images.io import read_image
    from restore.metrics import PROTOCOLS

    tasks: dict[tuple[Degradation, int], dict[str, Runner | None]] = {}
    files = {model.name: model.weights for model in map(bundled.find, args.model)}
    files |= {name: Path(name) for name in args.weights if name not in BASELINES}
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
            rows += measure(models, images, degradation, protocol, channels, look, ranks)
    return rows


def _measure_bundled(args: argparse.Namespace) -> int:
    """The table of all bundled models, printed or written between the markers of a file."""
    from restore import bundled
    from restore.bundled.card import results_table, tier, write_between_markers
    from restore.compat import load_any

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
    from restore.images.tensors import to_image

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
    from restore.data.degradation import Bicubic, BicubicBlur, GaussianNoise, Jpeg

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
    from restore.data.degradation import GaussianNoise

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
