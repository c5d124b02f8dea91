"""Shared fixtures of tests that train."""

from pathlib import Path

import numpy as np
import pytest

from restore.images.io import write_image


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """A folder with training and validation images as in real ones, small."""
    random = np.random.default_rng(0)
    for name in ("train/a", "train/b", "val/x"):
        write_image(tmp_path / f"{name}.png", random.integers(0, 256, (32, 36, 1), np.uint8))
    return tmp_path
