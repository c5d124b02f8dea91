"""Ways to stop a run from outside so that it can continue: signals and a limit of time, both at whole steps only."""

import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint, Timer
from pytorch_lightning.utilities.exceptions import SIGTERMException

from restore.training.checkpoints import step_ends
from restore.training.lightning_internals import is_last_batch, validates_between_steps, validation_follows

# kill, Ctrl+C, a closed terminal, of which Windows has no signal
SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name)]


class StopSignals(Checkpoint):  # which Lightning calls after all other callbacks, in their order
    """Ends training at the next whole step after SIGTERM, SIGINT or SIGHUP; a second signal ends the process at once.

    After the last step of an epoch it waits until the epoch is validated and saved, since a resumed run would not make
    up for the validation; `LastCheckpoint` saves where it stops. As a context it catches the signals, also before and
    after training, where it stops at once. Signals that were ignored before, as those of `nohup` are, stay so.

    Attributes:
        received: the signal, if there was one.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._training = False
        self._before: dict[signal.Signals, Any] = {}
        self._terminals = [descriptor for descriptor in (1, 2) if os.isatty(descriptor)]

    def __enter__(self) -> None:
        if threading.current_thread() is not threading.main_thread():  # where Python allows no handlers
            return
        found = {number: signal.getsignal(number) for number in SIGNALS}
        self._before = {number: handler for number, handler in found.items() if handler is not signal.SIG_IGN}
        self._catch()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _catch(self) -> None:
        for number in self._before:
            signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if signal.Signals(number).name == "SIGHUP":  # nobody reads any more, and to write would be an error
            for descriptor in self._terminals:
                os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
        again, self.received = self.received is not None, signal.Signals(number)
        if again or not self._training:
            raise SIGTERMException

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._catch()  # Lightning's own handler would stop between the batches of a step
        self._training = True

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if step_ends(trainer, batch_idx) and not (is_last_batch(trainer) or validation_follows(trainer)):
            self._stop_if_asked(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._training and validates_between_steps(trainer):
            self._stop_if_asked(trainer)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._stop_if_asked(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._training = False

    def _stop_if_asked(self, trainer: Trainer) -> None:
        asked = self.received is not None
        if trainer.world_size > 1:  # all at the same step
            asked = trainer.strategy.reduce_boolean_decision(asked, all=False)
        if asked:
            self._training = False
            raise SIGTERMException


class TimeLimit(Timer):
    """Lightning's limit of time, at whole steps."""

    def on_train_batch_end(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        batch_idx = kwargs["batch_idx"] if "batch_idx" in kwargs else args[-1]
        if step_ends(trainer, batch_idx):
            super().on_train_batch_end(trainer, *args, **kwargs)
