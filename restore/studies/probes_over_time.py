"""What is recorded during a run, now and then: each probe is made for a network and sees it and a training batch."""

from collections.abc import Callable

from torch import Tensor

from restore.data.pairs import Pair
from restore.losses import LOSSES
from restore.models import RestorationNetwork
from restore.studies.data import StudyData
from restore.studies.probes import covariate_shift, effective_learning_rates, landscape, preactivation_percentiles
from restore.training import Optimization

STEP_SIZES = (1e-4, 3e-4, 1e-3)  # along the gradient, relative to the norm of all weights
UPDATE = 1e-3  # of the layers before the middle one, relative to the norm of their weights

Probe = Callable[[Pair], dict[str, float]]


def percentiles(network: RestorationNetwork, _: Optimization, __: StudyData) -> Probe:
    """The 15th, 50th and 85th percentile of the middle layer's pre-activations."""

    def probe(pair: Pair) -> dict[str, float]:
        found = preactivation_percentiles(network, pair.degraded)
        return {str(percent): value for percent, value in found.items()}

    return probe


def effective_lr(network: RestorationNetwork, optim: Optimization, _: StudyData) -> Probe:
    """Mean over layers of lr / |W|^2, at the learning rate of the run's start."""

    def probe(__: Pair) -> dict[str, float]:
        rates = effective_learning_rates(network, optim.lr)
        return {"mean": sum(rates.values()) / len(rates)}

    return probe


def landscape_along_gradient(network: RestorationNetwork, optim: Optimization, _: StudyData) -> Probe:
    """How much loss and gradient change along the gradient."""
    loss = _loss(optim)
    return lambda pair: landscape(network, pair.degraded, pair.clean, loss, STEP_SIZES)._asdict()


def shift(network: RestorationNetwork, optim: Optimization, _: StudyData) -> Probe:
    """Internal covariate shift of the middle layer."""
    loss = _loss(optim)
    return lambda pair: covariate_shift(network, pair.degraded, pair.clean, loss, UPDATE)._asdict()


def _loss(optim: Optimization) -> Callable[[Tensor, Tensor], Tensor]:
    per_image = LOSSES[optim.loss]
    return lambda restored, clean: per_image(restored, clean).mean()


PROBES: dict[str, Callable[[RestorationNetwork, Optimization, StudyData], Probe]] = {
    "percentiles": percentiles,
    "effective_lr": effective_lr,
    "landscape": landscape_along_gradient,
    "shift": shift,
}
