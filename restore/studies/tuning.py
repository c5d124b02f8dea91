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


Scores = Mapping[Setting, Sequence[float]]  # validation PSNR (dB) of each seed; -inf: its run failed


@dataclass(frozen=True)
class Tuned:
    """What the search found for an arm.

    Attributes:
        by_length: at each length of the search, ascending, the candidate with the highest validation PSNR, with its
            learning rate.
        table: all that was tried: length, words for the candidate, learning rate, validation PSNR (dB; None: failed);
            of several seeds their mean, their number and each one's.
    """

    by_length: Mapping[int, Experiment]
    table: Sequence[Mapping[str, Any]]

    @property
    def best(self) -> Experiment:
        """At the last length."""
        return list(self.by_length.values())[-1]


def tune(
    arms: Mapping[Arm, Sequence[Experiment]],
    rates: Sequence[float],
    lengths: Sequence[int],
    seeds: int = 1,
    judged: Sequence[int] = (),
) -> Generator[Requests, Results, dict[Arm, Tuned]]:
    """Search each arm's candidates over learning rates, by successive halving over lengths.

    At each length the best setting of an arm is surrounded: while its learning rate is the lowest or the highest that
    was tried with that candidate, the next one (a factor of about 3) is tried, too. While all runs of an arm fail,
    lower learning rates are tried. With more than one seed, the best two settings at each length that is judged are
    repeated, and the higher mean wins: a rate at the edge of what works is good with some seeds only. The winner is
    surrounded, too, by settings with as many seeds.

    Args:
        arms: for each, its candidates, which differ in initial weights, say; their learning rates are not used.
        rates: to begin with, out of RATES.
        lengths: ascending. A third of an arm's settings, at least two, continues from one to the next.
        seeds: with which the finalists are run.
        judged: the lengths at which there are finalists; the last is always one.
    """
    alive = {arm: [Setting(i, rate) for i in range(len(found)) for rate in rates] for arm, found in arms.items()}
    tables: dict[Arm, list[dict[str, Any]]] = {arm: [] for arm in arms}
    best: dict[Arm, dict[int, Experiment]] = {arm: {} for arm in arms}
    for length in lengths:
        scores = yield from _surrounded(arms, alive, length)
        for arm, found in scores.items():
            tables[arm] += [_row(arms[arm], setting, score, length) for setting, score in found.items()]
            alive[arm] = sorted(found, key=lambda it: -fmean(found[it]))[: max(2, len(found) // KEPT)]
        if seeds > 1 and length in (*judged, lengths[-1]):
            finalists = {
                arm: sorted(found, key=lambda it: -fmean(found[it]))[:FINALISTS] for arm, found in scores.items()
            }
            scores = yield from _surrounded(arms, finalists, length, seeds, tried=scores)
            for arm, found in scores.items():
                tables[arm] += [_row(arms[arm], setting, score, length) for setting, score in found.items()]
        for arm, found in scores.items():
            best[arm][length] = _at(arms[arm], _best(found), length)
    return {arm: Tuned(best[arm], tables[arm]) for arm in arms}


def for_longer(
    found: Mapping[Arm, Tuned], length: int, seeds: int = 1
) -> Generator[Requests, Results, dict[Arm, Tuned]]:
    """Each arm in longer runs, at the learning rate that was found or at a lower one, as long as lower ones are better
    or all fail.

    Args:
        found: by shorter runs.
        length: of the longer ones.
        seeds: with which each rate is tried; the highest mean wins.
    """
    tried = {arm: [Setting(0, RATES[place]) for place in _from(one.best.rate)] for arm, one in found.items()}
    candidates = {arm: [one.best] for arm, one in found.items()}
    while True:
        scores = yield from _scores(candidates, tried, length, seeds)
        lowest = {arm: tried[arm][-1] for arm in found}
        more = [
            arm
            for arm, its in scores.items()
            if RATES.index(lowest[arm].rate) and fmean(its[lowest[arm]]) == max(map(fmean, its.values()))
        ]
        if not more:
            break
        for arm in more:
            tried[arm].append(Setting(0, RATES[RATES.index(lowest[arm].rate) - 1]))
    return {
        arm: Tuned(
            {**found[arm].by_length, length: _at(candidates[arm], _best(its), length)},
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
) -> Generator[Requests, Results, dict[Arm, Scores]]:
    """What each setting reaches."""
    results = yield {
        (arm, setting): Trial(_at(arms[arm], setting, length), seeds) for arm in arms for setting in tried[arm]
    }
    return {arm: {setting: list(map(_validation, results[arm, setting])) for setting in tried[arm]} for arm in arms}


def _surrounded(
    arms: Mapping[Arm, Sequence[Experiment]],
    first: Mapping[Arm, Sequence[Setting]],
    length: int,
    seeds: int = 1,
    tried: Mapping[Arm, Scores] | None = None,
) -> Generator[Requests, Results, dict[Arm, Scores]]:
    """What each setting reaches, the best of each arm surrounded, unless its neighbor was `tried` before."""
    asked = {arm: list(settings) for arm, settings in first.items()}
    while True:
        scores = yield from _scores(arms, asked, length, seeds)
        added = False
        for arm, found in scores.items():
            known = {*found, *(tried[arm] if tried else ())}
            if more := [setting for setting in _next(found) if setting not in known]:
                asked[arm] += more
                added = True
        if not added:
            return scores


def _best(found: Scores) -> Setting:
    """With the highest mean over seeds."""
    return max(found, key=lambda it: fmean(found[it]))


def _next(found: Scores) -> list[Setting]:
    """The settings around the best one; below the lowest learning rate of all candidates if every run failed."""
    best = _best(found)
    if math.isfinite(fmean(found[best])):
        place = RATES.index(best.rate)
        return [Setting(best.candidate, rate) for rate in RATES[max(0, place - 1) : place + 2]]
    lower = RATES[max(0, RATES.index(min(it.rate for it in found)) - 1)]
    return [Setting(candidate, lower) for candidate in {it.candidate: None for it in found}]


def _at(candidates: Sequence[Experiment], setting: Setting, length: int) -> Experiment:
    return candidates[setting.candidate].with_rate(setting.rate).of_length(length)


def _validation(record: Record) -> float:
    return -math.inf if record.validation is None else record.validation


def _row(candidates: Sequence[Experiment], setting: Setting, by_seed: Sequence[float], length: int) -> dict[str, Any]:
    arguments = candidates[setting.candidate].network.arguments
    score = fmean(by_seed)
    of_seeds = {"seeds": len(by_seed), "by seed (dB)": [it if math.isfinite(it) else None for it in by_seed]}
    return {
        "steps": length,
        "norm": arguments.get("norm"),
        "init": arguments.get("init"),
        "optimizer": candidates[setting.candidate].optim.optimizer,
        "learning rate": setting.rate,
        "validation PSNR (dB)": score if math.isfinite(score) else None,
        **(of_seeds if len(by_seed) > 1 else {}),
    }
