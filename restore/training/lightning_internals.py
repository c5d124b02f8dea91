"""What Lightning does not promise, and this package uses nevertheless. Checked on Lightning 2.6.6."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import WeightAveraging
from torch import nn


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


def is_last_batch(trainer: Trainer) -> bool:
    """Whether the current batch is the last of its epoch."""
    return trainer.fit_loop.epoch_loop.batch_progress.is_last_batch


def average_model(trainer: Trainer) -> nn.Module | None:
    """The averaged weights that are validated, if the run has any."""
    callback = next((one for one in trainer.callbacks if isinstance(one, WeightAveraging)), None)  # type: ignore[attr-defined]
    return callback._average_model if callback else None
