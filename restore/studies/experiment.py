"""One training run of a study: all that decides its outcome, and what is kept of it."""

import hashlib
import json
import statistics
import time
from collections import deque
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from restore.checkpoint import Weights, save_weights
from restore.data.catalog import find_images
from restore.data.degradation import Degradation
from restore.data.pairs import Pair, load_pair
from restore.errors import UserError
from restore.images.tensors import quantise
from restore.metrics import psnr, ssim
from restore.models import NetworkSpec, RestorationNetwork, build
from restore.provenance import provenance
from restore.studies.probes import kept_buffers
from restore.studies.watches import WATCHES
from restore.training import Optimization, PatchData
from restore.training.observed import fit_observed

FORMAT = 1
EVALUATIONS = 12  # of a run, evenly apart
LOSSES = 60  # that are kept of a run, means over equal stretches
SPIKE = 3.0  # a loss so many times the median of those before it ...
BEFORE_SPIKE = 20  # ... of so many steps


@dataclass(frozen=True)
class Bench:
    """On what networks are trained and scored.

    Attributes:
        train, test: data sets or folders.
        root: where data sets lie.
        crops, crop: the first test images, of each of which the centre of this height and width is scored.
        device: where to train, e.g. `cpu` or `cuda:0`; not part of what decides an outcome.
    """

    train: str
    test: str
    root: Path
    crops: int
    crop: int
    device: str = "cpu"

    def test_crops(self, degradation: Degradation, channels: int) -> Pair:
        """Degraded (N, C, h, w) and clean (N, C, H, W) float32 in [0, 1], the noise always the same.

        Raises:
            UserError: a test image is smaller than a crop.
        """
        images = find_images(self.test, "test", self.root)
        pairs = [load_pair(images, index, degradation, channels) for index in range(min(self.crops, len(images.clean)))]
        size, scale = self.crop // degradation.scale, degradation.scale
        degraded, clean = [], []
        for pair in pairs:
            height, width = pair.degraded.shape[-2:]
            if min(height, width) < size:
                raise UserError(f"{self.test}/{pair.name}: {width}x{height} is smaller than a crop of {size}x{size}")
            top, left = (height - size) // 2, (width - size) // 2
            degraded.append(pair.degraded[..., top : top + size, left : left + size].expand(-1, channels, -1, -1))
            top, left, full = top * scale, left * scale, size * scale
            clean.append(pair.clean[..., top : top + full, left : left + full].expand(-1, channels, -1, -1))
        return Pair(torch.cat(degraded), torch.cat(clean).float() / 255)


@dataclass(frozen=True)
class Experiment:
    """A training run but for its seed and its data.

    Attributes:
        network: class and arguments.
        degradation: what is restored.
        optim: loss, optimiser, schedule.
        steps: of the run.
        patch_size, batch_size: of the training batches.
        images: train on so many images only; None: all.
        gain: factor on the initial weights of all convolutions, or of all but the last and of the last.
        freeze_after: share of the run after which batch norm uses its population statistics.
        watch: what is recorded along the run, see `watches.py`.
    """

    network: NetworkSpec
    degradation: Degradation
    optim: Optimization
    steps: int
    patch_size: int
    batch_size: int
    images: int | None = None
    gain: float | tuple[float, float] = 1.0
    freeze_after: float | None = None
    watch: tuple[str, ...] = ()

    def with_network(self, **arguments: Any) -> Self:
        """The experiment with other arguments of the network."""
        return replace(self, network=NetworkSpec(self.network.name, self.network.arguments | arguments))

    def with_optim(self, **settings: Any) -> Self:
        """The experiment with other settings of the optimisation."""
        return replace(self, optim=replace(self.optim, **settings))

    def watching(self, *watch: str) -> Self:
        """The experiment, more of which is recorded."""
        return replace(self, watch=watch)

    def key(self, bench: Bench, seed: int) -> str:
        """Names the run: equal for equal outcomes."""
        data = {name: value for name, value in asdict(bench).items() if name not in ("root", "device")}
        return hashlib.sha256(json.dumps([FORMAT, self.description, data, seed]).encode()).hexdigest()[:16]

    @property
    def description(self) -> dict[str, Any]:
        """All of it, as JSON."""
        return asdict(self) | {"degradation": self.degradation.description}


@dataclass(frozen=True)
class Record:
    """What is kept of a run.

    Attributes:
        experiment: its description.
        seed: of initial weights, batches and noise.
        steps: at which the test crops were restored; psnr (dB) and ssim are means over them, in eval mode.
        losses: means over stretches of equal length.
        train_psnr: of the last patches in eval mode and, `train_mode_psnr`, by their own batch's statistics.
        diverged_at: the step at which the loss was no longer finite.
        spikes: steps whose loss was more than SPIKE times the median of the BEFORE_SPIKE steps before.
        step_s: processor time of a step on a CPU, divided by the threads; elsewhere time by the clock. Median.
        watched: what the experiment's `watch` recorded, by name: a list of {"step": ..., ...}.
        provenance: device, versions, commit, date.
    """

    experiment: dict[str, Any]
    seed: int
    steps: list[int]
    psnr: list[float]
    ssim: list[float]
    losses: list[float]
    train_psnr: float
    train_mode_psnr: float
    diverged_at: int | None
    spikes: int
    step_s: float
    watched: dict[str, list[dict[str, float]]]
    provenance: dict[str, Any]


