"""Training with Lightning, which `restore.train` alone imports besides. The entry point is `fit`."""

from restore.optim import Optimization
from restore.training.bad_steps import Faults
from restore.training.patch_data import PatchData
from restore.training.run import fit

__all__ = ["Faults", "Optimization", "PatchData", "fit"]
