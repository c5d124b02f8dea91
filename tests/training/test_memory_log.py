"""Memory in a training run: the forecast before it, the categories in its log."""

import csv
import logging
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from restore.hardware import Hardware
from restore.images.io import write_image
from restore.metrics import PROTOCOLS
from restore.models import DnCNN
from restore.training import Optimization, PatchData, fit, memory_log
from restore.training.module import RestorationModule

QUIET = {"enable_progress_bar": False, "accelerator": "cpu", "max_steps": 2, "num_sanity_val_steps": 0}


@pytest.fixture
def data(tmp_path: Path) -> PatchData:
    noise = np.random.default_rng(0).integers(0, 255, (32, 32, 1), dtype=np.uint8)
    write_image(tmp_path / "images" / "noise.png", noise)
    folder = str(tmp_path / "images")
    return PatchData(folder, folder, cache=tmp_path / "cache", patch_size=16, batch_size=4, steps_per_epoch=1)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")  # of Lightning
def test_a_run_says_what_it_needs_and_logs_what_it_holds(
    data: PatchData, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory_log, "free_memory", lambda _: 2**18)
    network = DnCNN(depth=5, features=16)
    with caplog.at_level(logging.INFO):
        fit(network, data, Optimization(), tmp_path / "run", trainer=QUIET)
    (said,) = (message for message in caplog.messages if "this run needs about" in message)
    assert re.search(r"needs about 0\.\d MiB; the device has 0\.2 MiB free: batch [123] fits$", said), said

    (table,) = (tmp_path / "run" / "csv").rglob("metrics.csv")
    rows = [row for row in csv.DictReader(table.read_text().splitlines()) if row.get("memory/peak")]
    assert len(rows) == 2
    weights = sum(tensor.nbytes for tensor in (*network.parameters(), *network.buffers())) / 2**20
    for row in rows:
        sizes = {name: float(size) for name, size in row.items() if name.startswith("memory/")}
        assert sizes["memory/parameters"] == pytest.approx(weights)
        assert sizes["memory/optimizer"] == pytest.approx(2 * sizes["memory/gradients"], rel=1e-2)
        assert sum(sizes.values()) == pytest.approx(2 * sizes["memory/peak"])


def test_the_forecast_is_of_what_one_of_several_processes_holds(data: PatchData) -> None:
    network = DnCNN(depth=3, features=4)
    optim = Optimization(optimizer="sgd", loss="l1")
    module = RestorationModule(network, optim, PROTOCOLS["denoise-gray"], Hardware(channels_last=True))
    trainer = SimpleNamespace(datamodule=data.prepare(network), world_size=2, precision="bf16-mixed")
    step = memory_log._step_of(trainer, module)
    assert (step.batch, step.patch, step.loss, step.optimizer) == (2, 16, "l1", "sgd")
    assert (step.network, step.precision, step.channels_last) == (network.spec, "bf16-mixed", True)


def test_the_summary_has_the_peak_of_all_epochs(
    data: PatchData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    peaks = iter([5 * 2**20, 1 * 2**20, 9 * 2**20])
    monkeypatch.setattr(memory_log, "peak_memory", lambda _: next(peaks, 2**20))
    summary = fit(DnCNN(depth=3, features=4), data, Optimization(), tmp_path / "run", trainer=QUIET)
    assert summary["peak_rss_mib"] == 9
