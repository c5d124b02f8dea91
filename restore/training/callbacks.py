"""What happens beside the optimization: progress, sample sheets, throughput, an eye on the data."""

import math
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.utilities import rank_zero_only
from torch import Tensor

from restore.data.pairs import ImagePair
from restore.files import write_atomically
from restore.inference import baseline
from restore.report import Panel, comparison, contact_sheet
from restore.training.datamodule import TrainingData
from restore.training.lightning_internals import EpochProgressBar, is_last_batch
from restore.training.module import RestorationModule

INTERVAL_S = 0.5  # between updates of the bar


class ConfigFile(Callback):
    """Writes `config.yaml` once the run trains: one that refuses to be resumed keeps its own.

    Args:
        path: of the file.
        text: its content.
    """

    def __init__(self, path: Path, text: str) -> None:
        self._path = path
        self._text = text

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        rank_zero_only(write_atomically)(self._path, self._text)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:  # even if there was nothing to train
        rank_zero_only(write_atomically)(self._path, self._text)


class ProgressBar(EpochProgressBar):
    """Lightning's bar with loss, PSNR and the time that is left of the whole run.

    It follows the steps a few times a second only: to show the loss is to wait for the device.
    """

    def __init__(self) -> None:
        super().__init__(refresh_rate=2)
        self._start = 0.0, 0
        self._due = 0.0
        self._loss: Tensor | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        self._start = time.perf_counter(), trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        now = time.perf_counter()
        if now >= self._due or is_last_batch(trainer):
            self._due = now + INTERVAL_S
            self._loss = outputs["loss"]
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        metrics = super().get_metrics(trainer, pl_module)
        metrics.pop("v_num", None)
        if self._loss is not None:
            metrics = {"train/loss": f"{self._loss.item() * trainer.accumulate_grad_batches:.4g}"} | metrics
        started, first = self._start
        done, total = trainer.global_step, trainer.estimated_stepping_batches
        if trainer.training and done > first and total < math.inf:
            left = (time.perf_counter() - started) / (done - first) * (total - done)
            metrics["left"] = str(timedelta(seconds=round(left)))
        return dict(metrics)


class BestCheckpoint(ModelCheckpoint):
    """Keeps the state with the highest validation PSNR at `path`.

    Of a checkpoint that training resumes from, the score is believed if `path` is there, and no path at all:
    Lightning would load, and delete recursively, any files that it names.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(
            path.parent,
            path.stem,
            monitor="val/psnr",
            mode="max",
            enable_version_counter=False,
            save_on_train_epoch_end=False,  # but after validations: a resumed epoch can end without one
        )
        assert self.dirpath is not None
        self._path = Path(self.dirpath, path.name)  # with links resolved

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        score = state_dict["best_model_score"]
        if score is not None and self._path.exists():
            self.best_model_path = self.kth_best_model_path = str(self._path)
            self.best_model_score = self.kth_value = score
            self.best_k_models = {self.best_model_path: score}


class SampleSheet(Callback):
    """Writes input, restored and true image of the first validation images at each validation, to TensorBoard, too."""

    def __init__(self, folder: Path, images: int = 4) -> None:
        self._folder = folder
        self._images = images
        self._rows: list[list[Panel]] = []

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: tuple[ImagePair, bool],
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if not trainer.is_global_zero or outputs is None or len(self._rows) == self._images:
            return
        assert isinstance(pl_module, RestorationModule)
        pair, _ = batch
        scale = pl_module.network.scale
        untouched = baseline(pair.degraded, scale)
        before = pl_module.protocol.score(untouched, pair.clean.cpu(), scale)
        self._rows.append(
            comparison(pair, {"input": (untouched, before), "restored": (outputs["restored"], outputs["score"])})
        )

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._rows and not trainer.sanity_checking:
            sheet = contact_sheet(self._folder / f"step-{trainer.global_step:07d}.png", self._rows)
            for logger in trainer.loggers:
                if isinstance(logger, TensorBoardLogger):
                    logger.experiment.add_image("samples", sheet, trainer.global_step, dataformats="HWC")
        self._rows = []


class Throughput(Callback):
    """Times the training steps of a run, over all its starts, validation left out.

    Attributes:
        steps: how many.
        elapsed_s: seconds spent in them.
    """

    def __init__(self) -> None:
        self.steps = 0
        self.elapsed_s = 0.0
        self._since: float | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._since = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.steps += 1

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._pause()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking:
            self._since = time.perf_counter()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._pause()

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps, "elapsed_s": self.elapsed_s + self._running_s()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.steps, self.elapsed_s = int(state_dict["steps"]), float(state_dict["elapsed_s"])

    def _pause(self) -> None:
        self.elapsed_s += self._running_s()
        self._since = None

    def _running_s(self) -> float:
        return 0.0 if self._since is None else time.perf_counter() - self._since


class DataWatch(Callback):
    """Checks before each validation that the images are still those that the run began with."""

    def __init__(self, data: TrainingData) -> None:
        self._data = data

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._data.check_unchanged()
