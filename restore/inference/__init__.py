"""From a trained network to restored images of any kind."""

from restore.inference.image import baseline, restore_image, restore_tensor
from restore.inference.runner import Runner

__all__ = ["Runner", "baseline", "restore_image", "restore_tensor"]
