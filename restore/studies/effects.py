"""Effects over seeds and images, their intervals and p-values."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.stats import nct, t

CONFIDENCE = 0.95
RESAMPLES = 4000


@dataclass(frozen=True)
class Effect:
    """A quantity, once for each seed; if it is a difference or a ratio, of runs that share the seed.

    Attributes:
        values: one for each seed.
        unit: such as `dB`, or `x` for ratios, which are averaged by their logarithms.
        stochastic: whether another seed could give another value; otherwise one value is certain.
        images: for each seed, one value for each test image, whose means are `values`; empty if it has no images.
        seeds: the place of each value's seed; by default all in order. A run that failed has no value.
    """

    values: tuple[float, ...]
    unit: str
    stochastic: bool = True
    images: tuple[tuple[float, ...], ...] = ()
    seeds: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.seeds:
            object.__setattr__(self, "seeds", tuple(range(len(self.values))))

    @property
    def mean(self) -> float:
        if not all(map(math.isfinite, self.values)):
            return math.nan
        return statistics.geometric_mean(self.values) if self.unit == "x" else statistics.fmean(self.values)

    def interval(self, confidence: float = CONFIDENCE) -> tuple[float, float] | None:
        """Of the mean; None if there are too few seeds to tell, or a value was not measured.

        With images it is a two-way bootstrap: images are drawn again, and independently of them the mean over seeds
        from Student's distribution, since few seeds drawn again give too narrow an interval. Without any difference
        between images it is Student's interval.
        Without images it is that interval, of the logarithms for ratios.
        """
        if not self.stochastic:
            return self.mean, self.mean
        if len(self.values) < 2 or not all(map(math.isfinite, self.values)):
            return None
        if self.images:
            tails = [(1 - confidence) / 2, (1 + confidence) / 2]
            low, high = np.quantile(self._resampled, tails)
            return float(low), float(high)
        times = float(t.ppf((1 + confidence) / 2, len(self.values) - 1)) / len(self.values) ** 0.5
        if self.unit == "x":
            factor = math.exp(times * statistics.stdev(map(math.log, self.values)))
            return self.mean / factor, self.mean * factor
        half = times * statistics.stdev(self.values)
        return self.mean - half, self.mean + half

    @cached_property
    def _resampled(self) -> NDArray[np.float64]:
        """Means, seeds and images drawn again."""
        table = np.array(self.images)
        random = np.random.default_rng(0)
        error = table.mean(1).std(ddof=1) / len(table) ** 0.5
        by_seed = error * random.permutation(_students(len(table) - 1))
        by_image = random.choice(table.mean(0), (RESAMPLES, table.shape[1])).mean(1)
        resampled: NDArray[np.float64] = by_seed + by_image
        return resampled

    def p_value(self, null: float) -> float | None:
        """Two-sided, that the mean is `null`: by Student's distribution over the seeds, the images' variance added."""
        if not self.stochastic or self.interval() is None:
            return None
        values = list(map(math.log, self.values)) if self.unit == "x" else list(self.values)
        distance = statistics.fmean(values) - (math.log(null) if self.unit == "x" else null)
        variance = statistics.variance(values) / len(values) + self.image_error**2
        if variance == 0:
            return 0.0 if distance else 1.0
        return float(2 * t.sf(abs(distance) / variance**0.5, len(values) - 1))

    @property
    def image_error(self) -> float:
        """What the images add to the standard error of the mean, however many seeds there are; 0 without images."""
        if not self.images or len(self.images[0]) < 2:
            return 0.0
        return float(np.array(self.images).mean(0).std(ddof=1)) / math.sqrt(len(self.images[0]))

    def __str__(self) -> str:
        if not all(map(math.isfinite, self.values)):
            return "not measured"
        unit = self.unit if self.unit in ("x", "%", "") else f" {self.unit}"
        interval = self.interval()
        if interval is None or not self.stochastic:
            return f"{short(self.mean)}{unit}"
        return f"{short(self.mean)}{unit} [{short(interval[0])}, {short(interval[1])}]"


@cache
def _students(degrees: int) -> NDArray[np.float64]:
    """RESAMPLES values of Student's distribution, evenly spread over it, so that chance adds nothing."""
    values: NDArray[np.float64] = t.ppf((np.arange(RESAMPLES) + 0.5) / RESAMPLES, degrees)
    return values


def difference(of: Effect, minus: Effect) -> Effect:
    """Of the seeds that both have, seed by seed, and image by image if both have images; NaN without any such seed."""
    places = [(of.seeds.index(it), minus.seeds.index(it)) for it in of.seeds if it in minus.seeds]
    values = tuple(of.values[i] - minus.values[j] for i, j in places)
    images: tuple[tuple[float, ...], ...] = ()
    if of.images and minus.images:
        images = tuple(tuple(a - b for a, b in zip(of.images[i], minus.images[j], strict=True)) for i, j in places)
    seeds = tuple(of.seeds[i] for i, _ in places)
    return Effect(values or (math.nan,), of.unit, of.stochastic or minus.stochastic, images, seeds)


def scaled(effect: Effect, factor: float) -> Effect:
    """All of its values times `factor`."""
    images = tuple(tuple(factor * value for value in one) for one in effect.images)
    return replace(effect, values=tuple(factor * value for value in effect.values), images=images)


def ratio(of: Sequence[float], to: Sequence[float]) -> Effect:
    """Seed by seed."""
    return Effect(tuple(a / b for a, b in zip(of, to, strict=True)), "x")


def holm(p_values: Mapping[str, float], of: int) -> dict[str, float]:
    """Adjusted so that, at any level, the chance of one false rejection among all is at most that level (Holm 1979).

    Args:
        p_values: by name.
        of: how many tests there are in all. Those without a p-value yet count as if they had the highest, so that no
            adjusted p-value rises when they get theirs.
    """
    adjusted: dict[str, float] = {}
    largest = 0.0
    for place, name in enumerate(sorted(p_values, key=lambda it: p_values[it])):
        largest = max(largest, min(1.0, (of - place) * p_values[name]))
        adjusted[name] = largest
    return adjusted


POWER = 0.8
MOST_SEEDS = 1000


def seeds_needed(deviation: float, distance: float, image_error: float = 0.0) -> int | None:
    """How many seeds detect a mean `distance` from the null with a power of 80 %, two-sided, as `Effect.p_value` tests.

    Args:
        deviation: standard deviation between seeds.
        distance: of the true mean from the null, above 0.
        image_error: what the images add to the standard error, which no seed reduces.

    Returns:
        None if `MOST_SEEDS` do not.
    """
    for seeds in range(2, MOST_SEEDS + 1):
        critical = float(t.ppf((1 + CONFIDENCE) / 2, seeds - 1))
        error = math.hypot(deviation / seeds**0.5, image_error)
        if error == 0 or float(nct.sf(critical, seeds - 1, distance / error)) >= POWER:
            return seeds
    return None


def mean_of(values: Sequence[float]) -> float:
    """The mean; NaN of nothing, as if every run failed."""
    return statistics.fmean(values) if values else math.nan


def short(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1 else f"{value:.2f}" if abs(value) < 100 else f"{value:,.0f}"
