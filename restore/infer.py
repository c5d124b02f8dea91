"""python -m restore.infer: images -> restored images."""

import argparse
import hashlib
import math
import os
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from restore import cli, runner_options
from restore.choices import BUNDLED_NAMES
from restore.data.catalog import default_root
from restore.errors import UserError
from restore.images.header import MEGAPIXELS
from restore.images.picture import FORMATS, JPEG_QUALITY

if TYPE_CHECKING:  # with torch, which is not imported before the arguments are known to be right
    from restore.folder import Job, Networks, Summary
    from restore.images.content import Content
    from restore.inference import Runner
    from restore.page import ComparisonPage

ANY_SIGMA = -1.0  # of --denoise without a level

EXAMPLES = """examples:
  restore infer --denoise --input photo.jpg --output out/
  restore infer --denoise 25 --input scans/ --output clean/
  restore infer --denoise --fast --input photos/ --output clean/
  restore infer --upscale 2 --input photo.jpg --output large/
  restore infer --dejpeg --input old.jpg --output out/
  restore infer --model dncnn-color-blind --input photos/ --output clean/
  restore infer --weights edsr.safetensors --input a.png b.jpg --output large/
  restore infer --weights ffdnet.pth --sigma 30 --input in/ --output out/
  restore infer --denoise --input photos/ --output clean/ --report page.html
  torchrun --nproc-per-node 4 -m restore.infer --upscale 2 --input a --output b

--denoise looks at each image. Gray ones, also if they are saved in RGB, get
dncnn-gray-25 for sigma 25 and dncnn-gray-blind for other and unknown levels;
those in color get dncnn-color-blind, or dncnn-color-real if JPEG has smoothed
their chroma. --fast takes dncnn-gray-blind for all gray images, a fifth of the
work. --upscale takes edsr-baseline-x2, -x3 or -x4, and --dejpeg dncnn3. The
same command continues an interrupted run.
"""


