"""python -m restore.evaluate: weights x test sets -> a table of PSNR and SSIM."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from restore import cli, runner_options
from restore.choices import BUNDLED_NAMES, PROTOCOL_NAMES
from restore.data.catalog import NAMES, default_root, has_real_noise

STDOUT = Path("-")
OF_DEGRADATION = ("sigma", "quality", "degradation", "degraded")
OF_FILES = ("json", "csv", "sheet", "report")

EXAMPLES = f"""examples:
  restore evaluate --weights runs/quickstart/weights.safetensors --data photos
  restore evaluate --model dncnn-gray-blind --data Set12 BSD68 --sigma 15 25 50
  restore evaluate --weights a.safetensors b.safetensors --data Set5 B100
  restore evaluate --weights my.safetensors --data photos \\
    --degradation PoissonGaussian --degradation.gain 2
  restore evaluate --weights my.safetensors --data CLEAN --degraded NOISY
  restore evaluate --model dncnn-color-blind --data PolyU --root DATA
  restore evaluate --weights my.safetensors --data LIVE1 --quality 10 40
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
    args, settings = parser.parse_known_args(argv)
    _check(parser, args, settings)
    options = cli.chosen(runner_options.Options, args)
    from restore import evaluation

    if args.all_bundled:
        evaluation.evaluate_bundled(options, args.root, None if args.all_bundled == STDOUT else args.all_bundled)
        return 0
    files = cli.chosen(evaluation.Files, args)
    if args.restored:
        scale = (args.scale or [1])[0]
        evaluation.evaluate_folder(args.restored, args.reference, args.protocol, scale, files)
        return 0
    args.options = options
    args.degradation = evaluation.make_degradation(args.degradation, settings) if args.degradation or settings else None
    return evaluation.evaluate(cli.chosen(evaluation.Evaluation, args), files)


def _parser() -> cli.ArgumentParser:
    parser = cli.ArgumentParser("evaluate", "Measure networks by the papers' protocols.", EXAMPLES)
    what = parser.add_argument_group("what is measured")
    what.add_argument("--weights", nargs="+", default=[], metavar="FILE", help="weights files, `noisy` or `bicubic`")
    what.add_argument("--model", nargs="+", default=[], metavar="NAME", help="bundled models")
    what.add_argument("--restored", type=cli.path, metavar="DIR", help="score existing images, against --reference")
    what.add_argument(
        "--reference", type=cli.path, metavar="DIR", help="the true images for --restored, of the same names"
    )
    what.add_argument(
        "--all-bundled",
        nargs="?",
        type=cli.path,
        const=STDOUT,
        metavar="FILE.md",
        help="measure all bundled models on their test sets and print the table, or write it between FILE's markers",
    )
    on = parser.add_argument_group("on which images")
    on.add_argument("--data", nargs="+", default=[], metavar="SET", help="test sets: known names or folders")
    on.add_argument(
        "--root", type=cli.path, default=default_root(), help="folder of the known sets (default: %(default)s)"
    )
    on.add_argument("--sigma", type=float, nargs="+", default=[], help="noise levels, 0-255 (default: as trained)")
    on.add_argument("--quality", type=int, nargs="+", default=[], help="JPEG qualities")
    on.add_argument("--scale", type=int, nargs="+", default=[], help="scales, for `bicubic`, MDSR and DnCNN-3")
    on.add_argument(
        "--degradation",
        metavar="CLASS",
        help="with its settings as --degradation.NAME VALUE (default: the one that the weights state)",
    )
    on.add_argument(
        "--degraded",
        nargs="+",
        type=cli.path,
        default=[],
        metavar="DIR",
        help="folders of degraded images, one for each of --data, of the same names",
    )
    on.add_argument("--protocol", choices=PROTOCOL_NAMES, help="default: the papers' for each test set")
    written = parser.add_argument_group("files to write")
    written.add_argument("--json", type=cli.path, metavar="FILE", help="the rows with every image's scores")
    written.add_argument("--csv", type=cli.path, metavar="FILE", help="the rows")
    written.add_argument("--sheet", type=cli.path, metavar="FILE.png", help="a sheet: degraded, restored, truth")
    written.add_argument("--report", type=cli.path, metavar="FILE.html", help="a page with sliders, crops and scores")
    runner_options.add_arguments(parser, precision="fp32")
    return parser


def _check(parser: cli.ArgumentParser, args: argparse.Namespace, settings: list[str]) -> None:
    """Raises UserError if options are missing or cannot be combined."""
    if stray := [word for word in settings if word.startswith("--") and not word.startswith("--degradation.")]:
        parser.error(f"unrecognized arguments: {stray[0]}")
    if args.all_bundled:
        others = "weights", "model", "data", "restored", "reference", *OF_DEGRADATION, "protocol", "scale", *OF_FILES
        _refuse(parser, args, settings, "--all-bundled", others)
    elif args.restored or args.reference:
        if not (args.restored and args.reference and args.protocol):
            parser.error("--restored, --reference and --protocol are needed together")
        _refuse(parser, args, settings, "--restored", ("weights", "model", "data", *OF_DEGRADATION, "sheet", "report"))
        if len(args.scale) > 1:
            parser.error("--restored takes one --scale")
    elif not ((args.weights or args.model) and args.data):
        parser.error("--weights or --model, and --data are needed (or --restored and --reference)")
    else:
        _check_degradation(parser, args)


def _refuse(
    parser: cli.ArgumentParser, args: argparse.Namespace, settings: list[str], mode: str, others: Sequence[str]
) -> None:
    if given := [*(f"--{name}" for name in others if getattr(args, name)), *settings]:
        parser.error(f"{mode} cannot be combined with {given[0]}")


def _check_degradation(parser: cli.ArgumentParser, args: argparse.Namespace) -> None:
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
        parser.error(
            f"{noisy[0]} has noisy images of its own: measure it separately, or choose one degradation for all sets "
            "with --sigma"
        )
    args.paired = bool(args.degraded or (noisy and not ways))
    if args.paired and len(args.scale) > 1:
        parser.error("pairs of images have one --scale")


if __name__ == "__main__":
    cli.run(main)
