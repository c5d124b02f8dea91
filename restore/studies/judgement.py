"""From numbers to a verdict: effects over seeds, their confidence intervals, and what they say of a claim."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from scipy.stats import t

from restore.studies.figures import Figure

Verdict = Literal["supported", "refuted", "inconclusive"]
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Effect:
    """A quantity, once for each seed; where it is a difference, of runs that share the seed.

    Attributes:
        values: one for each seed.
        unit: such as `dB`, or `x` for ratios, which are averaged by their logarithms.
        stochastic: whether another seed could give another value; otherwise one value is certain.
    """

    values: tuple[float, ...]
    unit: str
    stochastic: bool = True

    @property
    def mean(self) -> float:
        return statistics.geometric_mean(self.values) if self.unit == "x" else statistics.fmean(self.values)

    @property
    def interval(self) -> tuple[float, float] | None:
        """Student's interval of the mean at CONFIDENCE; None where there are too few seeds to tell."""
        if not self.stochastic:
            return self.mean, self.mean
        if len(self.values) < 2:
            return None
        times = float(t.ppf((1 + CONFIDENCE) / 2, len(self.values) - 1)) / len(self.values) ** 0.5
        if self.unit == "x":
            factor = math.exp(times * statistics.stdev(map(math.log, self.values)))
            return self.mean / factor, self.mean * factor
        half = times * statistics.stdev(self.values)
        return self.mean - half, self.mean + half

    def __str__(self) -> str:
        unit = self.unit if self.unit in ("x", "%", "") else f" {self.unit}"
        interval = self.interval
        if interval is None or not self.stochastic:
            return f"{_short(self.mean)}{unit}"
        return f"{_short(self.mean)}{unit} [{_short(interval[0])}, {_short(interval[1])}]"


def is_above(effect: Effect, threshold: float) -> Verdict:
    """Supported where the whole interval lies above the threshold, refuted where it lies below."""
    interval = effect.interval
    if interval is None:
        return "inconclusive"
    if interval[0] > threshold:
        return "supported"
    return "refuted" if interval[1] < threshold else "inconclusive"


def is_below(effect: Effect, threshold: float) -> Verdict:
    """The opposite of `is_above`."""
    return opposite(is_above(effect, threshold))


def opposite(verdict: Verdict) -> Verdict:
    opposites: dict[Verdict, Verdict] = {"supported": "refuted", "refuted": "supported", "inconclusive": "inconclusive"}
    return opposites[verdict]


def all_of(*verdicts: Verdict) -> Verdict:
    """Of a claim with several parts: supported if all are, refuted if one is."""
    if "refuted" in verdicts:
        return "refuted"
    return "inconclusive" if "inconclusive" in verdicts else "supported"


@dataclass(frozen=True)
class Finding:
    """What an experiment says of a claim.

    Attributes:
        verdict: on the claim as it is worded.
        effect: the quantity that decides.
        sentence: plain words with the numbers.
        figures: to look at.
        table: rows of the same keys behind it.
    """

    verdict: Verdict
    effect: Effect
    sentence: str
    figures: Sequence[Figure] = ()
    table: Sequence[dict[str, str | float]] = field(default_factory=list)


def difference(of: Sequence[float], minus: Sequence[float], unit: str) -> Effect:
    """Seed by seed."""
    return Effect(tuple(a - b for a, b in zip(of, minus, strict=True)), unit)


def ratio(of: Sequence[float], to: Sequence[float]) -> Effect:
    """Seed by seed."""
    return Effect(tuple(a / b for a, b in zip(of, to, strict=True)), "x")


def _short(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1 else f"{value:.2f}" if abs(value) < 100 else f"{value:,.0f}"
