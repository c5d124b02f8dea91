"""What a step leaves out beside the network, and what it may not leave out."""

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from restore.models import DnCNN
from restore.training import Optimization, PatchData, fit
from restore.training.callbacks import ProgressBar
from restore.training.lightning_internals import STEP_HOOKS, QuickModule, without_idle_hooks


class Steps(Callback):
    """Counts steps and keeps their losses."""

    def __init__(self) -> None:
        self.started = 0
        self.losses: list[float] = []

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        self.started += 1

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *_: Any) -> None:
        self.losses.append(outputs["loss"].item())


def run(folder: Path, callbacks: list[Callback], **trainer: Any) -> Path:
    torch.manual_seed(0)
    data = PatchData(str(folder / "train"), str(folder / "val"), patch_size=12, batch_size=2, steps_per_epoch=7)
    settings = {"accelerator": "cpu", "precision": "32-true", "max_steps": 7, "callbacks": callbacks, **trainer}
    fit(DnCNN(depth=3, features=4), data, Optimization(lr=1e-3), folder / "run", trainer=settings)
    return folder / "run"


def test_the_loss_is_logged_as_often_as_asked_and_only_then(photographs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logged: list[str] = []
    log = LightningModule.log
    monkeypatch.setattr(
        LightningModule, "log", lambda self, name, *a, **k: logged.append(name) or log(self, name, *a, **k)
    )
    steps = Steps()
    output = run(photographs, [steps], enable_progress_bar=False, log_every_n_steps=3)
    with (output / "csv/version_0/metrics.csv").open() as file:
        rows = [(int(row["step"]), float(row["train/loss"])) for row in csv.DictReader(file) if row["train/loss"]]
    assert steps.started == 7
    assert rows == [(number, pytest.approx(steps.losses[number])) for number in (2, 5)]
    assert logged.count("train/loss") == 2


def test_the_bar_shows_the_loss_of_the_step_that_it_stands_at(
    photographs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[Any] = []
    update = ProgressBar.get_metrics

    def get_metrics(self: ProgressBar, *args: Any) -> dict[str, Any]:
        shown.append(update(self, *args))
        return shown[-1]

    monkeypatch.setattr(ProgressBar, "get_metrics", get_metrics)
    monkeypatch.setattr("restore.training.callbacks.INTERVAL_S", 1e3)
    steps = Steps()
    run(photographs, [steps], log_every_n_steps=7)
    losses = dict.fromkeys(metrics["train/loss"] for metrics in shown if "train/loss" in metrics)
    assert list(losses) == [f"{steps.losses[0]:.4g}", f"{steps.losses[-1]:.4g}"]  # updates are 1000 s apart


def test_hooks_that_do_nothing_are_left_out_and_others_are_kept() -> None:
    steps = without_idle_hooks(Steps())
    idle = {name for name in STEP_HOOKS if getattr(steps, name) is None}
    assert idle == set(STEP_HOOKS) - {"on_train_batch_start", "on_train_batch_end"}


def test_a_quick_module_knows_its_hook_and_its_parameters() -> None:
    module = QuickModule()
    module._current_fx_name = "training_step"
    module.layer = torch.nn.Linear(2, 1)
    assert module._current_fx_name == "training_step"
    assert [name for name, _ in module.named_parameters()] == ["layer.weight", "layer.bias"]
