"""Training for a study: warm-up, stable, decay, in states that can be kept and continued bit for bit.

It is `restore.train`'s step (same patches, noise, losses and optimizers) without Lightning: a study stops and continues
hundreds of small networks in mid-flight and branches off them, and needs no more than this loop.
"""

import io
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from restore.data.pairs import PAIRS, Pair, make_pair
from restore.data.random import seeded
from restore.errors import UserError
from restore.files import write_atomically
from restore.hardware import Hardware
from restore.losses import find_loss
from restore.models import RestorationNetwork, build
from restore.studies.data import StudyData
from restore.studies.experiment import Experiment
from restore.studies.probes_over_time import PROBES, Run

SAVE_EVERY_S = 120.0
LOSS_STRETCH = 25  # steps whose mean loss is kept
SPIKE = 3.0  # a loss that is this many times the median ...
BEFORE_SPIKE = 20  # ... of this many steps before it
TIMED_STEPS = 200  # of which the median time is kept


@dataclass
class Log:
    """What is noted on the way. All of it is part of the state.

    Attributes:
        losses: means over LOSS_STRETCH steps.
        recent: losses since the last of these, and of the steps that tell a spike.
        spikes: how many.
        failed_at: the step at which the loss was not finite.
        durations_s: of the last TIMED_STEPS steps.
        probed: by probe, what it saw.
    """

    losses: list[float] = field(default_factory=list)
    recent: list[float] = field(default_factory=list)
    spikes: int = 0
    failed_at: int | None = None
    durations_s: list[float] = field(default_factory=list)
    probed: dict[str, list[dict[str, float]]] = field(default_factory=dict)

    def add(self, step: int, loss: float, duration_s: float) -> None:
        """Note a step; steps count from 1."""
        before = self.recent[-BEFORE_SPIKE:]
        self.spikes += len(before) == BEFORE_SPIKE and loss > SPIKE * statistics.median(before)
        self.recent = [*self.recent[-LOSS_STRETCH - BEFORE_SPIKE :], loss]
        if step % LOSS_STRETCH == 0:
            self.losses.append(float(f"{statistics.fmean(self.recent[-LOSS_STRETCH:]):.5g}"))
        self.durations_s = [*self.durations_s[1 - TIMED_STEPS :], duration_s]


