"""From a trained network to restored images of any kind."""

from restore.inference.backends import BACKENDS, PRECISIONS, Backend, Engine, Precision, accelerate
from restore.inference.ensemble import Ensemble
from restore.inference.image import baseline, restore_image, restore_tensor
from restore.inference.int8 import Calibration
from restore.inference.runner import Runner, at_level
from restore.inference.tiling import Tile, tiled

__all__ = [
    "BACKENDS",
    "PRECISIONS",
    "Backend",
    "Calibration",
    "Engine",
    "Ensemble",
    "Precision",
    "Runner",
    "Tile",
    "accelerate",
    "at_level",
    "baseline",
    "restore_image",
    "restore_tensor",
    "tiled",
]
