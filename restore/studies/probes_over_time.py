"""What is recorded during a run, now and then: each probe is made for a network and looks at it and a
training batch."""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from restore.data.degradation import Degradation
from restore.data.pairs import ImagePair, Pair
from restore.images.tensors import quantize
from restore.losses import find_loss
from restore.metrics import psnr
from restore.models import RestorationNetwork
from restore.studies.data import StudyData, scores
from restore.studies.probes import (
    covariate_shift,
    effective_learning_rates,
    landscape,
    preactivation_percentiles,
    recalibrate,
)
from restore.training import Optimization

STEP_SIZES = (1e-4, 3e-4, 1e-3)  # along the gradient, relative to the norm of all weights
STATISTICS_BATCHES = 16  # from which exact statistics are taken
BLOCK = 16  # height and width of the blocks among which the worst is looked for

Probe = Callable[[Pair], dict[str, float]]


@dataclass(frozen=True)
class Run:
    """What a probe may look at besides the batch of the step.

    Attributes:
        network: in training mode.
        optim: of the run.
        degradation: of the run.
        data: the study's images.
        pair: the batch of any step.
    """

    network: RestorationNetwork
    optim: Optimization
    degradation: Degradation
    data: StudyData
    pair: Callable[[int], Pair]

    def loss(self, restored: Tensor, clean: Tensor) -> Tensor:
        """That of the run, mean over a batch."""
        return find_loss(self.optim.loss)(restored, clean).mean()


def percentiles(run: Run) -> Probe:
    """The 15th, 50th and 85th percentile of the middle layer's pre-activations."""

    def probe(pair: Pair) -> dict[str, float]:
        found = preactivation_percentiles(run.network, pair.degraded)
        return {str(percent): value for percent, value in found.items()}

    return probe


def effective_lr(run: Run) -> Probe:
    """Mean over layers of lr / |W|^2, at the full learning rate."""

    def probe(_: Pair) -> dict[str, float]:
        rates = effective_learning_rates(run.network, run.optim.lr)
        return {"mean": sum(rates.values()) / len(rates)}

    return probe


def landscape_along_gradient(run: Run) -> Probe:
    """How much loss and gradient change along the gradient."""
    return lambda pair: landscape(run.network, pair.degraded, pair.clean, run.loss, STEP_SIZES)._asdict()


def shift(run: Run) -> Probe:
    """Internal covariate shift of the middle layer, by a step at the full learning rate."""
    return lambda pair: covariate_shift(run.network, pair.degraded, pair.clean, run.loss, run.optim.lr)._asdict()


def population(run: Run) -> Probe:
    """Mean PSNR (dB) of whole validation images and of the worst block of each, in eval mode: with the statistics that
    the network has, and with exact ones, computed over training batches."""
    pairs = run.data.validation_pairs(run.degradation, run.network.channels)

    def probe(_: Pair) -> dict[str, float]:
        network = copy.deepcopy(run.network).eval()
        found = _with_blocks(network, pairs, "")
        recalibrate(network, [run.pair(step).degraded for step in range(STATISTICS_BATCHES)])
        return found | _with_blocks(network.eval(), pairs, "exact ")

    return probe


@torch.no_grad()
def _with_blocks(network: RestorationNetwork, pairs: list[ImagePair], prefix: str) -> dict[str, float]:
    psnrs = scores(network, pairs, network.scale)
    return {
        f"{prefix}psnr": sum(psnrs) / len(psnrs),
        f"{prefix}worst block": sum(worst_block(network, pair) for pair in pairs) / len(pairs),
    }


@torch.no_grad()
def worst_block(network: RestorationNetwork, pair: ImagePair) -> float:
    """PSNR (dB) of the worst of the blocks of 16x16 pixels of a restored image.

    Args:
        network: in eval mode.
        pair: an image of at least one block.
    """
    restored = quantize(network(pair.degraded.expand(-1, network.channels, -1, -1)))
    blocks, truth = (
        images.unfold(2, BLOCK, BLOCK).unfold(3, BLOCK, BLOCK).permute(2, 3, 0, 1, 4, 5).flatten(0, 2)
        for images in (restored, pair.clean.expand_as(restored))
    )
    return psnr(blocks, truth).min().item()


@dataclass(frozen=True)
class Schedule:
    """A probe and how often it looks.

    Attributes:
        make: makes it for a run.
        every: steps.
    """

    make: Callable[[Run], Probe]
    every: int = 75


PROBES: dict[str, Schedule] = {
    "percentiles": Schedule(percentiles),
    "effective_lr": Schedule(effective_lr),
    "landscape": Schedule(landscape_along_gradient, every=30),
    "shift": Schedule(shift, every=30),
    "population": Schedule(population),
}
