"""The same search for every arm of a contrast: initial weights and learning rate together, beyond the best value.

Settings are chosen by the PSNR of validation images, which are in no test set, with a seed that judges nothing.
"""

import math
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, TypeVar

from restore.studies.experiment import Experiment, Record
from restore.studies.requests import Requests, Results, Trial

RATES = tuple(float(f"{digit}e{power}") for power in range(-6, 2) for digit in (1, 3))
KEPT = 3  # of an arm's settings, a third stays for the next length, at least two
FINALISTS = 2  # settings of an arm that are repeated with more seeds

Arm = TypeVar("Arm")


@dataclass(frozen=True)
class Setting:
    """A candidate (its place in the list of an arm) at a learning rate."""

    candidate: int
    rate: float


@dataclass(frozen=True)
class Tuned:
    """What the search found for an arm.

    Attributes:
        best: the candidate with the highest validation PSNR at the last length, with its learning rate.
        table: all that was tried: length, words for the candidate, learning rate, validation PSNR (dB; None: failed).
    """

    best: Experiment
    table: Sequence[Mapping[str, Any]]


def tune(
    arms: Mapping[Arm, Sequence[Experiment]], rates: Sequence[float], lengths: Sequence[int], seeds: int = 1
) -> Generator[Requests, Results, dict[Arm, Tuned]]:
    """Search each arm's candidates over learning rates, by successive halving over lengths.

    At each length the best setting of an arm is surrounded: while its learning rate is the lowest or the highest that
    was tried with that candidate, the next one (a factor of about 3) is tried, too. While all runs of an arm fail,
    lower learning rates are tried. With more than one seed, the best two settings at the last length are repeated, and
    the higher mean wins: a rate at the edge of what works is good with some seeds only.

    Args:
        arms: for each, its candidates, which differ in initial weights, say; their learning rates are not used.
        rates: to begin with, out of RATES.
        lengths: ascending. A third of an arm's settings, at least two, continues from one to the next.
        seeds: with which the finalists are run.
    """
    alive = {arm: [Setting(i, rate) for i in range(len(found)) for rate in rates] for arm, found in arms.items()}
    tables: dict[Arm, list[dict[str, Any]]] = {arm: [] for arm in arms}
    scores: dict[Arm, dict[Setting, float]] = {}
    for length in lengths:
        scores = yield from _at_length(arms, alive, length)
        for arm, found in scores.items():
            tables[arm] += [_row(arms[arm], setting, score, length) for setting, score in found.items()]
            alive[arm] = sorted(found, key=lambda it: -found[it])[: max(2, len(found) // KEPT)]
    if seeds > 1:
        finalists = {arm: sorted(found, key=lambda it: -found[it])[:FINALISTS] for arm, found in scores.items()}
        scores = yield from _scores(arms, finalists, lengths[-1], seeds)
        for arm, found in scores.items():
            tables[arm] += [
                _row(arms[arm], setting, score, lengths[-1]) | {"seeds": seeds} for setting, score in found.items()
            ]
    return {
        arm: Tuned(_at(arms[arm], max(found, key=lambda it: found[it]), lengths[-1]), tables[arm])
        for arm, found in scores.items()
    }


def for_longer(found: Mapping[Arm, Tuned], length: int) -> Generator[Requests, Results, dict[Arm, Tuned]]:
    """Each arm in longer runs, at the learning rate that was found or at a lower one, as long as lower ones are better.

    Args:
        found: by shorter runs.
        length: of the longer ones.
    """
    tried = {arm: [Setting(0, RATES[place]) for place in _from(one.best.rate)] for arm, one in found.items()}
    candidates = {arm: [one.best] for arm, one in found.items()}
    while True:
        scores = yield from _scores(candidates, tried, length)
        lowest = {arm: tried[arm][-1] for arm in found}
        more = [
            arm for arm, its in scores.items()
            if RATES.index(lowest[arm].rate) and math.isfinite(max(its.values()))
            and max(its, key=lambda it: its[it]) == lowest[arm]
        ]  # fmt: skip
        if not more:
            break
        for arm in more:
            tried[arm].append(Setting(0, RATES[RATES.index(lowest[arm].rate) - 1]))
    return {
        arm: Tuned(
            _at(candidates[arm], max(its, key=lambda it: its[it]), length),
            [*found[arm].table, *(_row(candidates[arm], setting, score, length) for setting, score in its.items())],
        )
        for arm, its in scores.items()
    }


def _from(rate: float) -> list[int]:
    """The places of a rate and of the next lower one."""
    place = RATES.index(rate)
    return [place, place - 1] if place else [place]


def _scores(
    arms: Mapping[Arm, Sequence[Experiment]], tried: Mapping[Arm, Sequence[Setting]], length: int, seeds: int = 1
) -> Generator[Requests, Results, dict[Arm, dict[Setting, float]]]:
    """The mean validation PSNR (dB) of each setting over seeds; -inf if a run failed."""
    results = yield {
        (arm, setting): Trial(_at(arms[arm], setting, length), seeds) for arm in arms for setting in tried[arm]
    }
    return {arm: {setting: fmean(map(_validation, results[arm, setting])) for setting in tried[arm]} for arm in arms}


def _at_length(
    arms: Mapping[Arm, Sequence[Experiment]], alive: Mapping[Arm, Sequence[Setting]], length: int
) -> Generator[Requests, Results, dict[Arm, dict[Setting, float]]]:
    """Validation PSNR (dB) of each setting, the best of each arm surrounded; -inf if a run failed."""
    tried = {arm: list(settings) for arm, settings in alive.items()}
    while True:
        scores = yield from _scores(arms, tried, length)
        added = False
        for arm, found in scores.items():
            for setting in _next(found):
                if setting not in tried[arm]:
                    tried[arm].append(setting)
                    added = True
        if not added:
            return scores


def _next(found: Mapping[Setting, float]) -> list[Setting]:
    """The settings around the best one; below the lowest learning rate of all candidates if every run failed."""
    best = max(found, key=lambda it: found[it])
    if math.isfinite(found[best]):
        place = RATES.index(best.rate)
        return [Setting(best.candidate, rate) for rate in RATES[max(0, place - 1) : place + 2]]
    lower = RATES[max(0, RATES.index(min(it.rate for it in found)) - 1)]
    return [Setting(candidate, lower) for candidate in {it.candidate: None for it in found}]


def _at(candidates: Sequence[Experiment], setting: Setting, length: int) -> Experiment:
    return candidates[setting.candidate].with_rate(setting.rate).of_length(length)


def _validation(record: Record) -> float:
    return -math.inf if record.validation is None else record.validation


def _row(candidates: Sequence[Experiment], setting: Setting, score: float, length: int) -> dict[str, Any]:
    arguments = candidates[setting.candidate].network.arguments
    return {
        "steps": length,
        "norm": arguments.get("norm"),
        "init": arguments.get("init"),
        "optimizer": candidates[setting.candidate].optim.optimizer,
        "learning rate": setting.rate,
        "validation PSNR (dB)": score if math.isfinite(score) else None,
    }
