"""python -m restore.infer: images -> restored images."""

import argparse
import hashlib
import os
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from restore import bundled, command, running
from restore.compat import load_any
from restore.data.catalog import default_root
from restore.errors import UserError
from restore.folder import LOG_NAME, Job, Networks, Summary, Writing, passed_over, plan, restore_folder
from restore.images.content import Content, content
from restore.images.decode import is_in_colour
from restore.images.header import MEGAPIXELS
from restore.images.picture import FORMATS, JPEG_QUALITY
from restore.images.pixels import Image
from restore.inference import Runner, at_level
from restore.page import ComparisonPage, Table
from restore.provenance import provenance
from restore.ranks import ranks_of_torchrun

ANY_SIGMA = -1.0  # of --denoise without a level
CONTENTS: tuple[Content, ...] = ("gray", "luma", "color")

EXAMPLES = f"""examples:
  python -m restore.infer --denoise --input photo.jpg --output out/
  python -m restore.infer --denoise 25 --input scans/ --output clean/
  python -m restore.infer --upscale 2 --input photo.jpg --output large/
  python -m restore.infer --dejpeg --input old.jpg --output out/
  python -m restore.infer --model dncnn-color-blind --input photos/ --output clean/
  python -m restore.infer --weights runs/quickstart/weights.safetensors --input photos/ --output restored/
  python -m restore.infer --weights edsr.safetensors --input a.png b.jpg --output enlarged/ --device cuda
  python -m restore.infer --weights edsr.safetensors --input scans/ --output large/ --format png --compare sheets/
  python -m restore.infer --weights dncnn.safetensors --input photos/ --output small/ --format webp --quality 90
  python -m restore.infer --weights dncnn.safetensors --input photos/ --output clean/ --report clean/index.html
  python -m restore.infer --weights ffdnet_gray.pth --sigma 30 --input photos/ --output clean/
  torchrun --nproc-per-node 4 -m restore.infer --weights edsr.safetensors --input photos/ --output large/

An image is finished, and kept by the next run, when its result is there, was made with the same weights and settings
({LOG_NAME} in the output folder knows) and is no older than its input.

bundled models: {", ".join(bundled.MODELS)}
--denoise looks at each image: gray ones, also if they are saved in RGB, get dncnn-gray-25 for 25, dncnn-gray-blind for
other levels and unknown ones; those in color get dncnn-color-blind, or dncnn-gray-blind for their luma if JPEG has
smoothed their chroma. --upscale takes edsr-baseline-x2, -x3 or -x4. --dejpeg takes dncnn3.
"""


