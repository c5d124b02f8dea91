"""What all commands share: one line and exit code 1 for a user's mistake."""

import argparse
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import torch

from restore.errors import UserError
from restore.inference import Ensemble, Runner, Tile, tiled
from restore.models import RestorationNetwork

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


def tile(text: str) -> Tile:
    """The type of a `--tile` option."""
    if text == "auto":
        return "auto"
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected auto or a number of pixels, found {text!r}")
    return int(text)


def add_runner_arguments(parser: argparse.ArgumentParser) -> None:
    """Options for how images are restored; see `runner`."""
    parser.add_argument(
        "--tile",
        type=tile,
        default="auto",
        metavar="auto|N|0",
        help="N: restore images in tiles of NxN pixels; 0: whole; auto (the default): whole where memory is enough",
    )
    parser.add_argument(
        "--tile-approximate",
        action="store_true",
        help="tile also networks whose results that changes (group norm, ...)",
    )
    parser.add_argument(
        "--ensemble", action="store_true", help="mean over 8 turns and reflections: better, 8 times slower"
    )


def runner(network: RestorationNetwork, args: argparse.Namespace) -> Runner:
    """`network`, in eval mode on its device, run as the options of `add_runner_arguments` say.

    Raises:
        UserError: tiles are asked for and the network cannot be tiled exactly.
    """
    inner = Ensemble(network) if args.ensemble else network
    return tiled(network, args.tile, approximate=args.tile_approximate, runner=inner)


def best_device() -> str:
    """`cuda` where there is one, under torchrun this process's own; else `cpu`."""
    if not torch.cuda.is_available():
        return "cpu"
    return f"cuda:{local}" if (local := os.environ.get("LOCAL_RANK")) else "cuda"


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