def main(argv: list[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    if args.fast and args.denoise is None:
        raise UserError("--fast: only --denoise has a faster network")
    if args.sigma is not None and args.denoise is not None:
        raise UserError(f"--sigma: give the level as --denoise {args.sigma:g}")
    from restore.files import check_writable
    from restore.folder import Writing, passed_over, plan, restore_folder
    from restore.hardware import available_device, keep_pages
    from restore.provenance import provenance
    from restore.ranks import ranks_of_torchrun

    device = available_device(args.device)
    if device.type == "cpu":
        keep_pages()

    def jobs() -> "list[Job]":
        return plan(args.input, args.output, args.format, args.compare)

    if args.report:
        if args.report.suffix.lower() not in (".html", ".htm"):
            raise UserError(f"--report {args.report}: expected a name that ends in .html")
        check_writable(ranks_of_torchrun().own(args.report))
    if args.compare:
        check_writable(args.compare / "sheet.png")
    sigma = None if args.denoise in (None, ANY_SIGMA) else args.denoise
    networks, engines, settings = _networks(args, sigma, jobs)
    page = _page() if args.report else None
    show = page.add_restored if page else None
    writing = Writing(args.quality, args.max_megapixels, args.workers, args.compare, show)
    origin = {"engine": "; ".join(dict.fromkeys(engines.values())), **provenance(device)}
    summary = restore_folder(networks, jobs(), args.output, settings, writing, args.overwrite, origin)
    _print(summary, args.output)
    _print_networks(summary, engines, sigma)
    if others := passed_over(args.input, list(filter(None, (args.output, args.compare)))):
        print(f"note: passed over: {others}")
    if page:
        settings = {"weights": ", ".join(engines), **origin}
        print(f"report: {_write_report(page, args.report, args.output, summary, settings)}")
    return 1 if summary.having("failed") or summary.unlogged else 0


def _parser() -> cli.ArgumentParser:
    parser = cli.ArgumentParser("infer", "Restore images with a trained network.", EXAMPLES)
    network = parser.add_argument_group("network (one of these)").add_mutually_exclusive_group(required=True)
    network.add_argument(
        "--denoise",
        type=_sigma,
        nargs="?",
        const=ANY_SIGMA,
        metavar="SIGMA",
        help="remove noise with the bundled model for it; SIGMA: its standard deviation (0-255) if it is known",
    )
    network.add_argument("--upscale", type=int, choices=(2, 3, 4), help="upscale by this factor, with a bundled model")
    network.add_argument("--dejpeg", action="store_true", help="remove JPEG artifacts of the luma, by a bundled model")
    network.add_argument(
        "--model", metavar="NAME", help=f"a bundled model, by name or beginning: {', '.join(BUNDLED_NAMES)}"
    )
    network.add_argument("--weights", type=cli.path, metavar="FILE", help="a weights file, ours or another project's")
    parser.add_argument(
        "--sigma", type=_sigma, help="noise level (0-255) of the images, for networks that take it: FDnCNN, FFDNet"
    )
    parser.add_argument(
        "--fast", action="store_true", help="with --denoise: for gray images a network of a fifth of the work"
    )
    parser.add_argument("--scale", type=int, help="the scale at which to run an MDSR (default: the file's)")
    files = parser.add_argument_group("files")
    files.add_argument("--input", type=cli.path, nargs="+", required=True, help="images and folders of images")
    files.add_argument("--output", type=cli.path, required=True, help="folder for the restored images, same names")
    files.add_argument("--format", choices=FORMATS, help="of the restored images (default: that of each input)")
    files.add_argument(
        "--quality",
        type=_quality,
        metavar="1-100",
        help=f"of JPEG and WebP (default: JPEG {JPEG_QUALITY}, WebP lossless)",
    )
    files.add_argument("--compare", type=cli.path, metavar="DIR", help="write a sheet of each image: input and result")
    files.add_argument(
        "--report", type=cli.path, metavar="FILE.html", help="write a page with sliders: input and result"
    )
    again = files.add_mutually_exclusive_group()
    again.add_argument(
        "--resume", dest="overwrite", action="store_false", default=False, help="keep finished images (the default)"
    )
    again.add_argument("--overwrite", action="store_true", help="restore all images again")
    files.add_argument(
        "--max-megapixels",
        type=cli.positive,
        metavar="N",
        help=f"refuse larger inputs before decoding (default: RESTORE_MAX_MEGAPIXELS, or {MEGAPIXELS:g})",
    )
    files.add_argument(
        "--workers",
        type=cli.count,
        metavar="N",
        default=min(8, os.cpu_count() or 1),
        help="threads that read, and as many that write, while the network runs (default: %(default)s)",
    )
    runner_options.add_arguments(parser, precision="auto")
    return parser


def _page() -> "ComparisonPage":
    from restore.page import ComparisonPage

    return ComparisonPage()


def _networks(
    args: argparse.Namespace, sigma: float | None, jobs: "Callable[[], list[Job]]"
) -> "tuple[Networks, dict[str, str], dict[str, Any]]":
    """The networks that the images need, the engine of each in words, and the settings that decide what the results
    look like: exact tiles don't."""
    from restore.folder import Networks
    from restore.images.content import content
    from restore.images.decode import is_in_color

    by_content = _weights(args, sigma)
    files = used = dict(by_content.values())
    if len(files) > 1 and not any(is_in_color(job.source, args.max_megapixels) for job in jobs()):
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


def _weights(args: argparse.Namespace, sigma: float | None) -> "dict[Content, tuple[str, Path]]":
    """The name and the weights file of the network that restores images of each content."""
    from restore import bundled
    from restore.images.content import CONTENTS

    if args.weights:
        return dict.fromkeys(CONTENTS, (str(args.weights), args.weights))
    if args.denoise is not None:
        models = {kind: bundled.denoiser(sigma, kind, args.fast) for kind in CONTENTS}
    elif args.model:
        models = dict.fromkeys(CONTENTS, bundled.find(args.model))
    else:
        models = dict.fromkeys(CONTENTS, bundled.deblocker() if args.dejpeg else bundled.upscaler(args.upscale))
    return {kind: (model.name, model.weights) for kind, model in models.items()}


def _runner(args: argparse.Namespace, path: Path) -> "tuple[Runner, str]":
    """What runs a weights file, at the given noise level if it takes one, and the engine in words."""
    from restore.foreign_checkpoints import load_any
    from restore.inference import at_level

    weights = load_any(path, scale=args.scale)
    if args.sigma is not None and weights.network.inputs == weights.network.channels:
        raise UserError(f"--sigma: {type(weights.network).__name__} does not take a noise level")
    runner, engine = runner_options.runner(cli.chosen(runner_options.Options, args), path, weights, default_root())
    return at_level(runner, None if args.sigma is None else args.sigma / 255), engine


def _print(summary: "Summary", output: Path) -> None:
    from restore.ranks import ranks_of_torchrun

    restored, kept, failed = (summary.having(status) for status in ("restored", "kept", "failed"))
    ranks = ranks_of_torchrun()
    share = f"rank {ranks.rank}: " if ranks.count > 1 else ""
    print(f"{share}{len(restored)} of {len(summary.outcomes) - len(kept)} images restored", end="")
    if restored:
        print(
            f", {summary.megapixels / summary.elapsed_s:.2f} megapixels/s, the network was idle "
            f"{summary.waited_s / summary.elapsed_s:.0%} of the time",
            end="",
        )
    print(f": {output}")
    if kept:
        print(f"{len(kept)} were already done (--overwrite restores them again)")
    for outcomes, more in ((restored, " (see the log)"), (kept, "")):
        for left_out, count in Counter(note for outcome in outcomes for note in outcome.notes).items():
            print(f"note: {count} written without {left_out}{more}")
    for outcome in failed:
        print(f"failed: {outcome.reason}", file=sys.stderr)
    if summary.unlogged:
        print(f"failed: {summary.unlogged}", file=sys.stderr)
    else:
        print(f"log: {summary.log}")


def _print_networks(summary: "Summary", engines: Mapping[str, str], sigma: float | None) -> None:
    """Which network restored how many images, by which engine; what was left as it was; whether a level was of use."""
    from restore import bundled

    restored = summary.having("restored")
    counts = Counter(outcome.network for outcome in restored)
    for name, engine in engines.items():
        images = f", {counts[name]} of the images" if len(engines) > 1 else ""
        print(f"{name}: network run by {engine}{images}")
    if count := sum(outcome.luma_only for outcome in restored):
        print(f"note: {count} in color, of which a network for gray images restored only the luma")
    if sigma is not None and (estimating := [name for name in counts if name not in bundled.FOR_LEVEL.values()]):
        print(f"note: the level {sigma:g} is not used by {', '.join(estimating)}: estimated in each image instead")


def _write_report(
    page: "ComparisonPage", path: Path, output: Path, summary: "Summary", settings: Mapping[str, object]
) -> Path:
    """The page of what was restored now, and of what was not; under torchrun each process has its own."""
    from restore.page import Table
    from restore.ranks import ranks_of_torchrun

    path = ranks_of_torchrun().own(path)
    kept, failed = summary.having("kept"), summary.having("failed")
    page.discard({str(one.job.target.relative_to(output)) for one in failed})
    left_out = [Table("Not restored", [{"image": str(one.job.source), "reason": one.reason} for one in failed])]
    page.write(path, "Restored images", {**settings, "finished before": len(kept)}, left_out if failed else [])
    return path


def _quality(text: str) -> int:
    if not (text.isdecimal() and 1 <= int(text) <= 100):
        raise argparse.ArgumentTypeError(f"expected 1 to 100, found {text}")
    return int(text)


def _sigma(text: str) -> float:
    try:
        if 0 <= (value := float(text)) < math.inf:
            return value
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"expected a noise level of 0 or more (0-255), found {text}")


if __name__ == "__main__":
    cli.run(main)