class Trajectory:
    """A network, its optimizer and its log, at some step of an experiment.

    Args:
        experiment: what is trained, from freshly drawn weights.
        data: the images.
        seed: of initial weights, batches and noise.
        device: where to train.

    Raises:
        UserError: data are missing or do not fit.
    """

    def __init__(self, experiment: Experiment, data: StudyData, seed: int, device: torch.device) -> None:
        torch.manual_seed(seed)
        self.network: RestorationNetwork = build(experiment.network)
        scale_weights(self.network, experiment.gain)
        hardware = Hardware().resolved(device, 0, self.network.norm)
        self._format = torch.channels_last if hardware.channels_last else torch.contiguous_format
        self.network.to(device).to(memory_format=self._format).train()
        self.step = 0
        self.log = Log(probed={name: [] for name in experiment.probes})
        self._experiment = experiment
        self._seed = seed
        self._device = device
        self._sampler = data.sampler(
            self.network, experiment.patch_size, experiment.batch_size, seed, experiment.images
        )
        self._optimizer = experiment.optim.optimizer_of(self.network)
        self._full_rates = [group["lr"] for group in self._optimizer.param_groups]
        self._loss = find_loss(experiment.optim.loss)
        run = Run(self.network, experiment.optim, experiment.degradation, data, self.pair)
        self._probes = {name: (PROBES[name].make(run), PROBES[name].every) for name in experiment.probes}

    def advance(self, until: int, path: Path, interrupted: Callable[[], bool]) -> bool:
        """Train until a step is done, or the loss is not finite, or `interrupted` says so.

        Args:
            until: step.
            path: where the state is kept: every two minutes, and at the end of this call if any step was taken.
            interrupted: is asked before each step.

        Returns:
            Whether it was not interrupted.
        """
        saved_at, saved = time.monotonic(), self.step
        stopped = False
        while self.step < until and self.log.failed_at is None and not stopped:
            if stopped := interrupted():
                break
            self.take_step()
            if time.monotonic() - saved_at > SAVE_EVERY_S:
                self.save(path)
                saved_at, saved = time.monotonic(), self.step
        if self.step > saved:
            self.save(path)
        return not stopped

    def pair(self, step: int) -> Pair:
        """The batch of a step: a pure function of (seed, step)."""
        batch = self._sampler.batch(step).to(self._device)
        draws = seeded(self._seed, step, *PAIRS, device=self._device)
        return make_pair(batch, self._experiment.degradation, draws)

    def take_step(self) -> float:
        """Train on the batch of the next step.

        Returns:
            How long it took, in seconds: on a CPU the processor time divided by the number of threads, on a GPU time by
            the clock.
        """
        experiment, step = self._experiment, self.step
        for group, rate in zip(self._optimizer.param_groups, self._full_rates, strict=True):
            group["lr"] = rate * experiment.rate_factor(step)
        if experiment.freeze_in_decay and step >= experiment.length:
            freeze(self.network)
        torch.manual_seed(self._seed * 2**32 + step)  # of dropout, which has no generator of its own
        begun = self._now()
        pair = self.pair(step)
        self._optimizer.zero_grad()
        with torch.autocast(self._device.type, torch.bfloat16, enabled=experiment.precision == "bf16"):
            restored = self.network(pair.degraded.contiguous(memory_format=self._format))
        loss: Tensor = self._loss(restored.float(), pair.clean).mean()
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        value = loss.item()
        duration_s = self._now() - begun
        self.step += 1
        self.log.add(self.step, value, duration_s)
        if not loss.isfinite():
            self.log.failed_at = self.step
        elif self.step <= experiment.length:
            for name, (probe, every) in self._probes.items():
                if self.step % every == 0:
                    self.log.probed[name].append({"step": self.step, **probe(pair)})
        return duration_s

    def _now(self) -> float:
        if self._device.type == "cpu":
            return time.process_time() / torch.get_num_threads()
        torch.cuda.synchronize()
        return time.perf_counter()

    def save(self, path: Path) -> None:
        """Write the state atomically."""
        state = {
            "step": self.step,
            "network": self.network.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "log": asdict(self.log),
        }
        file = io.BytesIO()
        torch.save(state, file)
        write_atomically(path, file.getvalue())

    def load(self, path: Path) -> None:
        """Continue from a state.

        Raises:
            UserError: it is damaged, or not of this experiment.
        """
        try:
            state: dict[str, Any] = torch.load(path, map_location=self._device, weights_only=True)
            self.network.load_state_dict(state["network"])
            self._optimizer.load_state_dict(state["optimizer"])
            self.log = Log(**state["log"])
            self.step = state["step"]
        except (UnpicklingError, RuntimeError, ValueError, LookupError, TypeError, EOFError, OSError) as error:
            reason = str(error).partition("\n")[0]
            raise UserError(
                f"{path}: not a state of this run, or damaged ({reason}); delete it to start again"
            ) from error


def scale_weights(network: nn.Module, gain: tuple[float, float]) -> None:
    """Multiply the weights of all convolutions but the last, and of the last, in place."""
    others, last = gain
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    with torch.no_grad():
        for convolution in convolutions:
            weight = convolution.weight * (last if convolution is convolutions[-1] else others)
            if parametrize.is_parametrized(convolution, "weight"):
                convolution.weight = weight
            else:
                convolution.weight.copy_(weight)


def freeze(network: nn.Module) -> None:
    """Let batch norm use its population statistics, and leave them as they are, in place."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
