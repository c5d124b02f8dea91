"""Shared fixtures: reference data where they are at hand, a cache of patch stores for this session alone."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from restore.images.io import write_image

SHARED = Path(__file__).parents[2] / "shared"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fuzz-cases", type=int, default=100, help="damaged files given to the commands")


@pytest.fixture(scope="session")
def reference_data() -> Path:
    """The folder of real test sets beside the checkout."""
    if not (SHARED / "data").is_dir():
        pytest.skip("reference data sets are not on this machine")
    return SHARED / "data"


@pytest.fixture(scope="session")
def golden() -> Path:
    """The folder of checkpoints with inputs and outputs beside the checkout."""
    if not (SHARED / "golden").is_dir():
        pytest.skip("reference tensors are not on this machine")
    return SHARED / "golden"


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    os.environ["RESTORE_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    yield
    del os.environ["RESTORE_CACHE"]


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture
def image_folder(tmp_path: Path) -> Path:
    """Three small random RGB images of different sizes."""
    random = np.random.default_rng(0)
    for name, (height, width) in {"a": (24, 30), "b": (40, 26), "c": (33, 35)}.items():
        write_image(tmp_path / "images" / f"{name}.png", random.integers(0, 256, (height, width, 3), np.uint8))
    return tmp_path / "images"
