"""Training steps that would spoil the weights: found, named by their images, and stopped at, skipped or undone."""

import logging
import math
from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict, dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any, Literal

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.utilities import rank_zero_only
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

from restore.errors import UserError
from restore.training.checkpoints import last_good, step_ends
from restore.training.lightning_internals import average_model, batch_number, logs_this_step

LOG = logging.getLogger(__name__)

WARM_UP = 100  # losses before one can be a spike
LOSS_EMA_WEIGHT = 0.01  # weight of a new loss in the running mean


@dataclass(frozen=True)
class Faults:
    """What is done about a step whose loss or gradient is not finite, or whose loss leaps up.

    Attributes:
        on_bad_step: `stop` the run, `skip` the batch, or `rollback`: skip it and return weights, running statistics
            and optimizer to where they were after the last step whose number is a multiple of `checkpoint_every`, or
            before the first. `stop` only reports and counts finite spikes; the other two look at each step before it
            is taken, for which a GPU is waited for.
        max_bad_steps: how many are skipped or undone before the run stops nevertheless.
        spike: a loss above this multiple of its running mean (of about 100 steps) is a spike; 0 disables it.
    """

    on_bad_step: Literal["stop", "skip", "rollback"] = "stop"
    max_bad_steps: int = 10
    spike: float = 10.0

    def __post_init__(self) -> None:
        if self.max_bad_steps < 0:
            raise UserError(f"faults.max_bad_steps must be at least 0, not {self.max_bad_steps}")
        if not (self.spike == 0 or self.spike > 1):
            raise UserError(f"faults.spike must be above 1, or 0 for none, not {self.spike}")


