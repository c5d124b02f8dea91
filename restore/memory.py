"""python -m restore.memory: networks x norms -> where a training step's memory goes, and what batch norm costs."""

import argparse
import sys
from typing import get_args

from restore import cli
from restore.choices import NORMS, Quantity, Recompute, StepPrecision

RECIPES = {
    "EDSR-baseline": "edsr_baseline_x2",
    "EDSR-32x256": "edsr_x2",
    "DnCNN-17": "dncnn_gray_25",
    "DnCNN-20": "dncnn_blind",
    "SRResNet": "srresnet_x4",
}

EXAMPLES = """examples:
  restore memory                                what batch norm costs
  restore memory --networks DnCNN-17 --device cpu       real steps, timed
  restore memory --networks EDSR-baseline --layers      which layers keep what
  restore memory --precision bf16-mixed --channels-last --plot memory.png
  restore memory --networks EDSR-baseline --sweep batch --plot sweep.png
  restore memory fit --budget 12GiB             the largest sizes that fit
"""


def main(argv: list[str] | None = None) -> int:
    args = sys.argv[1:] if argv is None else argv
    if args[:1] == ["fit"]:
        settings = _fit_parser().parse_args(args[1:])
        from restore.memory_table import Steps, print_fitting

        print_fitting(cli.chosen(Steps, settings), settings.budget)
        return 0
    parser = _parser()
    settings = parser.parse_args(args)
    if settings.compile is not None and not settings.device:
        parser.error("--compile needs --device, because it cannot be forecast")
    if settings.device and (settings.layers or settings.sweep):
        parser.error("--layers and --sweep use the forecast; drop --device")
    from restore.memory_table import Shown, Steps, compare

    compare(cli.chosen(Steps, settings), cli.chosen(Shown, settings))
    return 0


def _parser() -> cli.ArgumentParser:
    description = "Show where the memory of a training step goes, and what batch norm costs."
    parser = cli.ArgumentParser("memory", description, EXAMPLES)
    _add_step_arguments(parser)
    table = parser.add_argument_group("what is shown")
    table.add_argument(
        "--recompute",
        nargs="+",
        choices=get_args(Recompute),
        default=get_args(Recompute),
        help="none: keep all for backward; norm: recompute norms and activations (default: both)",
    )
    table.add_argument(
        "--compile",
        type=_share,
        nargs="?",
        const=1.0,
        metavar="SHARE",
        help="torch.compile, keeping at most this share of the activations (default: 1); needs --device",
    )
    table.add_argument(
        "--sweep", choices=get_args(Quantity), help="the saving, relative to the first norm, against this quantity"
    )
    table.add_argument("--layers", action="store_true", help="by layer: what it keeps, what it shares")
    files = parser.add_argument_group("files to write")
    files.add_argument("--json", type=cli.path, metavar="FILE", help="rows, layers and provenance, in bytes")
    files.add_argument("--csv", type=cli.path, metavar="FILE", help="rows, in bytes")
    files.add_argument("--plot", type=cli.path, metavar="FILE.png", help="a plot of the table or of the sweep")
    return parser


def _fit_parser() -> cli.ArgumentParser:
    description = "Find the largest batch, patch, width and depth whose training step fits."
    parser = cli.ArgumentParser("memory fit", description, EXAMPLES)
    parser.add_argument("--budget", required=True, metavar="SIZE", help="memory, e.g. 12GiB or 800MiB")
    _add_step_arguments(parser)
    return parser


def _add_step_arguments(parser: argparse.ArgumentParser) -> None:
    step = parser.add_argument_group("the training step")
    step.add_argument(
        "--networks",
        nargs="+",
        metavar="NAME",
        default=list(RECIPES),
        help=f"{', '.join(RECIPES)}, or recipes (names or YAML files); default: all these",
    )
    step.add_argument(
        "--norms",
        nargs="+",
        choices=NORMS,
        metavar="NORM",
        default=["batch", "none"],
        help=f"of {', '.join(NORMS)}; default: batch none",
    )
    step.add_argument("--batch", type=cli.count, help="patches per step (default for all sizes: the recipe's)")
    step.add_argument("--patch", type=cli.count, help="height and width of the network's input")
    step.add_argument("--scale", type=cli.count, help="upscale factor of super-resolution networks")
    step.add_argument("--precision", choices=get_args(StepPrecision), default="fp32", help="default: %(default)s")
    step.add_argument("--optimizer", metavar="NAME", help="as optim.optimizer in training (default: the recipe's)")
    step.add_argument("--channels-last", action="store_true", help="use the memory format (N, H, W, C)")
    step.add_argument("--device", metavar="NAME", help="measure real steps on cpu or cuda (default: forecast)")


def _share(text: str) -> float:
    value = cli.positive(text)
    if value > 1:
        raise argparse.ArgumentTypeError(f"expected a share of at most 1, found {text}")
    return value


if __name__ == "__main__":
    cli.run(main)
