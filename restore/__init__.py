"""restore: image restoration networks with and without batch normalization, trained and measured alike.

Public names are imported on first use, so `import restore` itself costs nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from restore.api import load
    from restore.images.resize import imresize
    from restore.metrics import psnr, ssim
    from restore.models import RestorationNetwork

__version__ = "0.1.0"

_HOMES = {
    "RestorationNetwork": "restore.models",
    "imresize": "restore.images.resize",
    "load": "restore.api",
    "psnr": "restore.metrics",
    "ssim": "restore.metrics",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'restore' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*globals(), *_HOMES]


__all__ = ["RestorationNetwork", "__version__", "imresize", "load", "psnr", "ssim"]
