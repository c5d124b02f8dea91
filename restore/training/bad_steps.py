"""Training steps that would spoil the weights: found, named by their images, and stopped at, skipped or undone."""

import logging
import math
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
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
from restore.training.lightning_internals import average_model, batch_number

LOG = logging.getLogger(__name__)

WARM_UP = 100  # losses before one can be a spike
MEMORY = 0.01  # weight of a new loss in the running mean


@dataclass(frozen=True)
class Faults:
    """What is done about a step whose loss or gradient is not finite, or whose loss leaps up.

    Attributes:
        on_bad_step: `stop` the run, `skip` the batch, or `rollback`: skip it and return weights, running statistics
            and optimizer to where they were at the last checkpoint. `stop` only reports and counts finite spikes;
            the other two look at each step before it is taken, for which a GPU is waited for.
        most: how many bad steps are skipped or undone before the run stops all the same.
        spike: a loss above this multiple of its running mean (of about 100 steps) is a spike; 0 disables it.
    """

    on_bad_step: Literal["stop", "skip", "rollback"] = "stop"
    most: int = 10
    spike: float = 10.0

    def __post_init__(self) -> None:
        if self.most < 0:
            raise UserError(f"faults.most must be at least 0, not {self.most}")
        if not (self.spike == 0 or self.spike > 1):
            raise UserError(f"faults.spike must be above 1, or 0 for none, not {self.spike}")


class BadSteps(Callback):
    """Finds bad steps by loss and gradient, and does about them what `faults` says.

    With `stop`, all is computed on the training device and looked at after each step on a CPU; on other devices,
    if looking means waiting, at every logged step, before each validation and before each checkpoint, so that
    nothing is saved of a run that is not finite.

    Args:
        faults: what to do.
        checkpoint: the one that the run saves last.
        every_n_steps: between the states to roll back to; as often as checkpoints are saved.
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
        self._state: dict[str, Tensor] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        fresh = {"mean": 0.0, "seen": 0.0, "bad_loss": math.inf, "bad_gradient": math.inf, "spike": -1.0, "spikes": 0.0}
        fresh |= {name: float(value) for name, value in self._state.items()}  # of the checkpoint
        self._state = {
            name: torch.tensor(value, dtype=torch.float32, device=pl_module.device) for name, value in fresh.items()
        }
        if self._faults.on_bad_step == "rollback" and self._good is None:
            self._good = _copy(trainer, pl_module)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if self._look_first and batch_idx % trainer.accumulate_grad_batches == 0:
            self._buffers = [buffer.clone() for buffer in pl_module.buffers()]

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        state, loss = self._state, loss.detach().float()
        if trainer.world_size > 1:
            loss = trainer.strategy.reduce(loss.clone(), reduce_op="mean")
        step = torch.full_like(loss, batch_number(trainer))
        finite = loss.isfinite()
        state["bad_loss"] = torch.minimum(state["bad_loss"], torch.where(finite, math.inf, step))
        mean, seen, limit = state["mean"], state["seen"], self._faults.spike
        if limit:
            spike = finite & (seen >= WARM_UP) & (loss > limit * mean)
            state["spike"] = torch.where(spike, step, state["spike"])
            state["spikes"] = state["spikes"] + spike
            ceiling = torch.where(seen >= WARM_UP, limit * mean, loss)  # a spike counts, but no more than that
            weight = (1 / (seen + 1)).clamp(min=MEMORY)
            state["mean"] = torch.where(finite, mean + weight * (torch.minimum(loss, ceiling) - mean), mean)
            state["seen"] = seen + finite

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        if getattr(trainer.precision_plugin, "scaler", None) is None:  # which skips what overflows in float16 itself
            norm = get_total_norm([p.grad for p in pl_module.parameters() if p.grad is not None])
            if isinstance(norm, DTensor):  # of a sharded network, each process has a part
                norm = norm.full_tensor()
            first = torch.where(norm.isfinite(), math.inf, float(batch_number(trainer)))
            self._state["bad_gradient"] = torch.minimum(self._state["bad_gradient"], first)
        if self._look_first:
            self._judge(trainer, pl_module)

    def _judge(self, trainer: Trainer, module: LightningModule) -> None:
        """Before a step is taken: drop its gradients if it is bad."""
        what = self._not_finite(trainer) or self._spike(trainer)
        if what is None:
            return
        if self.counts["skipped"] + self.counts["rolled_back"] == self._faults.most:
            raise UserError(
                f"{what}, giving up after {self._faults.most} bad steps (faults.most); "
                f"{last_good(self._checkpoint.parent)}; lower optim.lr"
            )
        for parameter in module.parameters():
            parameter.grad = None
        for buffer, before in zip(module.buffers(), self._buffers, strict=True):
            buffer.copy_(before)
        for name in ("bad_loss", "bad_gradient"):
            self._state[name].fill_(math.inf)
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
        if pl_module.device.type == "cpu" or batch_idx % trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            self._check(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._check(trainer)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self._check(trainer)

    def state_dict(self) -> dict[str, Any]:
        return {"counts": dict(self.counts), "state": dict(self._state), "good": self._good}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.counts, self._state = dict(state_dict["counts"]), dict(state_dict["state"])
        if self._faults.on_bad_step == "rollback":
            self._good = state_dict["good"]

    def _check(self, trainer: Trainer) -> None:
        """After steps were taken: report spikes, and stop at what is not finite."""
        if self._look_first or not self._state:
            return
        if spike := self._spike(trainer):
            rank_zero_only(LOG.warning)(spike)
        if what := self._not_finite(trainer):
            raise UserError(f"{what}; {last_good(self._checkpoint.parent)}; lower optim.lr")

    def _not_finite(self, trainer: Trainer) -> str | None:
        """What was not finite first."""
        loss, gradient = torch.stack([self._state["bad_loss"], self._state["bad_gradient"]]).tolist()
        if math.isinf(step := min(loss, gradient)):
            return None
        return self._words(f"the {'loss' if loss <= gradient else 'gradient'} is not finite", int(step), trainer)

    def _spike(self, trainer: Trainer) -> str | None:
        """The last spike that was not reported yet."""
        spikes, step = torch.stack([self._state["spikes"], self._state["spike"]]).tolist()
        if spikes == self.counts["spikes"]:
            return None
        self.counts["spikes"] = int(spikes)
        return self._words(f"the loss is more than {self._faults.spike:g} times its mean", int(step), trainer)

    def _words(self, what: str, step: int, trainer: Trainer) -> str:
        lr = trainer.optimizers[0].param_groups[0]["lr"]
        return f"{what} at step {step} (learning rate {lr:g}; {self._describe(step)})"


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
    """Put back what `_copy` took; the learning rate goes on as scheduled."""
    module.load_state_dict(good["network"])
    optimizer, average = trainer.optimizers[0], average_model(trainer)
    optimizer.load_state_dict({**optimizer.state_dict(), "state": deepcopy(good["optimizer"])})
    if average is not None:
        average.load_state_dict(good["average"])
