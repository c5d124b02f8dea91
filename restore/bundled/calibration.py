"""How the networks of weights files are quantized, bundled ones and others."""

from pathlib import Path

from restore.bundled.registry import FOLDER
from restore.checkpoint import Weights
from restore.data.catalog import NAMES
from restore.data.store import default_cache
from restore.inference import Calibration


def calibration_of(path: Path, weights: Weights, root: Path) -> Calibration:
    """How the network of a weights file is quantized; what is made of a bundled one is kept in the cache.

    Args:
        path: of the weights file.
        weights: what it holds.
        root: where known data sets lie.
    """
    cache = default_cache() if path.parent.resolve() == FOLDER else None  # the package stays as installed
    return Calibration(_trained_on(weights), root, path, cache)


def _trained_on(weights: Weights) -> str:
    """The known data set that a weights file names; a folder is not looked for: the file may come from anywhere."""
    match weights.training.get("train"):
        case {"set": str(name)} if name in NAMES:
            return name
    return "photos"
