"""What all commands share: one line and exit code 1 for a user's mistake."""

import argparse
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import torch

from restore.checkpoint import Weights
from restore.data.degradation import from_description
from restore.errors import UserError
from restore.inference import BACKENDS, PRECISIONS, Calibration, Engine, Precision, accelerate

CONFIGS = Path(__file__).parent / "configs"


class ArgumentParser(argparse.ArgumentParser):
    """argparse's parser, with examples kept as they are written and wrong arguments as `UserError`."""

    def __init__(self, module: str, description: str, examples: str) -> None:
        super().__init__(
            prog=f"python -m {module}",
            description=description,
            epilog=examples,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (see {self.prog} --help)")


def device(name: str) -> str:
    """The type of a `--device` option: the name of a device that is there."""
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise argparse.ArgumentTypeError(f"{name} is not to be had here ({str(error).splitlines()[0]})") from error
    return name


def best_device() -> str:
    """`cuda` where there is one, else `cpu`."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def add_engine_arguments(parser: argparse.ArgumentParser, precision: Precision) -> None:
    """How networks are run: `--device`, `--backend` and `--precision`, with this default of the last."""
    parser.add_argument("--device", type=device, default=best_device(), help="default: %(default)s")
    parser.add_argument(
        "--backend", choices=BACKENDS, default="auto", help="default: OpenVINO on a CPU where it is installed"
    )
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        default=precision,
        help="auto: bf16 where it is faster and costs at most 0.02 dB; int8 is made once, takes a minute and says what "
        "it costs (default: %(default)s)",
    )


def engine(args: argparse.Namespace, path: Path, weights: Weights, root: Path) -> Engine:
    """The network of a weights file as the arguments of `add_engine_arguments` have it run.

    Args:
        args: of the command line.
        path: of the weights file.
        weights: what it holds.
        root: where known data sets lie, for int8.

    Raises:
        UserError: it cannot be run so here.
    """
    return accelerate(
        weights.network,
        backend=args.backend,
        precision=args.precision,
        device=args.device,
        degradation=from_description(weights.degradation),
        calibration=Calibration(weights.training.get("train", {}).get("set", "photos"), root, beside=path),
    )


def run(main: Callable[[], int]) -> None:
    """Run a command's `main` and exit with its code; a user's mistake is one line on stderr and code 1."""
    logging.basicConfig(format="%(message)s")
    logging.getLogger("restore").setLevel(logging.INFO)
    try:
        sys.exit(main())
    except UserError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted")
