"""restore: image restoration networks with and without batch normalization, trained and measured alike.

Public names are imported on first use, so `import restore` itself costs nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from restore.api import denoise, load, measure, upscale
    from restore.images.resize import imresize
    from restore.metrics import psnr, psnr_b, ssim
    from restore.models import RestorationNetwork

__version__ = "0.1.0"

_HOMES = {
    "RestorationNetwork": "restore.models",
    "denoise": "restore.api",
    "imresize": "restore.images.resize",
    "load": "restore.api",
    "measure": "restore.api",
    "psnr": "restore.metrics",
    "psnr_b": "restore.metrics",
    "ssim": "restore.metrics",
    "upscale": "restore.api",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'restore' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*globals(), *_HOMES]


__all__ = [
    "RestorationNetwork",
    "__version__",
    "denoise",
    "imresize",
    "load",
    "measure",
    "psnr",
    "psnr_b",
    "ssim",
    "upscale",
]
