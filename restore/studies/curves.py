"""Reading records: how well runs end, whether an arm was trained at all, when it reaches a PSNR."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

from restore.studies.criteria import VOID_DB
from restore.studies.effects import Effect, difference, scaled
from restore.studies.experiment import Record, steps_of
from restore.studies.figures import Curves

SHOWN_DB = 8.0  # below the best end of a curve that a plot shows


def psnr(runs: Sequence[Record]) -> Effect:
    """PSNR (dB) on the test set that decides, of the runs that did not fail."""
    return of_images([_images(run) if run.psnr else None for run in runs])


def gain(of: Sequence[Record], minus: Sequence[Record]) -> Effect:
    """Difference in PSNR (dB), seed by seed and image by image, of the seeds in which no run failed."""
    return difference(psnr(of), psnr(minus))


def lenient_psnr(runs: Sequence[Record]) -> Effect:
    """PSNR (dB), a run that failed counted as its input: it restored nothing. Without images if a run failed."""
    if all(run.psnr for run in runs):
        return psnr(runs)
    return Effect(tuple(statistics.fmean(_images(run)) if run.psnr else input_psnr([run]) for run in runs), "dB")


def input_psnr(runs: Sequence[Record]) -> float:
    """Mean PSNR (dB) of the degraded images on the test set that decides."""
    return next(iter(runs[0].input_psnr.values()))


def of_images(scores: Sequence[Sequence[float] | None]) -> Effect:
    """PSNR (dB) from the scores of images: a list for each seed, or None if its run failed."""
    images = {seed: tuple(one) for seed, one in enumerate(scores) if one is not None}
    means = tuple(statistics.fmean(one) for one in images.values())
    return Effect(means or (math.nan,), "dB", images=tuple(images.values()), seeds=tuple(images))


def below(runs: Iterable[Sequence[Record]], distance: float) -> float | None:
    """Where bars begin, some dB below the worst run that did not fail; None if all failed."""
    values = [value for found in runs for value in psnr(found).values if math.isfinite(value)]
    return min(values) - distance if values else None


def change_if_shorter(shorter: Sequence[Record], runs: Sequence[Record], share: float) -> Effect:
    """What the PSNR (dB) of `runs` would change by if they took `share` of their steps.

    On a straight line over the logarithm of the steps, from `runs` to `shorter`, which are the same runs with fewer.
    """
    return scaled(gain(shorter, runs), math.log(share) / math.log(shorter[0].steps / runs[0].steps))


def _images(run: Record) -> list[float]:
    return next(iter(run.psnr.values()))


def void(**arms: Sequence[Record]) -> str:
    """Why a comparison of arms says nothing: one was never trained, or most of its runs failed. Empty if it does."""
    for name, runs in arms.items():
        failed = sum(not run.psnr for run in runs)
        if failed > len(runs) / 2:
            return f"{failed} of {len(runs)} runs of {name} failed"
        above = statistics.fmean(_above_input(run) for run in runs if run.psnr)
        if above < VOID_DB:
            return f"{name} ends {above:.2f} dB above its input"
    return ""


def failures(runs: Sequence[Record]) -> str:
    """How many runs failed, and how many others end less than 1 dB above their input."""
    low = sum(map(_has_collapsed, runs))
    return f"{sum(not run.psnr for run in runs)} of {len(runs)}" + (f", {low} not 1 dB above the input" if low else "")


def diverged(runs: Sequence[Record]) -> str:
    """How many of the runs failed, in words; none if none did, or all."""
    failed = sum(not run.psnr for run in runs)
    return f"{failed} of {len(runs)} diverged" if 0 < failed < len(runs) else ""


def collapsed_as_failed(runs: Sequence[Record]) -> list[Record]:
    """The runs, those that end less than 1 dB above their input like those whose loss was not finite: unscored."""
    return [replace(run, psnr={}) if _has_collapsed(run) else run for run in runs]


def _has_collapsed(run: Record) -> bool:
    return bool(run.psnr) and _above_input(run) < VOID_DB


def _above_input(run: Record) -> float:
    return statistics.fmean(_images(run)) - input_psnr([run])


def steps_to(target: float, by_length: Mapping[int, Sequence[Record]]) -> list[float | None]:
    """For each seed, after how many steps (decay included) its runs reach a PSNR (dB).

    Each length is a whole run. Between the two that surround the target: a straight line over the logarithm of the
    steps. None if the shortest run is above it already, see `reached_before`, or the longest below.
    """
    seeds = range(len(next(iter(by_length.values()))))
    reached: list[float | None] = []
    for seed in seeds:
        points = [
            (float(records[seed].steps), statistics.fmean(_images(records[seed])))
            for _, records in sorted(by_length.items())
            if records[seed].psnr
        ]
        reached.append(_crossing(points, target))
    return reached


def reached_before(target: float, by_length: Mapping[int, Sequence[Record]]) -> int:
    """In how many seeds the shortest run is above a PSNR (dB) already."""
    shortest = by_length[min(by_length)]
    return sum(bool(run.psnr) and statistics.fmean(_images(run)) >= target for run in shortest)


def _crossing(points: Sequence[tuple[float, float]], target: float) -> float | None:
    for (before, low), (after, high) in pairwise(points):
        if low < target <= high:
            share = (target - low) / (high - low)
            return math.exp(math.log(before) + share * (math.log(after) - math.log(before)))
    return None


def ends(title: str, runs: Mapping[str, Mapping[int, Sequence[Record]]]) -> Curves:
    """PSNR at the ends of runs over their steps, decay included; a line for each entry."""
    lines = {
        name: [
            (steps_of(length), [statistics.fmean(_images(run)) for run in records if run.psnr])
            for length, records in sorted(by_length.items())
        ]
        for name, by_length in runs.items()
    }
    values = [value for points in lines.values() for _, ys in points for value in ys]
    top, lowest = max(values, default=0.0), min(values, default=0.0)
    return Curves(title, "steps", "PSNR (dB)", lines, log_x=True, y_from=max(top - SHOWN_DB, lowest - 0.2))
