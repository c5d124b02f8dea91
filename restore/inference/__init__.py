"""From a trained network to restored images of any kind."""

from restore.inference.ensemble import Ensemble
from restore.inference.image import baseline, restore_image, restore_tensor
from restore.inference.runner import Runner
from restore.inference.tiling import Tile, tiled

__all__ = ["Ensemble", "Runner", "Tile", "baseline", "restore_image", "restore_tensor", "tiled"]
