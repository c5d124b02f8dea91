"""A trend of batch norm's effect over size and length, tested on a round that it has not seen."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t

from restore.studies.effects import CONFIDENCE

LENGTHS = 4  # of the deciding size: three to fit, so that a bend can be seen, and one to test
DOUBLINGS = 2  # of the longest round's steps: so far a line is trusted, and no further

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Observation:
    """The effect (dB) in one seed, of a network of `depth` and `features` after `steps`, decay included."""

    depth: int
    features: int
    steps: int
    effect: float


@dataclass(frozen=True)
class Trend:
    """effect = a + b log2(steps) + c log2(features) + d log2(depth), by least squares.

    Each round of a size is one point, the mean over its seeds: what the plane misses, all seeds of a round share.

    Attributes:
        coefficients: a (at the reference of one step, feature and layer), b, c, d.
        held_out_steps: of the round that the fit has not seen.
        observed: mean effect (dB) of the deciding size in that round.
        predicted: 95 % interval that the fit gave for it.
        asked: the steps asked for.
        beyond: these, or the double of the longest round's if they are too far.
        extrapolated: the fit's 95 % interval for the deciding size there, from all rounds.
    """

    coefficients: tuple[float, float, float, float]
    held_out_steps: int
    observed: float
    predicted: tuple[float, float]
    asked: int
    beyond: int
    extrapolated: tuple[float, float]

    @property
    def holds(self) -> bool:
        """Whether the held-out round lies within its interval."""
        return self.predicted[0] <= self.observed <= self.predicted[1]

    @property
    def sentence(self) -> str:
        """In plain words."""
        low, high = self.predicted
        tested = (
            f"Fitted to all rounds but the longest ({self.held_out_steps:,} steps), effect = a + b log2(steps) + c "
            f"log2(features) + d log2(depth) predicts [{low:+.3f}, {high:+.3f}] dB for DnCNN-17x64 in that round; "
            f"observed is {self.observed:+.3f} dB, {'inside' if self.holds else 'outside'}"
            + ("; no effect at all would be inside, too, so this is a weak test." if low <= 0 <= high else ".")
        )
        if not self.holds:
            return f"{tested} So it cannot say anything of longer runs."
        low, high = self.extrapolated
        says = "more" if low > 0 else "less" if high < 0 else None
        meaning = f"{says} with batch norm" if says else "it cannot say which is ahead"
        extrapolated = (
            f"{tested} For {self.beyond:,} steps it gives [{low:+.2f}, {high:+.2f}] dB on these images: {meaning}."
        )
        if self.beyond == self.asked:
            return f"{extrapolated} The paper's batches are four times as large, which no round here has tried."
        doublings = math.log2(self.asked / self.held_out_steps)
        return (
            f"{extrapolated} The paper's {self.asked:,} steps, of batches four times as large, are {doublings:.1f} "
            "doublings beyond the longest round: of them it cannot say anything."
        )

    @property
    def summary(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "coefficients": self.coefficients,
            "held_out_steps": self.held_out_steps,
            "observed": self.observed,
            "predicted": self.predicted,
            "holds": self.holds,
            "asked": self.asked,
            "beyond": self.beyond,
            "extrapolated": self.extrapolated,
        }


def fit(observations: Sequence[Observation], held_out: tuple[int, int], asked: int) -> Trend | None:
    """Fit the trend without the longest round of the deciding size, test it there, and extrapolate.

    Args:
        observations: of several sizes and lengths.
        held_out: depth and features of the deciding size.
        asked: steps to extrapolate to, if they are at most four times those of the longest round; otherwise it is the
            double of these.

    Returns:
        None if the deciding size has fewer than four lengths, or too few sizes or rounds are there to fit.
    """
    deciding = [it for it in observations if (it.depth, it.features) == held_out]
    lengths = sorted({it.steps for it in deciding})
    sizes = {(it.depth, it.features) for it in observations}
    if len(lengths) < LENGTHS or len(sizes) < 4:
        return None
    longest = lengths[-1]
    beyond = asked if asked <= longest * 2**DOUBLINGS else 2 * longest
    rounds = _means(observations)
    seen = [it for it in rounds if it.steps < longest]
    if len(seen) <= len(_row(seen[0])):
        return None
    (observed,) = (it.effect for it in rounds if (it.depth, it.features, it.steps) == (*held_out, longest))
    _, predicted = _predict(seen, Observation(*held_out, longest, 0.0))
    coefficients, extrapolated = _predict(rounds, Observation(*held_out, beyond, 0.0))
    a, b, c, d = coefficients.tolist()
    return Trend((a, b, c, d), longest, observed, predicted, asked, beyond, extrapolated)


def _means(observations: Sequence[Observation]) -> list[Observation]:
    """One for each size and length: the mean over seeds."""
    rounds: dict[tuple[int, int, int], list[float]] = {}
    for it in observations:
        rounds.setdefault((it.depth, it.features, it.steps), []).append(it.effect)
    return [Observation(*key, fmean(effects)) for key, effects in rounds.items()]


def _predict(rounds: Sequence[Observation], at: Observation) -> tuple[Matrix, tuple[float, float]]:
    """Coefficients, and the 95 % interval of a new round."""
    design = np.array([_row(it) for it in rounds])
    effects = np.array([it.effect for it in rounds])
    coefficients: Matrix = np.linalg.lstsq(design, effects, rcond=None)[0]
    freedom = len(effects) - design.shape[1]
    variance = float(((effects - design @ coefficients) ** 2).sum()) / freedom
    row = np.array(_row(at))
    spread = float(row @ np.linalg.pinv(design.T @ design) @ row)
    half = float(t.ppf((1 + CONFIDENCE) / 2, freedom)) * math.sqrt(variance * (spread + 1))
    center = float(row @ coefficients)
    return coefficients, (center - half, center + half)


def _row(it: Observation) -> list[float]:
    return [1.0, math.log2(it.steps), math.log2(it.features), math.log2(it.depth)]
