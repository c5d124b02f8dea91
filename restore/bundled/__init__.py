"""The trained networks that come with the package: weights files, each with a card, and which one serves a task."""

from restore.bundled.calibration import calibration_of
from restore.bundled.registry import (
    FOLDER,
    FOR_LEVEL,
    MODELS,
    BundledModel,
    available,
    deblocker,
    denoiser,
    find,
    measure_bundled,
    upscaler,
)

__all__ = [
    "FOLDER",
    "FOR_LEVEL",
    "MODELS",
    "BundledModel",
    "available",
    "calibration_of",
    "deblocker",
    "denoiser",
    "find",
    "measure_bundled",
    "upscaler",
]
