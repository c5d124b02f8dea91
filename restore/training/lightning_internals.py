"""What Lightning does not promise, and this package uses nevertheless. Checked on Lightning 2.6.6.

`tests/training/test_lightning_internals.py` tests what is expected of it.
"""

import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import MethodType
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import RichProgressBar, WeightAveraging
from pytorch_lightning.profilers import PassThroughProfiler
from torch import nn

STEP_HOOKS = (
    "on_train_batch_start",
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
    "on_train_batch_end",
)


def without_idle_hooks(callback: Callback) -> Callback:
    """The callback, whose hooks that do nothing in a step are None, so that Lightning does not call them."""
    for name in STEP_HOOKS:
        if getattr(callback, name) == MethodType(getattr(Callback, name), callback):
            setattr(callback, name, None)
    return callback


class QuickModule(LightningModule):
    """A module in which Lightning notes the current hook, as it does forty times a step, without a look for tensors."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "_current_fx_name":
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)


class NoProfiler(PassThroughProfiler):
    """Times nothing, as Lightning's own, which nevertheless builds a generator some eighty times a step."""

    _nothing = nullcontext()

    def profile(self, action_name: str) -> AbstractContextManager[None]:  # type: ignore[override]
        return self._nothing


class EpochProgressBar(RichProgressBar):
    """Lightning's bar, which says the number of the epoch without that of the last one."""

    def _get_train_description(self, current_epoch: int) -> str:
        return f"Epoch {current_epoch}".ljust(len(self.validation_description))


@contextmanager
def known_warnings() -> Iterator[None]:
    """Silences what Lightning says of itself, and of things that are as they should be here."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)`", FutureWarning)
        warnings.filterwarnings("ignore", "Checkpoint directory .* exists and is not empty")  # on resuming
        warnings.filterwarnings("ignore", "You're using the WeightAveraging callback with a model that")  # not FSDP
        yield


def batch_number(trainer: Trainer) -> int:
    """The number of the current batch, counted over the whole run."""
    return trainer.fit_loop.epoch_loop.total_batch_idx


def logs_this_step(trainer: Trainer) -> bool:
    """Whether what is logged in the current step reaches the loggers, by `log_every_n_steps`."""
    return trainer._logger_connector.should_update_logs


def number_logs_by_steps(trainer: Trainer) -> None:
    """What is logged next has the number of its step, which Lightning gets wrong after a resumed end of an epoch."""
    trainer.fit_loop.epoch_loop._batches_that_stepped = trainer.global_step


def is_last_batch(trainer: Trainer) -> bool:
    """Whether the current batch is the last of its epoch."""
    return trainer.fit_loop.epoch_loop.batch_progress.is_last_batch


def validation_follows(trainer: Trainer) -> bool:
    """Whether the current batch is followed by a validation, at the end of its epoch or within it."""
    loop = trainer.fit_loop
    return loop._data_fetcher is not None and loop.epoch_loop._should_check_val_fx(loop._data_fetcher)


def validates_between_steps(trainer: Trainer) -> bool:
    """Whether the validation that is under way lies within an epoch, between two steps."""
    batch_idx = trainer.fit_loop.epoch_loop.batch_idx
    step_has_ended = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
    return not trainer.sanity_checking and step_has_ended and not is_last_batch(trainer)


def average_model(trainer: Trainer) -> nn.Module | None:
    """The averaged weights that are validated, if the run has any."""
    callback = next((one for one in trainer.callbacks if isinstance(one, WeightAveraging)), None)  # type: ignore[attr-defined]
    return callback._average_model if callback else None
