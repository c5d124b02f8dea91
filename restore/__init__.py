"""restore: image restoration networks with and without batch normalisation, trained and measured alike."""

from pathlib import Path

from restore.compat import load_any
from restore.images.resize import imresize
from restore.metrics import psnr, psnr_b, ssim
from restore.models import RestorationNetwork


def load(path: Path | str) -> RestorationNetwork:
    """The network of a weights file, ours or a known other project's, in eval mode on the CPU.

    Raises:
        UserError: the file is missing, damaged or of no known layout.
    """
    return load_any(Path(path)).network


__all__ = ["RestorationNetwork", "imresize", "load", "psnr", "psnr_b", "ssim"]
