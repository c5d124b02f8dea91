"""How commands run networks: the options of device, engine and tiles, and the runner that they make."""

import argparse
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from restore.choices import Backend, InferencePrecision, Tile

if TYPE_CHECKING:  # with torch, which is not imported before the arguments are known to be right
    from restore.checkpoint import Weights
    from restore.inference import Runner

LOG = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser, precision: InferencePrecision) -> None:
    """Options for how images are restored, with this default of `--precision`; see `runner`."""
    group = parser.add_argument_group("speed and memory")
    group.add_argument("--device", metavar="NAME", help="cpu, cuda, cuda:1, mps (default: the fastest that is there)")
    group.add_argument(
        "--backend", choices=get_args(Backend), default="auto", help="default: OpenVINO on a CPU if it is installed"
    )
    group.add_argument(
        "--precision",
        choices=get_args(InferencePrecision),
        default=precision,
        help="auto: the fastest that costs at most 0.02 dB, int8 only if it was made before; int8: takes a minute to "
        "prepare once (default: %(default)s)",
    )
    group.add_argument(
        "--tile",
        type=tile,
        default="auto",
        metavar="auto|N|0",
        help="N: restore images in tiles of NxN pixels; 0: whole; auto (the default): whole if memory is sufficient",
    )
    group.add_argument(
        "--tile-approximate",
        action="store_true",
        help="also tile networks whose results it changes (group norm, ...)",
    )
    group.add_argument(
        "--ensemble", action="store_true", help="average over 8 rotations and flips: better, 8 times slower"
    )


def tile(text: str) -> Tile:
    """The type of a `--tile` option."""
    if text == "auto":
        return "auto"
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected auto or a number of pixels, found {text!r}")
    return int(text)


@dataclass(frozen=True)
class Options:
    """How images are restored; fields are the options of `add_arguments`.

    Attributes:
        device: where to run, e.g. `cpu` or `cuda`; None: the fastest that is there.
        backend, precision: see `accelerate`.
        tile, tile_approximate: see `tiled`.
        ensemble: the mean over eight turns and reflections.
    """

    device: str | None = None
    backend: Backend = "auto"
    precision: InferencePrecision = "auto"
    tile: Tile = "auto"
    tile_approximate: bool = False
    ensemble: bool = False


def runner(chosen: Options, path: Path, weights: "Weights", root: Path) -> tuple["Runner", str]:
    """The network of a weights file, run as the options say, and the engine in words.

    Args:
        chosen: how.
        path: of the weights file.
        weights: what it holds.
        root: where known data sets lie, for int8.

    Raises:
        UserError: it cannot be run so here, or tiles are asked for and the network cannot be tiled exactly.
    """
    from restore import bundled
    from restore.data.degradation import from_description
    from restore.errors import UserError
    from restore.hardware import available_device
    from restore.inference import Ensemble, accelerate, tiled

    device = available_device(chosen.device)
    network = weights.network
    try:
        degradation = from_description(weights.degradation)
    except UserError as error:
        LOG.warning(
            "%s: its degradation is not known; bf16 and int8 are checked with the default one (%s)", path.name, error
        )
        degradation = None
    if degradation and degradation.scale != network.scale:  # of a network with several scales, trained for another
        degradation = None
    engine = accelerate(
        network,
        backend=chosen.backend,
        precision=chosen.precision,
        device=device,
        degradation=degradation,
        calibration=bundled.calibration_of(path, weights, root),
    )
    inner = Ensemble(engine) if chosen.ensemble else engine
    return tiled(network, chosen.tile, approximate=chosen.tile_approximate, runner=inner), engine.description