def main(argv: list[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    sheets = [args.compare] if args.compare else []

    def jobs() -> list[Job]:
        return plan(args.input, args.output, args.format, sheets)

    sigma = None if args.denoise in (None, ANY_SIGMA) else args.denoise
    networks, engines, settings = _networks(args, sigma, jobs)
    page = ComparisonPage()

    def show(name: str, before: Image, after: Image, network: str) -> None:
        page.add(name, before, after, network=network)

    writing = Writing(args.quality, args.max_megapixels, args.workers, args.compare, show if args.report else None)
    engine = "; ".join(dict.fromkeys(engines.values()))
    origin = {"engine": engine, **provenance(torch.device(args.device))}
    summary = restore_folder(networks, jobs(), args.output, settings, writing, args.overwrite, origin)
    _print(summary, args.output)
    _print_networks(summary, engines, sigma)
    if others := passed_over(args.input, [args.output, *sheets]):
        kinds = ", ".join(f"{count} {suffix}" for suffix, count in others.most_common())
        print(f"note: files passed over, no images by their suffix: {kinds}")
    if args.report:
        print(f"report: {_write_report(page, args.report, summary, {'weights': ', '.join(engines), **origin})}")
    return 1 if summary.having("failed") else 0


def _parser() -> command.ArgumentParser:
    parser = command.ArgumentParser("restore.infer", "Restore images with a trained network.", EXAMPLES)
    network = parser.add_mutually_exclusive_group(required=True)
    network.add_argument("--weights", type=Path, help="a weights file")
    network.add_argument("--model", metavar="NAME", help="a bundled model, by name or the name's beginning")
    network.add_argument(
        "--denoise",
        type=_sigma,
        nargs="?",
        const=ANY_SIGMA,
        metavar="SIGMA",
        help="remove noise, of this standard deviation (0-255) where it is known, with the bundled model for it",
    )
    network.add_argument(
        "--upscale", type=int, choices=(2, 3, 4), help="enlarge so many times, with the bundled model for it"
    )
    network.add_argument("--dejpeg", action="store_true", help="remove JPEG artifacts, with the bundled model for it")
    parser.add_argument("--input", type=Path, nargs="+", required=True, help="images and folders of images")
    parser.add_argument("--output", type=Path, required=True, help="folder for the restored images, same names")
    parser.add_argument("--format", choices=FORMATS, help="write all images so (default: as they come)")
    parser.add_argument(
        "--quality",
        type=_quality,
        help=f"1 to 100, of JPEG and WebP (default: JPEG {JPEG_QUALITY}, WebP lossless)",
    )
    parser.add_argument("--compare", type=Path, help="folder for a sheet of each image: input and result")
    parser.add_argument("--report", type=Path, metavar="FILE.html", help="write a page with sliders: input and result")
    again = parser.add_mutually_exclusive_group()
    again.add_argument(
        "--resume", dest="overwrite", action="store_false", default=False, help="keep what is finished (the default)"
    )
    again.add_argument("--overwrite", action="store_true", help="restore everything again")
    parser.add_argument(
        "--max-megapixels",
        type=_positive,
        help=f"refuse larger inputs before they are decoded (default: RESTORE_MAX_MEGAPIXELS, or {MEGAPIXELS:g})",
    )
    parser.add_argument(
        "--workers",
        type=_count,
        default=min(8, os.cpu_count() or 1),
        help="threads that read, and as many that write, beside the network (default: %(default)s)",
    )
    parser.add_argument(
        "--sigma", type=_sigma, help="noise level of the images (0-255), for networks that are told it: FDnCNN, FFDNet"
    )
    parser.add_argument("--scale", type=int, help="at which an MDSR is to work (default: as in the file)")
    running.add_arguments(parser, precision="auto")
    return parser


def _networks(
    args: argparse.Namespace, sigma: float | None, jobs: Callable[[], list[Job]]
) -> tuple[Networks, dict[str, str], dict[str, Any]]:
    """The networks that the images need, the engine of each in words, and the settings that decide what results look
    like: exact tiles don't."""
    by_content = _weights(args, sigma)
    files = used = dict(by_content.values())
    if len(files) > 1 and not any(is_in_colour(job.source) for job in jobs()):
        used = dict([by_content["gray"]])
    made = {name: _runner(args, path) for name, path in used.items()}
    runners = {name: runner for name, (runner, _) in made.items()}
    name = next(iter(runners))
    networks = Networks.single(runners[name], name)
    if len(runners) > 1:
        networks = Networks(runners, lambda pixels: by_content[content(pixels)][0])
    hashes = {name: f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()[:16]}" for name, path in files.items()}
    settings = {
        "weights": hashes if args.denoise is not None else next(iter(hashes.values())),
        "scale": networks.scale,
        "precision": args.precision,
        "ensemble": args.ensemble,
        "tile": args.tile if args.tile_approximate else "exact",
        **({} if args.sigma is None else {"sigma": args.sigma}),
    }
    return networks, {name: engine for name, (_, engine) in made.items()}, settings


def _runner(args: argparse.Namespace, path: Path) -> tuple[Runner, str]:
    """What runs a weights file, told the level of the noise if there is one to tell, and the engine in words."""
    weights = load_any(path, scale=args.scale)
    if args.sigma is not None and weights.network.inputs == weights.network.channels:
        raise UserError(f"--sigma: {type(weights.network).__name__} is not told the noise level of an image")
    runner, engine = running.runner(args, path, weights, default_root())
    return at_level(runner, None if args.sigma is None else args.sigma / 255), engine


def _weights(args: argparse.Namespace, sigma: float | None) -> dict[Content, tuple[str, Path]]:
    """The name and the weights file of the network that restores images of each content."""
    if args.weights:
        return dict.fromkeys(CONTENTS, (str(args.weights), args.weights))
    if args.denoise is not None:
        models = {kind: bundled.denoiser(sigma, kind) for kind in CONTENTS}
    elif args.model:
        models = dict.fromkeys(CONTENTS, bundled.find(args.model))
    else:
        models = dict.fromkeys(CONTENTS, bundled.deblocker() if args.dejpeg else bundled.upscaler(args.upscale))
    return {kind: (model.name, model.weights) for kind, model in models.items()}


def _print(summary: Summary, output: Path) -> None:
    restored, kept, failed = (summary.having(status) for status in ("restored", "kept", "failed"))
    ranks = ranks_of_torchrun()
    share = f"rank {ranks.rank}: " if ranks.count > 1 else ""
    print(f"{share}{len(restored)} of {len(summary.outcomes) - len(kept)} images restored", end="")
    if restored:
        print(
            f", {summary.megapixels / summary.elapsed_s:.2f} megapixels/s, the network waited "
            f"{summary.waited_s / summary.elapsed_s:.0%} of the time",
            end="",
        )
    print(f": {output}")
    if kept:
        print(f"{len(kept)} more were finished before (--overwrite restores them again)")
    for left_out, count in Counter(note for outcome in restored for note in outcome.notes).items():
        print(f"note: {count} written without {left_out} (see the log)")
    for outcome in failed:
        print(f"failed: {outcome.reason}", file=sys.stderr)
    print(f"log: {summary.log}")


def _print_networks(summary: Summary, engines: Mapping[str, str], sigma: float | None) -> None:
    """Which network restored how many images, by which engine, and where a known level was of no use."""
    counts = Counter(outcome.network for outcome in summary.having("restored"))
    for name, engine in engines.items():
        images = f", {counts[name]} of the images" if len(engines) > 1 else ""
        print(f"{name}: network run by {engine}{images}")
    if sigma is not None and (estimating := [name for name in counts if name not in bundled.FOR_LEVEL.values()]):
        print(f"note: the level {sigma:g} is not used by {', '.join(estimating)}: estimated in each image instead")


def _write_report(page: ComparisonPage, path: Path, summary: Summary, settings: Mapping[str, object]) -> Path:
    """The page of what was restored now, and of what was not; under torchrun each process has its own."""
    path = ranks_of_torchrun().own(path)
    kept, failed = summary.having("kept"), summary.having("failed")
    left_out = [Table("Not restored", [{"image": str(one.job.source), "reason": one.reason} for one in failed])]
    page.write(path, "Restored images", {**settings, "finished before": len(kept)}, left_out if failed else [])
    return path


def _quality(text: str) -> int:
    if not (text.isdecimal() and 1 <= int(text) <= 100):
        raise argparse.ArgumentTypeError(f"expected 1 to 100, found {text}")
    return int(text)


def _sigma(text: str) -> float:
    try:
        if (value := float(text)) >= 0:
            return value
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"expected a noise level of 0 or more (0-255), found {text}")


def _count(text: str) -> int:
    if not (text.isdecimal() and int(text) >= 1):
        raise argparse.ArgumentTypeError(f"expected 1 or more, found {text}")
    return int(text)


def _positive(text: str) -> float:
    try:
        if (value := float(text)) > 0:
            return value
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"expected a number above 0, found {text}")


if __name__ == "__main__":
    command.run(main)