class BadSteps(Callback):
    """Finds bad steps by loss and gradient, and does about them what `faults` says.

    With `stop`, losses and norms of gradients are kept on the training device and looked at after each step on a CPU;
    on other devices, where looking means waiting, at every logged step, before each validation and before each
    checkpoint, so that nothing is saved of a run that is not finite.

    Args:
        faults: what to do.
        checkpoint: the one that the run saves last.
        every_n_steps: between the states to roll back to.
        describe: names the batch of a step, e.g. by its seed and images.

    Attributes:
        counts: spikes, steps skipped and steps rolled back so far.
    """

    def __init__(self, faults: Faults, checkpoint: Path, every_n_steps: int, describe: Callable[[int], str]) -> None:
        self._faults = faults
        self._checkpoint = checkpoint
        self._every_n_steps = every_n_steps
        self._describe = describe
        self._look_first = faults.on_bad_step != "stop"
        self._good: dict[str, Any] | None = None  # to roll back to
        self._buffers: list[Tensor] = []
        self._undo = False
        self.counts = {"spikes": 0, "skipped": 0, "rolled_back": 0}
        self._losses: list[tuple[int, Tensor]] = []  # of steps that were not looked at yet, as `_norms`
        self._norms: list[tuple[int, Tensor]] = []
        self._parameters: list[Tensor] = []
        self._mean = _RunningMean()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._parameters = list(pl_module.parameters())
        if self._faults.on_bad_step == "rollback" and self._good is None:
            self._good = _copy(trainer, pl_module)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if self._look_first and batch_idx % trainer.accumulate_grad_batches == 0:
            self._buffers = [buffer.clone() for buffer in pl_module.buffers()]

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        self._losses.append((batch_number(trainer), loss.detach()))

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        if getattr(trainer.precision_plugin, "scaler", None) is None:  # which skips what overflows in float16 itself
            norm = get_total_norm([p.grad for p in self._parameters if p.grad is not None])
            if isinstance(norm, DTensor):  # of a sharded network, each process has a part
                norm = norm.full_tensor()
            self._norms.append((batch_number(trainer), norm))
        if self._look_first:
            self._judge(trainer, pl_module)

    def _judge(self, trainer: Trainer, module: LightningModule) -> None:
        """Before a step is taken: drop its gradients if it is bad."""
        not_finite, spike = self._look(trainer)
        what = not_finite or spike
        if what is None:
            return
        if self.counts["skipped"] + self.counts["rolled_back"] == self._faults.max_bad_steps:
            raise UserError(
                f"{what}, giving up after {self._faults.max_bad_steps} bad steps (faults.max_bad_steps); "
                f"{last_good(self._checkpoint.parent)}; lower optim.lr"
            )
        for parameter in module.parameters():
            parameter.grad = None
        for buffer, before in zip(module.buffers(), self._buffers, strict=True):
            buffer.copy_(before)
        self._undo = self._faults.on_bad_step == "rollback"
        self.counts["rolled_back" if self._undo else "skipped"] += 1
        rank_zero_only(LOG.warning)(f"{what}: {'rolled back' if self._undo else 'skipped'}")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._undo:
            assert self._good is not None
            _restore(self._good, trainer, pl_module)
            self._undo = False
        elif (
            self._good is not None and trainer.global_step % self._every_n_steps == 0 and step_ends(trainer, batch_idx)
        ):
            self._good = _copy(trainer, pl_module)
        if pl_module.device.type == "cpu" or logs_this_step(trainer):
            self._check(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._check(trainer)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self._check(trainer)
        state = {"counts": dict(self.counts), "state": asdict(self._mean), "good": self._good}
        checkpoint["callbacks"][self.state_key] = state  # not by `state_dict`, which Lightning calls before the look

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.counts, state = dict(state_dict["counts"]), state_dict["state"]
        self._mean = _RunningMean(float(state["mean"]), int(state["seen"]))
        if self._faults.on_bad_step == "rollback":
            self._good = state_dict["good"]

    def _check(self, trainer: Trainer) -> None:
        """After steps were taken: report spikes, and stop at what is not finite."""
        if self._look_first:
            return
        not_finite, spike = self._look(trainer)
        if spike:
            rank_zero_only(LOG.warning)(spike)
        if not_finite:
            raise UserError(f"{not_finite}; {last_good(self._checkpoint.parent)}; lower optim.lr")

    def _look(self, trainer: Trainer) -> tuple[str | None, str | None]:
        """What was not finite first, and the last spike, in the steps since the last look. Waits for the device."""
        losses, norms = _read(self._losses, trainer), _read(self._norms)
        self._losses, self._norms = [], []
        limit, spike = self._faults.spike, None
        for step, loss in losses.items():
            if self._mean.takes_spike(loss, limit):
                self.counts["spikes"] += 1
                spike = self._words(f"the loss is more than {limit:g} times its mean", step, trainer)
        for what, step in sorted((*_not_finite("loss", losses), *_not_finite("gradient", norms)), key=itemgetter(1)):
            return self._words(f"the {what} is not finite", step, trainer), spike
        return None, spike

    def _words(self, what: str, step: int, trainer: Trainer) -> str:
        lr = trainer.optimizers[0].param_groups[0]["lr"]
        return f"{what} at step {step} (learning rate {lr:g}; {self._describe(step)})"


@dataclass
class _RunningMean:
    """Of about the last hundred finite losses."""

    mean: float = 0.0
    seen: int = 0

    def takes_spike(self, loss: float, limit: float) -> bool:
        """Take a loss in, and say whether it is more than `limit` times the mean, if that is not 0."""
        if not math.isfinite(loss):
            return False
        spike = bool(limit) and self.seen >= WARM_UP and loss > limit * self.mean
        counted = limit * self.mean if spike else loss  # a spike counts, but no more than that
        self.mean += max(1 / (self.seen + 1), LOSS_EMA_WEIGHT) * (counted - self.mean)
        self.seen += 1
        return spike


def _read(values: list[tuple[int, Tensor]], shared_by: Trainer | None = None) -> dict[int, float]:
    """By step, the mean over all processes of values that each of them has its own of; in one transfer."""
    if not values:
        return {}
    stacked = torch.stack([value for _, value in values]).float()
    if shared_by is not None and shared_by.world_size > 1:
        stacked = shared_by.strategy.reduce(stacked, reduce_op="mean")
    return dict(zip((step for step, _ in values), stacked.tolist(), strict=True))


def _not_finite(what: str, values: dict[int, float]) -> list[tuple[str, int]]:
    return [(what, step) for step, value in values.items() if not math.isfinite(value)][:1]


def _copy(trainer: Trainer, module: LightningModule) -> dict[str, Any]:
    """Weights, buffers, their average if there is one, and what the optimizer remembers."""
    average = average_model(trainer)
    return deepcopy(
        {
            "network": module.state_dict(),
            "optimizer": trainer.optimizers[0].state_dict()["state"],
            "average": average.state_dict() if average else None,
        }
    )


def _restore(good: dict[str, Any], trainer: Trainer, module: LightningModule) -> None:
    """Put back what `_copy` took; the learning rate continues as scheduled."""
    module.load_state_dict(good["network"])
    optimizer, average = trainer.optimizers[0], average_model(trainer)
    optimizer.load_state_dict({**optimizer.state_dict(), "state": deepcopy(good["optimizer"])})
    if average is not None:
        average.load_state_dict(good["average"])
