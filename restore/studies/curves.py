"""Reading learning curves: where they end, when they reach a PSNR, which settings are best."""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import TypeVar

from restore.studies.experiment import Record
from restore.studies.figures import Curves

Setting = TypeVar("Setting")
SHOWN_DB = 8.0  # below the best end of a curve that a plot shows


def final(runs: Sequence[Record]) -> list[float]:
    """PSNR (dB) at the end, one for each seed; 0 where a run diverged."""
    return [run.psnr[-1] for run in runs]


def mean_final(runs: Sequence[Record]) -> float:
    """PSNR (dB) at the end, mean over seeds; NaN where one diverged."""
    return statistics.fmean(math.nan if run.diverged_at is not None else run.psnr[-1] for run in runs)


def final_ssim(runs: Sequence[Record]) -> list[float]:
    """SSIM at the end, one for each seed."""
    return [run.ssim[-1] for run in runs]


def reached(runs: Sequence[Record], targets: Sequence[float]) -> list[float]:
    """Steps until a run first reaches its target PSNR, between evaluations on a straight line.

    Where it never does, the whole run's steps count, which favours it.
    """
    steps = []
    for run, target in zip(runs, targets, strict=True):
        before: tuple[int, float] | None = None
        for step, psnr in zip(run.steps, run.psnr, strict=True):
            if psnr >= target:
                share = 1.0 if before is None else (target - before[1]) / (psnr - before[1])
                start = 0 if before is None else before[0]
                steps.append(start + share * (step - start))
                break
            before = step, psnr
        else:
            steps.append(float(run.steps[-1]))
    return steps


def best_of(runs: Mapping[Setting, Sequence[Record]]) -> Setting:
    """The setting whose runs end highest in the mean over seeds."""
    return max(runs, key=lambda setting: statistics.fmean(final(runs[setting])))


def learning_curves(title: str, runs: Mapping[str, Sequence[Record]]) -> Curves:
    """PSNR over steps, one line for each entry."""
    top = max(statistics.fmean(final(found)) for found in runs.values())
    lines = {
        name: [
            (step, [run.psnr[i] for run in found if i < len(run.psnr) and run.psnr[i] > 0])
            for i, step in enumerate(max(found, key=lambda run: len(run.steps)).steps)
        ]
        for name, found in runs.items()
    }
    lowest = min((psnr for points in lines.values() for _, psnrs in points for psnr in psnrs), default=0.0)
    return Curves(title, "steps", "PSNR of the test crops (dB)", lines, y_from=max(top - SHOWN_DB, lowest - 0.2))