def run(experiment: Experiment, bench: Bench, seed: int, weights: Path) -> Record:
    """Train, write the weights, return the record.

    Raises:
        UserError: data are missing or do not fit.
    """
    torch.manual_seed(seed)
    network = build(experiment.network)
    _scale_weights(network, experiment.gain)
    data = PatchData(
        bench.train,
        bench.test,
        bench.root,
        degradation=experiment.degradation,
        patch_size=experiment.patch_size,
        batch_size=experiment.batch_size,
        steps_per_epoch=experiment.steps,
        images=experiment.images,
        seed=seed,
    )
    data.prepare(network)
    device = torch.device(bench.device)
    crops = bench.test_crops(experiment.degradation, network.channels)
    diary = _Diary(experiment, network, Pair(*(images.to(device) for images in crops)))
    fit_observed(network, data, experiment.optim, experiment.steps, diary, device=device)
    record = diary.record(seed)
    finite = record.diverged_at is None
    save_weights(weights, Weights(network.eval().cpu(), experiment.degradation.description, {"finite": finite}, []))
    return record


def scores(network: RestorationNetwork, pair: Pair) -> tuple[float, float]:
    """Mean PSNR (dB) and SSIM of what the network, as it is, makes of the images of a pair, quantised to 8 bits."""
    with torch.no_grad():
        restored = torch.cat([network(image[None]) for image in pair.degraded])
    if not restored.isfinite().all():
        return 0.0, 0.0
    return mean_psnr(restored, pair.clean), ssim(quantise(restored), quantise(pair.clean)).mean().item()


def mean_psnr(restored: Tensor, clean: Tensor) -> float:
    """Mean over the images, (N, C, H, W) in [0, 1], of the PSNR (dB) of 8-bit images."""
    return psnr(quantise(restored), quantise(clean)).mean().item()


class _Diary:
    """Observes a run: evaluates, watches, freezes."""

    def __init__(self, experiment: Experiment, network: RestorationNetwork, crops: Pair) -> None:
        self._experiment = experiment
        self._network = network
        self._crops = crops
        self._moments = {round(experiment.steps * (i + 1) / EVALUATIONS) for i in range(EVALUATIONS)} - {0}
        self._watches = {name: WATCHES[name](network, experiment.optim) for name in experiment.watch}
        self._watched: dict[str, list[dict[str, float]]] = {name: [] for name in experiment.watch}
        self._evaluated: list[tuple[int, float, float]] = []
        self._losses: list[float] = []
        self._durations: list[float] = []
        self._recent: deque[float] = deque(maxlen=BEFORE_SPIKE)
        self._spikes = 0
        self._diverged_at: int | None = None
        self._patches = 0.0, 0.0
        self._since = self._now()

    def __call__(self, step: int, loss: Tensor, pair: Pair) -> bool:
        self._durations.append(self._now() - self._since)
        value = loss.item()
        self._losses.append(value)
        if not loss.isfinite():
            self._diverged_at = step
            self._evaluated.append((step, 0.0, 0.0))
            return False
        self._spikes += len(self._recent) == BEFORE_SPIKE and value > SPIKE * statistics.median(self._recent)
        self._recent.append(value)
        if step in self._moments:
            self._look(step, pair)
        share = self._experiment.freeze_after
        if share is not None and step >= share * self._experiment.steps:
            _freeze(self._network)
        self._since = self._now()
        return True

    def _look(self, step: int, pair: Pair) -> None:
        network = self._network
        for name, watch in self._watches.items():
            self._watched[name].append({"step": step, **watch(pair)})
        modes = {module: module.training for module in network.modules()}
        with torch.no_grad(), kept_buffers(network):
            by_batch = mean_psnr(network(pair.degraded), pair.clean)
        network.eval()
        self._evaluated.append((step, *scores(network, self._crops)))
        self._patches = scores(network, pair)[0], by_batch
        for module, training in modes.items():
            module.training = training

    def record(self, seed: int) -> Record:
        steps, psnrs, ssims = (list(column) for column in zip(*self._evaluated, strict=True))
        stretch = -(-len(self._losses) // LOSSES)
        device = self._crops.clean.device
        return Record(
            experiment=self._experiment.description,
            seed=seed,
            steps=steps,
            psnr=[round(value, 4) for value in psnrs],
            ssim=[round(value, 5) for value in ssims],
            losses=[
                float(f"{statistics.fmean(self._losses[i : i + stretch]):.5g}")
                for i in range(0, len(self._losses), stretch)
            ],
            train_psnr=self._patches[0],
            train_mode_psnr=self._patches[1],
            diverged_at=self._diverged_at,
            spikes=self._spikes,
            step_s=statistics.median(self._durations),
            watched=self._watched,
            provenance={name: value for name, value in provenance(device).items() if name != "command"},
        )

    def _now(self) -> float:
        if self._crops.clean.device.type == "cpu":
            return time.process_time() / torch.get_num_threads()
        torch.cuda.synchronize()
        return time.perf_counter()


def _scale_weights(network: nn.Module, gain: float | tuple[float, float]) -> None:
    first, last = gain if isinstance(gain, tuple) else (gain, gain)
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    with torch.no_grad():
        for convolution in convolutions:
            weight = convolution.weight * (last if convolution is convolutions[-1] else first)
            if parametrize.is_parametrized(convolution, "weight"):
                convolution.weight = weight
            else:
                convolution.weight.copy_(weight)


def _freeze(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
