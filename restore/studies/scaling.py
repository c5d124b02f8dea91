"""A trend of batch norm's effect over size and length, tested on a round that it has not seen."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t

from restore.studies.effects import CONFIDENCE

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Observation:
    """The effect (dB) in one seed, of a network of `depth` and `features` after `length` steps and their decay."""

    depth: int
    features: int
    length: int
    effect: float


@dataclass(frozen=True)
class Trend:
    """effect = a + b log2(steps) + c log2(features) + d log2(depth), by least squares.

    Attributes:
        coefficients: a (at the reference of one step, feature and layer), b, c, d.
        held_out_length: the round that the fit has not seen.
        observed: mean effect (dB) of the deciding size in that round.
        predicted: 95 % interval that the fit gave for it.
        beyond: the length asked for.
        extrapolated: the fit's 95 % interval for the deciding size there, from all rounds.
    """

    coefficients: tuple[float, float, float, float]
    held_out_length: int
    observed: float
    predicted: tuple[float, float]
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
            f"Fitted to all rounds but the longest ({self.held_out_length} steps), effect = a + b log2(steps) + c "
            f"log2(features) + d log2(depth) predicts [{low:+.3f}, {high:+.3f}] dB for DnCNN-17x64 in that round; "
            f"observed is {self.observed:+.3f} dB, {'inside' if self.holds else 'outside'}."
        )
        low, high = self.extrapolated
        if not self.holds:
            return f"{tested} So it cannot say anything of {self.beyond} steps."
        says = "more" if low > 0 else "less" if high < 0 else None
        meaning = f"{says} with batch norm" if says else "it cannot say which is ahead"
        return (
            f"{tested} For {self.beyond} steps of these batches it gives [{low:+.2f}, {high:+.2f}] dB: "
            f"{meaning}. The papers' "
            "batches are four times as large, which no round here has tried."
        )

    @property
    def summary(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "coefficients": self.coefficients,
            "held_out_length": self.held_out_length,
            "observed": self.observed,
            "predicted": self.predicted,
            "holds": self.holds,
            "beyond": self.beyond,
            "extrapolated": self.extrapolated,
        }


def fit(observations: Sequence[Observation], held_out: tuple[int, int], beyond: int) -> Trend | None:
    """Fit the trend without the longest round of the deciding size, test it there, and extrapolate.

    Args:
        observations: of several sizes and lengths.
        held_out: depth and features of the deciding size.
        beyond: length to extrapolate to.

    Returns:
        None if the deciding size has fewer than three lengths, or too few sizes are there to fit.
    """
    deciding = [it for it in observations if (it.depth, it.features) == held_out]
    lengths = sorted({it.length for it in deciding})
    sizes = {(it.depth, it.features) for it in observations}
    if len(lengths) < 3 or len(sizes) < 4:
        return None
    longest = lengths[-1]
    seen = [it for it in observations if it.length < longest]
    observed = [it.effect for it in deciding if it.length == longest]
    _, predicted = _predict(seen, Observation(*held_out, longest, 0.0), mean_of=len(observed))
    coefficients, extrapolated = _predict(observations, Observation(*held_out, beyond, 0.0), mean_of=len(observed))
    a, b, c, d = coefficients.tolist()
    return Trend((a, b, c, d), longest, sum(observed) / len(observed), predicted, beyond, extrapolated)


def _predict(observations: Sequence[Observation], at: Observation, mean_of: int) -> tuple[Matrix, tuple[float, float]]:
    """Coefficients, and the 95 % interval of the mean of `mean_of` new observations."""
    design = np.array([_row(it) for it in observations])
    effects = np.array([it.effect for it in observations])
    coefficients: Matrix = np.linalg.lstsq(design, effects, rcond=None)[0]
    freedom = len(effects) - design.shape[1]
    variance = float(((effects - design @ coefficients) ** 2).sum()) / freedom
    row = np.array(_row(at))
    spread = float(row @ np.linalg.pinv(design.T @ design) @ row)
    half = float(t.ppf((1 + CONFIDENCE) / 2, freedom)) * math.sqrt(variance * (spread + 1 / mean_of))
    center = float(row @ coefficients)
    return coefficients, (center - half, center + half)


def _row(it: Observation) -> list[float]:
    return [1.0, math.log2(it.length), math.log2(it.features), math.log2(it.depth)]
