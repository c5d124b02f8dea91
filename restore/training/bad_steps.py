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
from pytorch_lightning.callbacks import WeightAveraging
from pytorch_lightning.utilities import rank_zero_only
from torch import Tensor
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

from restore.errors import UserError
from restore.training.checkpoints import last_good

LOG = logging.getLogger(__name__)

WARM_UP = 100  # losses before one can be a spike
MEMORY = 0.01  # weight of a new loss in the running mean
NAMED = 8  # images of a batch that are named


@dataclass(frozen=True)
class Faults:
    """What is done about a step whose loss or gradient is not finite, or whose loss leaps up.

    Attributes:
        on_bad_step: `stop` the run, `skip` the batch, or `rollback`: skip it and return weights, running statistics
            and optimiser to where they were at the last checkpoint. `stop` only reports and counts finite spikes;
            the other two look at each step before it is taken, for which a GPU is waited for.
        most: how many bad steps are skipped or undone before the run stops all the same.
        spike: a loss is one where it is this many times the mean of about the last hundred; 0: none is.
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
    where looking means waiting, at every logged step, before each validation and before each checkpoint, so that
    nothing is saved of a run that is not finite.

    Args:
        faults: what to do.
        checkpoint: the one that the run saves last.
        every_n_steps: between the states to roll back to; as often as checkpoints are saved.
        describe: names the batch of a step, e.g. by its seed and images.
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
        self._reported = 0  # spikes
        self.counts = {"spikes": 0, "skipped": 0, "rolled_back": 0}
        self._state: dict[str, Tensor] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        fresh = {"mean": 0.0, "seen": 0.0, "bad_loss": math.inf, "bad_gradient": math.inf, "spike": -1.0, "spikes": 0.0}
        fresh |= {name: float(value) for name, value in self._state.items()}  # of the checkpoint
        self._state = {
            name: torch.tensor(value, dtype=torch.float32, device=pl_module.device) for name, value in fresh.items()
        }
        self._reported = int(self._state["spikes"])
        if self._faults.on_bad_step == "rollback" and self._good is None:
            self._good = _copy(trainer, pl_module)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if self._look_first:
            self._buffers = [buffer.clone() for buffer in pl_module.buffers()]

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        state, loss = self._state, loss.detach().float()
        if trainer.world_size > 1:
            loss = trainer.strategy.reduce(loss.clone(), reduce_op="mean")  # type: ignore[assignment]
        step = torch.full_like(loss, _batch_number(trainer))
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

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer
    ) -> None:
        if getattr(trainer.precision_plugin, "scaler", None) is None:  # which skips what overflows in float16 itself
            norm = get_total_norm([p.grad for p in pl_module.parameters() if p.grad is not None])
            first = torch.where(norm.isfinite(), math.inf, float(_batch_number(trainer)))
            self._state["bad_gradient"] = torch.minimum(self._state["bad_gradient"], first)
        if self._look_first:
            self._judge(trainer, pl_module)

    def _judge(self, trainer: Trainer, module: LightningModule) -> None:
        """Before a step is taken: drop its gradients where it is bad."""
        what = self._first_bad(trainer)
        spikes = int(self._state["spikes"])
        if what is None and spikes > self._reported:
            what = f"the loss is more than {self._faults.spike:g} times its mean at step {self._state['spike']:.0f}"
            self.counts["spikes"] += 1
        self._reported = spikes
        if what is None:
            return
        step = _batch_number(trainer)
        if self.counts["skipped"] + self.counts["rolled_back"] == self._faults.most:
            raise UserError(
                f"{what} ({self._describe(step)}), after {self._faults.most} bad steps before (faults.most); "
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
        done = "rolled back" if self._undo else "skipped"
        rank_zero_only(LOG.warning)(f"{what} ({self._describe(step)}): {done}")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._undo:
            assert self._good is not None
            _restore(self._good, trainer, pl_module)
            self._undo = False
        elif self._good is not None and (_batch_number(trainer) + 1) % self._every_n_steps == 0:
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
        if (spikes := int(self._state["spikes"])) > self._reported:
            step = int(self._state["spike"])
            rank_zero_only(LOG.warning)(
                f"the loss is more than {self._faults.spike:g} times its mean at step {step} ({self._describe(step)})"
            )
            self.counts["spikes"], self._reported = spikes, spikes
        if what := self._first_bad(trainer):
            raise UserError(f"{what}; {last_good(self._checkpoint.parent)}; lower optim.lr")

    def _first_bad(self, trainer: Trainer) -> str | None:
        """What is not finite first, said in words."""
        loss, gradient = torch.stack([self._state["bad_loss"], self._state["bad_gradient"]]).tolist()
        if math.isinf(step := min(loss, gradient)):
            return None
        lr = trainer.optimizers[0].param_groups[0]["lr"]
        name = "loss" if loss <= gradient else "gradient"
        where = f"learning rate {lr:g}" if self._look_first else f"learning rate {lr:g}, {self._describe(int(step))}"
        return f"the {name} is not finite at step {step:.0f} ({where})"
