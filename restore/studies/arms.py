"""The arms of a comparison, each with the initial weights and the learning rate that suit it best."""

from collections.abc import Generator, Mapping, Sequence
from typing import TypeVar, get_args

from restore.models import Norm
from restore.models.init import DnCNNInit
from restore.studies.budget import Budget
from restore.studies.experiment import Experiment
from restore.studies.requests import Requests, Results, Timing
from restore.studies.step_times import StepTimes
from restore.studies.tuning import tune

TWINS: tuple[Norm, Norm] = ("batch", "none")
DENOISERS = ("DnCNN", "DnCNNVariant")
SEEDS = 3  # of the search's finalists
INITS: tuple[DnCNNInit, ...] = get_args(DnCNNInit)
# Where the search of the learning rate begins; it continues beyond the best value.
FIRST_RATES: Mapping[tuple[bool, str], Sequence[float]] = {
    (True, "adam"): (3e-3, 1e-2),
    (True, "sgd"): (1e-3, 1e-2),
    (True, "muon"): (1e-2, 3e-2),
    (False, "adam"): (1e-3, 3e-3),
}

Arm = TypeVar("Arm")


def tuned(
    budget: Budget, arms: Mapping[Arm, Experiment], inits: Sequence[DnCNNInit] = INITS
) -> Generator[Requests, Results, dict[Arm, Experiment]]:
    """Each arm at its best: denoisers over all initial weights and learning rates, other networks over learning rates.

    The search ends at the length of the arm's own runs: what is best after fewer steps may be too fast for more.

    Args:
        budget: says how long the search's first runs are; without any, each arm is taken with the first settings.
        arms: their initial weights, if they are denoisers, and learning rates are not used.
        inits: of denoisers.

    Returns:
        The arms with what was found.
    """
    candidates = {arm: _candidates(experiment, inits) for arm, experiment in arms.items()}
    rates = {arm: FIRST_RATES[_kind(experiment)] for arm, experiment in arms.items()}
    if not budget.tuning_lengths:
        return {arm: candidates[arm][0].with_rate(rates[arm][0]) for arm in arms}
    best: dict[Arm, Experiment] = {}
    kinds = {arm: (rates[arm], experiment.length) for arm, experiment in arms.items()}
    for first, length in dict.fromkeys(kinds.values()):
        alike = {arm: candidates[arm] for arm in arms if kinds[arm] == (first, length)}
        shorter = [one for one in budget.tuning_lengths if one < length]
        found = yield from tune(alike, first, [*shorter, length], SEEDS)
        best |= {arm: one.best for arm, one in found.items()}
    return {arm: best[arm] for arm in arms}


def timed(arms: Mapping[str, Experiment]) -> Generator[Requests, Results, StepTimes]:
    """The times of the arms' training steps, taken in turns, all rounds together."""
    times = yield {"times": Timing(tuple(arms.items()))}
    return StepTimes.joined(times["times"])


def _kind(experiment: Experiment) -> tuple[bool, str]:
    return experiment.network.name in DENOISERS, str(experiment.optim.optimizer)


def _candidates(experiment: Experiment, inits: Sequence[DnCNNInit]) -> list[Experiment]:
    if experiment.network.name in DENOISERS:
        return [experiment.with_network(init=init) for init in inits]
    return [experiment]


def words(experiment: Experiment) -> str:
    """What the search found, for a report."""
    init = experiment.network.arguments.get("init")
    return f"{f'init {init}, ' if init else ''}{experiment.optim.optimizer} {experiment.rate:g}"
