"""Claims about the statistics that batch norm keeps: what they lose, and how well they hold."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from restore.studies.arms import TWINS, tuned
from restore.studies.budget import Budget
from restore.studies.claim import Study, claim, part
from restore.studies.curves import of_images, void
from restore.studies.effects import Effect, difference, mean_of
from restore.studies.experiment import Record
from restore.studies.figures import Bars, Curves
from restore.studies.judgement import Finding
from restore.studies.measurements import CONTRASTS
from restore.studies.requests import Measurement

MOMENTA = (0.1, 0.9, 0.95)
HALF = "0.5"  # contrast


@claim(5, "Batch norm loses the scale of an image")
def scale_is_lost(budget: Budget) -> Study:
    """Lim et al. 2017, section 3.1: norm layers "get rid of range flexibility from networks by normalizing the
    features". Denoising and super-resolution should answer an image of half the contrast with a result of half the
    contrast.

    The whole input is multiplied, its noise included, so that the task stays the same: f(a x) / a is scored against the
    clean image. What is lost from contrast 1 to 0.5 is compared.
    """
    tasks = {"DnCNN": budget.denoising, "EDSR": budget.edsr}
    best = yield from tuned(budget, {(name, norm): make(norm=norm) for name, make in tasks.items() for norm in TWINS})
    measured = {("measured", *key): Measurement(experiment, "contrast") for key, experiment in best.items()}
    runs = yield {**best, **measured}
    lost = {}
    for key in best:
        at = {c: of_images([one and one["psnr"][c] for one in runs["measured", *key]]) for c in ("1.0", HALF)}
        lost[key] = difference(at["1.0"], at[HALF])
    effects = {name: difference(lost[name, "batch"], lost[name, "none"]) for name in tasks}
    return Finding(
        [
            part(scale_is_lost, name, effects[name], void(**{norm: runs[name, norm] for norm in TWINS}))
            for name in tasks
        ],
        "At half contrast "
        + "; ".join(
            f"{name} loses {lost[name, 'batch']} with batch norm and {lost[name, 'none']} without" for name in tasks
        )
        + ".",
        [
            Curves(
                f"PSNR of f(a x) / a, {name}", "contrast a", "PSNR (dB)",
                {
                    norm: [
                        (a, [mean_of(one["psnr"][str(a)]) for one in runs["measured", name, norm] if one])
                        for a in CONTRASTS
                    ]
                    for norm in TWINS
                },
            )
            for name in tasks
        ],
        [
            {
                "network": name, "norm": norm,
                **{
                    f"error at {a:g}": f"{mean_of([one['error'][str(a)] for one in found if one]):.4f}"
                    for a in CONTRASTS if a != 1
                },
            }
            for name in tasks for norm in TWINS for found in [runs["measured", name, norm]]
        ],
    )  # fmt: skip


@claim(10, "Running statistics of momentum 0.95 cost PSNR in mid-training; exact ones win it back")
def population_statistics(budget: Budget) -> Study:
    """Released DnCNN codes use momentum 0.95 and 0.9 in PyTorch's convention (the weight of the NEW batch), where
    0.1 is usual; their users report spots and drops of PSNR during training.

    DnCNN with each momentum, looked at in mid-training, at the full learning rate, on whole validation images: with its
    running statistics, and with exact ones over 16 training batches. At the end of training, recalibration on other
    data (sigma 50, text, microscopy) shows what it does under a shift of domain.
    """
    best = yield from tuned(budget, {"batch": budget.denoising(norm="batch")})
    runs = yield {
        **{("run", m): best["batch"].with_network(bn_momentum=m).probing("population") for m in MOMENTA},
        ("moved",): Measurement(best["batch"], "recalibrated"),
    }
    won = {m: _won_back(runs["run", m], "psnr") for m in MOMENTA}
    moved = [one for one in runs["moved",] if one is not None]
    return Finding(
        [part(population_statistics, "momentum 0.95", won[0.95], void(batch=runs["run", 0.95]))],
        f"In mid-training exact statistics change PSNR by {won[0.95]} at momentum 0.95, {won[0.9]} at 0.9 and "
        f"{won[0.1]} at 0.1. What is lost at the usual 0.1 less what is lost at 0.95: "
        f"{difference(won[0.1], won[0.95])}. The largest drop of PSNR from one look to the next is "
        f"{_drops(runs['run', 0.95])} at 0.95 ({_drops(runs['run', 0.95], 'exact psnr')} with exact statistics) and "
        f"{_drops(runs['run', 0.1])} at 0.1.",
        [
            _in_mid_training(
                "Validation PSNR in mid-training", "psnr", {f"momentum {m:g}": runs["run", m] for m in MOMENTA}
            ),
            Bars(
                "Recalibrating a trained network on other data", "PSNR (dB)",
                {
                    domain: {
                        way: [statistics.fmean(one[domain][way]) for one in moved]
                        for way in ("as trained", "recalibrated")
                    }
                    for domain in (moved[0] if moved else ())
                },
            ),
        ],
        [
            {
                "data": domain,
                "recalibrated less as trained": str(
                    difference(
                        of_images([one[domain]["recalibrated"] for one in moved]),
                        of_images([one[domain]["as trained"] for one in moved]),
                    )
                ),
            }
            for domain in (moved[0] if moved else ())
        ],
    )  # fmt: skip


@claim(20, "In mid-training, batch norm's running statistics make PSNR drop and spots appear")
def spots_in_mid_training(budget: Budget) -> Study:
    """Reported for many codes (cszn/DnCNN, issue 76; xinntao/ESRGAN, issue 70), who then restore in training mode;
    RepSR (Wang et al. 2022) calls them artifacts of batch norm.

    At PyTorch's usual momentum, on whole validation images at the full learning rate: PSNR and the PSNR of the worst
    block of 16x16 pixels, with running statistics and with exact ones; the same of no norm. At the end of training, the
    worst block of test images: batch norm, frozen in the decay, and no norm.
    """
    best = yield from tuned(budget, {norm: budget.denoising(norm=norm) for norm in TWINS})
    frozen = replace(best["batch"], freeze_in_decay=True)
    ends = {"batch norm": best["batch"], "frozen in the decay": frozen, "no norm": best["none"]}
    runs = yield {
        **{norm: best[norm].probing("population") for norm in TWINS},
        **{("blocks", name): Measurement(experiment, "blocks") for name, experiment in ends.items()},
    }
    won = {what: _won_back(runs["batch"], what) for what in ("psnr", "worst block")}
    names = {"psnr": "PSNR", "worst block": "worst block"}
    blocks = {name: of_images(runs["blocks", name]) for name in ends}
    return Finding(
        [part(spots_in_mid_training, names[what], won[what], void(batch=runs["batch"])) for what in won],
        f"In mid-training exact statistics change PSNR by {won['psnr']} and that of the worst block by "
        f"{won['worst block']}; spots would make the second larger, by what is "
        f"{difference(won['worst block'], won['psnr'])} here. The largest drop of PSNR from one look to the next is "
        f"{_drops(runs['batch'])} with batch norm ({_drops(runs['batch'], 'exact psnr')} with exact statistics), and "
        f"{_drops(runs['none'])} without. "
        f"With the statistics frozen at the beginning of the decay, the worst block of test images ends "
        f"{difference(blocks['frozen in the decay'], blocks['batch norm'])} relative to batch norm.",
        [
            _in_mid_training(f"{title} in mid-training", what, {norm: runs[norm] for norm in TWINS})
            for what, title in (("psnr", "Validation PSNR"), ("worst block", "Worst block's PSNR"))
        ],
        [
            {
                "at the end of training": name,
                "worst block (dB)": str(blocks[name]),
            }
            for name in ends
        ],
    )


def _in_mid_training(title: str, what: str, runs: dict[str, Sequence[Record]]) -> Curves:
    """With running statistics, and with exact ones."""
    lines = {}
    for name, found in runs.items():
        for prefix, note in (("", ""), ("exact ", ", exact")):
            looks = [run.probed["population"] for run in found]
            count = min(map(len, looks), default=0)
            lines[f"{name}{note}"] = [
                (looks[0][i]["step"], [look[i][prefix + what] for look in looks]) for i in range(count)
            ]
    return Curves(title, "steps", "PSNR (dB)", lines)


def _won_back(runs: Sequence[Record], what: str) -> Effect:
    """What exact statistics win over running ones, mean over the second half of the stable part; one value a seed."""
    won = {}
    for seed, run in enumerate(runs):
        looks: list[dict[str, Any]] = run.probed["population"] if run.psnr else []
        if late := looks[len(looks) // 2 :]:
            won[seed] = statistics.fmean(look[f"exact {what}"] - look[what] for look in late)
    return Effect(tuple(won.values()) or (float("nan"),), "dB", seeds=tuple(won))


def _drops(runs: Sequence[Record], what: str = "psnr") -> str:
    """The largest drop (dB) of each run from one look to the next, in words."""
    courses = [[look[what] for look in run.probed["population"]] for run in runs]
    largest = [max((max(0.0, before - after) for before, after in pairwise(one)), default=0.0) for one in courses]
    return f"{mean_of(largest):.2f} dB on average (at most {max(largest, default=math.nan):.2f})"
