"""From a trained network to restored images of any kind."""

from restore.inference.backends import Engine, accelerate
from restore.inference.ensemble import Ensemble
from restore.inference.image import baseline, check_finite, restore_any, restore_image, restore_tensor
from restore.inference.int8 import Calibration
from restore.inference.runner import Runner, at_level
from restore.inference.tiling import tiled

__all__ = [
    "Calibration",
    "Engine",
    "Ensemble",
    "Runner",
    "accelerate",
    "at_level",
    "baseline",
    "check_finite",
    "restore_any",
    "restore_image",
    "restore_tensor",
    "tiled",
]
