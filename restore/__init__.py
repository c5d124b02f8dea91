"""restore: image restoration networks with and without batch normalisation, trained and measured alike."""

from pathlib import Path

from restore.checkpoint import load_weights
from restore.images.resize import imresize
from restore.metrics import psnr, ssim
from restore.models import RestorationNetwork


def load(path: Path | str) -> RestorationNetwork:
    """The network of a weights file, in eval mode on the CPU.

    Raises:
        UserError: the file is missing, damaged or not a weights file.
    """
    return load_weights(Path(path)).network


__all__ = ["RestorationNetwork", "imresize", "load", "psnr", "ssim"]
