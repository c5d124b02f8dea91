"""Shared fixtures: reference data where they are at hand, a cache of patch stores for this session alone."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A window of headless Chromium that logs its console and its network."""
    webdriver = pytest.importorskip("selenium.webdriver")
    chromium, driver = (shutil.which(name) for name in ("chromium", "chromedriver"))
    if not (chromium and driver):
        pytest.skip("no Chromium on this machine")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    quiet = "headless no-sandbox disable-gpu disable-quic no-first-run disable-background-networking disable-sync"
    for flag in quiet.split():
        options.add_argument(f"--{flag}")
    options.add_argument("--disable-component-update")
    options.add_argument("--force-device-scale-factor=1")
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('chromium')}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    window = webdriver.Chrome(options, webdriver.ChromeService(driver))
    window.set_window_size(1280, 1000)
    yield window
    window.quit()
