"""Checkpoints to resume from: written whole or not at all, kept in two generations, checked before they are used."""

import io
import logging
import os
import shutil
import zipfile
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.plugins.io import TorchCheckpointIO
from pytorch_lightning.utilities import rank_zero_only
from pytorch_lightning.utilities.exceptions import SIGTERMException

from restore.checkpoint import check_stored
from restore.errors import UserError
from restore.files import write_atomically
from restore.models import RestorationNetwork
from restore.training.lightning_internals import (
    is_last_batch,
    number_logs_by_steps,
    validates_between_steps,
    validation_follows,
)

LOG = logging.getLogger(__name__)

LAST, PREVIOUS, DAMAGED = "last.ckpt", "previous.ckpt", "damaged.ckpt"


class CheckpointFiles(TorchCheckpointIO):
    """How Lightning writes checkpoints: atomically, and `last.ckpt` only once the one before is `previous.ckpt`."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        path = Path(path)
        content = io.BytesIO()
        torch.save(checkpoint, content)
        former = path.with_name(f".{PREVIOUS}.next")
        former.unlink(missing_ok=True)
        try:
            if path.name == LAST and path.exists():
                _link(path, former)
            write_atomically(path, content.getbuffer())
            if former.exists():
                former.replace(path.with_name(PREVIOUS))
        except UserError as error:
            former.unlink(missing_ok=True)
            raise UserError(f"{error}; {last_good(path.parent)}") from error


class LastCheckpoint(Checkpoint):
    """Saves to resume from: every `every_n_steps` steps, at the end of each epoch and of the run, and when stopped.

    It saves between steps only: of gradients that are being accumulated, a checkpoint knows nothing. Where a validation
    follows, at the end of an epoch or within it, it saves after that, which a resumed run would not make up for.
    """

    def __init__(self, path: Path, every_n_steps: int) -> None:
        self._path = path
        self._every_n_steps = every_n_steps
        self._saved_at = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._saved_at = trainer.global_step  # nothing is new yet

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        number_logs_by_steps(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        epoch_ends = is_last_batch(trainer) or trainer.global_step == trainer.max_steps
        if (
            not (epoch_ends or validation_follows(trainer))
            and step_ends(trainer, batch_idx)
            and trainer.global_step % self._every_n_steps == 0
        ):
            self._save(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if validates_between_steps(trainer):
            self._save(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.global_step != self._saved_at:
            self._save(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        ended = isinstance(exception, SIGTERMException) and trainer.global_step != self._saved_at
        if ended and trainer.training:  # during a validation the state is incomplete
            self._save(trainer)

    def _save(self, trainer: Trainer) -> None:
        trainer.save_checkpoint(self._path)
        self._saved_at = trainer.global_step


def step_ends(trainer: Trainer, batch_idx: int) -> bool:
    """Whether a batch of an epoch is the last of those whose gradients are accumulated for one step."""
    return is_last_batch(trainer) or (batch_idx + 1) % trainer.accumulate_grad_batches == 0


def newest_whole(folder: Path) -> Path | None:
    """The newest checkpoint of a run's folder that is not damaged, None if there is none at all.

    A damaged one is named in the log and renamed, so that it is not mistaken for a good one.

    Raises:
        UserError: there are checkpoints, but all are damaged.
    """
    damaged = ""
    for path in (folder / LAST, folder / PREVIOUS):
        if not path.exists():
            continue
        try:
            read_checkpoint(path)
        except UserError as error:
            if damaged:
                raise UserError(f"no intact checkpoint is left: {damaged}; {error}") from error
            damaged = str(error)
            continue
        if damaged:
            rank_zero_only(LOG.warning)(f"{damaged}; resuming from {path} instead, the damaged file is now {DAMAGED}")
            rank_zero_only((folder / LAST).replace)(folder / DAMAGED)
        return path
    if damaged:
        raise UserError(f"no intact checkpoint is left: {damaged}")
    return None


def read_checkpoint(path: Path) -> dict[str, Any]:
    """What a checkpoint holds, once its own checksums agree.

    Raises:
        UserError: no checkpoint of a training run, or damaged.
    """
    try:
        check_stored(path)
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        state = None if damaged else torch.load(path, map_location="cpu", weights_only=True)
    except UserError:
        raise
    except Exception as error:  # damage makes the readers fail in every way
        raise UserError(f"{path}: not a checkpoint, or damaged ({str(error).partition('. ')[0]})") from error
    if damaged:
        raise UserError(f"{path}: damaged ({damaged} does not match its checksum)")
    if not isinstance(state, dict) or not state.keys() >= {"state_dict", "global_step", "pytorch-lightning_version"}:
        raise UserError(f"{path}: not a checkpoint of a training run")
    return state


def check_fits(path: Path, state: dict[str, Any], network: RestorationNetwork) -> None:
    """Raises UserError if a checkpoint is of another network."""
    expected = {f"network.{name}": tensor.shape for name, tensor in network.state_dict().items()}
    found = {name: tensor.shape for name, tensor in state["state_dict"].items()}
    if different := sorted(name for name in expected | found if expected.get(name) != found.get(name)):
        raise UserError(
            f"{path}: belongs to another network than the one to train: {len(different)} tensors differ, the first is "
            f"{different[0]} ({_shape(found, different[0])} in the file, {_shape(expected, different[0])} expected)"
        )


def newest(folder: Path) -> Path | None:
    """The newest checkpoint of a run, if there is one."""
    return next((folder / name for name in (LAST, PREVIOUS) if (folder / name).exists()), None)


def last_good(folder: Path) -> str:
    """What to tell of the checkpoints that are left when a run has to stop."""
    kept = newest(folder)
    return f"the last good checkpoint is {kept}" if kept else "there is no checkpoint"


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without links
        shutil.copyfile(source, target)


def _shape(shapes: dict[str, torch.Size], name: str) -> str:
    return "x".join(map(str, shapes[name])) or "one number" if name in shapes else "none"
