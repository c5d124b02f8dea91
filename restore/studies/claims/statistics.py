"""Claims about the statistics that batch norm keeps: what they lose, and how well they hold."""

import statistics
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from restore.models import NORMS
from restore.studies.budget import Budget
from restore.studies.claim import Measurement, Study, claim
from restore.studies.curves import learning_curves
from restore.studies.figures import Bars, Curves
from restore.studies.judgement import Finding, all_of, difference, is_above, ratio
from restore.studies.measurements import CONTRASTS

MOMENTA = (0.1, 0.9, 0.95)


@claim(5, "Batch norm loses the scale of an image")
def scale_is_lost(budget: Budget) -> Study:
    """Lim et al. 2017, section 3.1: norm layers "get rid of range flexibility from networks by normalizing the
    features". Denoising and super-resolution should answer a brighter image with a brighter result.

    The error of equivariance, |f(a x) - a f(x)| / |a f(x)|, at half contrast. Supported if it is larger with batch norm
    than without in DnCNN and in EDSR; refuted if smaller in one.
    """
    tasks = {"DnCNN": budget.denoising, "EDSR": budget.super_resolution}
    runs = yield {
        (name, norm): Measurement(experiment.with_network(norm=norm), "contrast")
        for name, experiment in tasks.items()
        for norm in NORMS
    }
    half = {key: [one["error"]["0.5"] for one in found if one is not None] for key, found in runs.items()}
    effects = {name: ratio(half[name, "batch"], half[name, "none"]) for name in tasks}
    return Finding(
        all_of(*(is_above(effect, 1) for effect in effects.values())),
        effects["DnCNN"],
        "At half contrast the error of equivariance with batch norm is "
        + " and ".join(f"{effect} that without in {name}" for name, effect in effects.items())
        + ".",
        [
            Curves(
                f"{title}, {name}", "contrast a", label,
                {
                    norm: [(a, [one[key][str(a)] for one in runs[name, norm] if one is not None]) for a in shown]
                    for norm in NORMS
                },
                log_x=True, log_y=key == "error",
            )
            for name in tasks
            for title, label, key, shown in (
                ("Error of equivariance", "|f(a x) - a f(x)| / |a f(x)|", "error", [a for a in CONTRASTS if a != 1]),
                ("PSNR of images of other contrast", "dB", "psnr", list(CONTRASTS)),
            )
        ],
        [
            {
                "network": name,
                "norm": norm,
                **{f"error at {a:g}": f"{_mean(found, 'error', str(a)):.4f}" for a in CONTRASTS if a != 1},
                "error, brighter by 0.2": f"{statistics.fmean(one['shift_error'] for one in found if one):.4f}",
            }
            for (name, norm), found in runs.items()
        ],
    )  # fmt: skip


@claim(10, "Running statistics of momentum 0.95 make PSNR drop; exact ones win it back")
def population_statistics(budget: Budget) -> Study:
    """Released DnCNN codes use momentum 0.95 and 0.9 in PyTorch's convention (the weight of the NEW batch), where
    0.1 is usual; their users report spots and drops of PSNR.

    DnCNN with each momentum, as trained and after its population statistics are computed exactly over training batches.
    Supported if with 0.95 exact statistics win back more than 0.1 dB; refuted if less. Recalibration on other data
    (sigma 50, text, microscopy) shows what it does under a shift of domain.
    """
    experiments = {momentum: budget.denoising.with_network(bn_momentum=momentum) for momentum in MOMENTA}
    runs = yield {
        **{("run", momentum): experiment for momentum, experiment in experiments.items()},
        **{
            ("exact", momentum): Measurement(experiment, "recalibrated") for momentum, experiment in experiments.items()
        },
    }
    exact = {momentum: runs["exact", momentum] for momentum in MOMENTA}
    won = {momentum: _won_back(exact[momentum], "training") for momentum in MOMENTA}
    drop = {m: statistics.fmean(_largest_drop(run.psnr) for run in runs["run", m]) for m in MOMENTA}
    domains = list(exact[0.1][0])
    effect = won[0.95]
    return Finding(
        is_above(effect, 0.1),
        effect,
        f"Exact statistics change final PSNR by {effect} at momentum 0.95 and by {won[0.1]} at 0.1; during training "
        f"PSNR drops by up to {drop[0.95]:.2f} dB between evaluations at 0.95, {drop[0.1]:.2f} dB at 0.1.",
        [
            learning_curves("PSNR by running statistics", {f"momentum {m:g}": runs["run", m] for m in MOMENTA}),
            Bars(
                "Recalibrating on other data (momentum 0.1)", "PSNR (dB)",
                {
                    domain: {way: [one[domain][way] for one in exact[0.1]] for way in ("as trained", "recalibrated")}
                    for domain in domains
                },
            ),
        ],
        [
            {"data": domain, **{f"momentum {m:g}": str(_won_back(exact[m], domain)) for m in MOMENTA}}
            for domain in domains
        ],
    )  # fmt: skip


def _won_back(found: Sequence[Any], domain: str) -> Any:
    by = [one[domain] for one in found]
    return difference([one["recalibrated"] for one in by], [one["as trained"] for one in by], "dB")


def _largest_drop(psnrs: Sequence[float]) -> float:
    return max((max(0.0, before - after) for before, after in pairwise(psnrs)), default=0.0)


def _mean(found: Sequence[Any], quantity: str, contrast: str) -> float:
    return statistics.fmean(one[quantity][contrast] for one in found if one is not None)
