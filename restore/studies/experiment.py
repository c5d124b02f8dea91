"""One training run of a study: all that decides its outcome, and what is kept of it."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, fields, replace
from typing import Any, Self

from restore.data.degradation import Degradation
from restore.inference.runner import FloatPrecision
from restore.models import NetworkSpec
from restore.studies import variants  # noqa: F401 (makes its networks known to `build`)
from restore.studies.data import StudyData
from restore.training import Optimization

FORMAT = 2
WARM_UP = 100  # steps over which the learning rate rises to its full value
DECAY_SHARE = 0.2  # of the length, which is added to it and over which the learning rate falls to nothing
TUNING_SEED = 1000  # the first of runs that choose settings; none that judge has it or a later one


@dataclass(frozen=True)
class Experiment:
    """A training run but for its seed and its data.

    The learning rate warms up, stays, and decays: runs that differ only in `length`, or in what happens during the
    decay, share all steps before it.

    Attributes:
        network: class and arguments.
        degradation: what is restored.
        optim: loss, optimizer, learning rate; its schedule is not used.
        length: steps before the decay, which takes a fifth of them in addition.
        patch_size, batch_size: of the training batches.
        precision: of training and of restoring: float32, or bfloat16 by autocast.
        images: how many images to train on, the first ones; None: all.
        gain: factors on the initial weights of all convolutions but the last, and of the last.
        freeze_in_decay: batch norm uses its population statistics during the decay.
        probes: what is recorded before the decay, see `probes_over_time.py`.
    """

    network: NetworkSpec
    degradation: Degradation
    optim: Optimization
    length: int
    patch_size: int
    batch_size: int
    precision: FloatPrecision = "fp32"
    images: int | None = None
    gain: tuple[float, float] = (1.0, 1.0)
    freeze_in_decay: bool = False
    probes: tuple[str, ...] = ()

    @property
    def steps(self) -> int:
        """Of the whole run."""
        return steps_of(self.length)

    def rate_factor(self, step: int) -> float:
        """What the learning rate is multiplied by at a step, which counts from 0.

        The decay is 1 - sqrt(t), the best of those that Hägele et al. 2024 (arXiv:2405.18392) compare.
        """
        if step < self.length:
            return min(1.0, (step + 1) / WARM_UP)
        done = (step - self.length + 1) / (self.steps - self.length + 1)
        return 1 - float(done**0.5)

    def with_network(self, **arguments: Any) -> Self:
        """The experiment with other arguments of the network."""
        return replace(self, network=NetworkSpec(self.network.name, self.network.arguments | arguments))

    def with_optim(self, **settings: Any) -> Self:
        """The experiment with other settings of the optimization."""
        return replace(self, optim=replace(self.optim, **settings))

    @property
    def rate(self) -> float:
        """The learning rate that a search varies: with Muon, of its convolutions; Adam's, for the rest, stays."""
        return self.optim.muon_lr if self.optim.optimizer == "muon" else self.optim.lr

    def with_rate(self, rate: float) -> Self:
        """The experiment with another `rate`."""
        return self.with_optim(**{"muon_lr" if self.optim.optimizer == "muon" else "lr": rate})

    def of_length(self, length: int) -> Self:
        """The experiment with another length."""
        return replace(self, length=length)

    def probing(self, *probes: str) -> Self:
        """The experiment, more of which is recorded."""
        return replace(self, probes=probes)

    @property
    def description(self) -> dict[str, Any]:
        """All that is not a default, as JSON: so a new setting whose default changes nothing leaves keys as
        they are."""
        network = {"name": self.network.name, "arguments": self.network.arguments}
        own = {"network": network, "degradation": self.degradation.description, "optim": _chosen(self.optim)}
        return own | {name: it for name, it in _chosen(self).items() if name not in own}

    def key(self, data: StudyData, seed: int) -> str:
        """Names the run: equal for equal outcomes."""
        return _digest(self.description, data, seed)

    def trunk_key(self, data: StudyData, seed: int) -> str:
        """Names the steps before the decay: equal for runs that share them."""
        shared = {name: it for name, it in self.description.items() if name not in ("length", "freeze_in_decay")}
        return _digest(shared, data, seed)


def steps_of(length: int) -> int:
    """Steps of a whole run, the decay included."""
    return length + round(DECAY_SHARE * length)


def _chosen(settings: Any) -> dict[str, Any]:
    """The fields of a dataclass that differ from their defaults, or have none."""
    found = {}
    for one in fields(settings):
        default = one.default if one.default_factory is MISSING else one.default_factory()
        if (value := getattr(settings, one.name)) != default:
            found[one.name] = value
    return found


def _digest(description: dict[str, Any], data: StudyData, seed: int) -> str:
    return hashlib.sha256(json.dumps([FORMAT, description, data.identity, seed]).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Record:
    """What is kept of a run.

    Attributes:
        experiment: its description.
        seed: of initial weights, batches and noise.
        psnr: by test set, dB, one number for each image; empty for a run that chooses settings or has failed.
        input_psnr: by test set, the mean PSNR (dB) of the degraded images (enlarged bicubically), which every network
            has to beat.
        validation: mean PSNR (dB) of the validation images; None if the run failed.
        validation_input: the same of the degraded images.
        train_psnr: mean PSNR (dB) of the last training patches in eval mode and, `train_mode_psnr`, with their own
            batch's statistics; None if the run failed.
        dead: percentage of features after a ReLU that are zero at every pixel of the validation images.
        losses: means over 25 steps.
        spikes: steps whose loss was more than three times the median of the 20 before.
        failed_at: the step at which the loss, or at the end the restored images, were not finite.
        step_s: processor time of a training step by one thread (on a GPU: time by the clock), median, in seconds.
        probed: what the experiment's `probes` recorded, by name: a list of {"step": ..., ...}.
        provenance: device, versions, commit, date.
    """

    experiment: dict[str, Any]
    seed: int
    psnr: dict[str, list[float]]
    input_psnr: dict[str, float]
    validation: float | None
    validation_input: float
    train_psnr: float | None
    train_mode_psnr: float | None
    dead: float | None
    losses: list[float]
    spikes: int
    failed_at: int | None
    step_s: float
    probed: dict[str, list[dict[str, float]]]
    provenance: dict[str, Any]

    @property
    def length(self) -> int:
        """Steps before the decay."""
        return int(self.experiment["length"])

    @property
    def steps(self) -> int:
        """Of the whole run."""
        return steps_of(self.length)


def mode_gaps(runs: Sequence[Record]) -> list[float]:
    """Of each run that has not failed: PSNR (dB) of the last training patches in train mode less that in eval mode."""
    return [
        run.train_mode_psnr - run.train_psnr
        for run in runs
        if run.train_mode_psnr is not None and run.train_psnr is not None
    ]
