"""Claims about batch norm in super-resolution: EDSR's side of the dispute."""

import statistics
from collections.abc import Sequence
from dataclasses import replace
from functools import cache

from restore.models import NORMS, NetworkSpec, build
from restore.profiling import Step, forecast, largest
from restore.studies.budget import Budget
from restore.studies.claim import Measurement, Records, Study, claim
from restore.studies.curves import final, final_ssim, learning_curves
from restore.studies.experiment import Experiment, Record
from restore.studies.figures import HeatMap
from restore.studies.judgement import Finding, all_of, difference, is_above, ratio
from restore.studies.measurements import before_and_after

SHORTER = 0.6  # a second, shorter run with batch norm; between the two lies the one of equal time
RES_SCALES = (1.0, 0.3, 0.1)
RATES = (3e-4, 1e-3, 3e-3)
UNSTABLE_DB = 1.0  # below the best run of its width and learning rate
ADDED = 0.05  # dB


@claim(4, "Without batch norm EDSR ends higher: at equal steps, at equal time and at equal memory")
def better_without(budget: Budget) -> Study:
    """Lim et al. 2017, section 3.1: removing batch norm improves quality, and its memory buys a larger network.

    EDSR x2 with and without, at equal steps; at equal processor time (batch norm between its run and one of 60 % of the
    steps, interpolated); at equal memory (without norm, as many features as fit into the memory that the
    step with batch norm is forecast to take). Supported if it ends higher in all three, and in SSIM at equal steps;
    refuted if lower in one.
    """
    with_norm = budget.super_resolution.with_network(norm="batch")
    features = _features_of_equal_memory(budget)
    trained = {
        "batch": with_norm,
        "none": budget.super_resolution,
        "shorter": replace(with_norm, steps=round(SHORTER * with_norm.steps)),
        "larger": budget.super_resolution.with_network(features=features),
    }
    samples = {("sample", name): Measurement(trained[name], "sample") for name in ("batch", "none", "larger")}
    runs = yield {**trained, **samples}
    psnr = {name: final(runs[name]) for name in trained}
    time = ratio([run.step_s for run in runs["none"]], [run.step_s for run in runs["batch"]])
    at_equal_time = [
        _between(short, full, (share - SHORTER) / (1 - SHORTER))
        for short, full, share in zip(psnr["shorter"], psnr["batch"], time.values, strict=True)
    ]
    effects = {
        "steps": difference(psnr["none"], psnr["batch"], "dB"),
        "time": difference(psnr["none"], at_equal_time, "dB"),
        "memory": difference(psnr["larger"], psnr["batch"], "dB"),
        "SSIM": difference(final_ssim(runs["none"]), final_ssim(runs["batch"]), ""),
    }
    return Finding(
        all_of(*(is_above(effect, 0) for effect in effects.values())),
        effects["steps"],
        f"Without batch norm, {effects['steps']} at equal steps (SSIM {effects['SSIM']}), {effects['time']} at equal "
        f"time (a step takes {time} the time), {effects['memory']} at equal memory ({features} instead of "
        f"{budget.sr_features} features).",
        [
            learning_curves(
                "Super-resolution x2",
                {
                    "batch norm": runs["batch"],
                    "no norm": runs["none"],
                    f"no norm, {features} features": runs["larger"],
                    "batch norm, shorter": runs["shorter"],
                },
            ),
            *before_and_after(
                "Part of a test image, seed 0",
                "low resolution",
                {
                    "batch norm": runs["sample", "batch"],
                    "no norm": runs["sample", "none"],
                    f"no norm, {features} features": runs["sample", "larger"],
                },
            ),
        ],
        [{"compared at equal": name, "none less batch": str(effect)} for name, effect in effects.items()],
    )


@claim(13, "Residual scaling by 0.1 keeps wide EDSR stable")
def residual_scaling(budget: Budget) -> Study:
    """Lim et al. 2017, section 3.3: beyond some width training becomes numerically unstable; residuals times 0.1
    solve it.

    A narrow and a wide EDSR over residual scale and learning rate. A run is unstable if it diverges, has a spike (a
    loss three times the median of the 20 steps before), or ends 1 dB below the best of its width, learning
    rate and seed. Supported if more of the wide runs are unstable at scale 1 than at 0.1; refuted if fewer.
    """
    widths = {"narrow": budget.wide.with_network(features=budget.sr_features), "wide": budget.wide}
    runs: Records = yield {
        (width, scale, rate): experiment.with_network(res_scale=scale).with_optim(lr=rate)
        for width, experiment in widths.items()
        for scale in RES_SCALES
        for rate in RATES
    }
    unstable = {
        (width, scale): _unstable(
            [(runs[width, scale, rate], [runs[width, other, rate] for other in RES_SCALES]) for rate in RATES]
        )
        for width in widths
        for scale in RES_SCALES
    }
    effect = difference(unstable["wide", 1.0], unstable["wide", 0.1], f"of {len(RATES)} learning rates")
    return Finding(
        is_above(effect, 0),
        effect,
        f"Of {len(RATES)} learning rates, unstable in the wide network: "
        + ", ".join(f"{statistics.fmean(unstable['wide', s]):.1f} at residual scale {s:g}" for s in RES_SCALES)
        + "; in the narrow one: "
        + ", ".join(f"{statistics.fmean(unstable['narrow', s]):.1f} at {s:g}" for s in RES_SCALES)
        + ".",
        [
            HeatMap(
                f"Final PSNR (dB), {width} EDSR ({experiment.network.arguments['features']} features)",
                "learning rate",
                "residual scale",
                [f"{scale:g}" for scale in RES_SCALES],
                [f"{rate:g}" for rate in RATES],
                [[statistics.fmean(final(runs[width, scale, rate])) for rate in RATES] for scale in RES_SCALES],
                low=20,
            )
            for width, experiment in widths.items()
        ],
        [
            {
                "width": width,
                "residual scale": f"{scale:g}",
                "learning rate": f"{rate:g}",
                "PSNR (dB)": str(difference(final(found), [0.0] * len(found), "dB")),
                "spikes": float(statistics.fmean(run.spikes for run in found)),
                "diverged": f"{sum(run.diverged_at is not None for run in found)} of {len(found)}",
            }
            for (width, scale, rate), found in runs.items()
        ],
    )


@claim(14, "Weight norm replaces batch norm in super-resolution")
def weight_norm_replaces_batch_norm(budget: Budget) -> Study:
    """Yu et al. 2018 (WDSR), section 3.3 and figure 3: with weight norm training is faster and ends higher than
    with batch norm or with none.

    EDSR with every norm; WDSR-A and WDSR-B with weight, batch and no norm. Supported if in WDSR-B weight norm ends
    above both others; refuted if below one.
    """
    size = {"blocks": budget.blocks, "features": budget.sr_features, "scale": 2}
    wide = {
        name: replace(budget.super_resolution, network=NetworkSpec(kind, size))
        for name, kind in (("WDSR-A", "WDSRA"), ("WDSR-B", "WDSRB"))
    }
    runs: Records = yield {
        **{("EDSR", norm): budget.super_resolution.with_network(norm=norm) for norm in NORMS},
        **{
            (name, norm): experiment.with_network(norm=norm)
            for name, experiment in wide.items()
            for norm in ("weight", "batch", "none")
        },
    }
    effects = {
        other: difference(final(runs["WDSR-B", "weight"]), final(runs["WDSR-B", other]), "dB")
        for other in ("batch", "none")
    }
    return Finding(
        all_of(*(is_above(effect, 0) for effect in effects.values())),
        effects["batch"],
        f"In WDSR-B, weight norm ends {effects['batch']} relative to batch norm and {effects['none']} to no norm.",
        [
            learning_curves("EDSR x2 with every norm", {norm: runs["EDSR", norm] for norm in NORMS}),
            learning_curves(
                "WDSR x2", {f"{name}, {norm}": found for (name, norm), found in runs.items() if name in wide}
            ),
        ],
        [
            {
                "network": name,
                "norm": norm,
                "PSNR (dB)": str(difference(final(found), [0.0] * len(found), "dB")),
                "a step (s)": f"{statistics.fmean(run.step_s for run in found):.3f}",
            }
            for (name, norm), found in runs.items()
        ],
    )


@claim(17, "Freezing the statistics late in training removes batch norm's harm in super-resolution")
def frozen_statistics(budget: Budget) -> Study:
    """Wang et al. 2022 (RepSR), section 3: artefacts of batch norm come from the difference of training and inference;
    population statistics in the last part of training remove it.

    EDSR with batch norm, with its statistics frozen after half of the run, and without norm. Supported if freezing ends
    above batch norm, and no more than 0.05 dB below no norm; refuted if one fails.
    """
    base = budget.super_resolution
    runs: Records = yield {
        "batch norm": base.with_network(norm="batch"),
        "batch norm, frozen at half": replace(base.with_network(norm="batch"), freeze_after=0.5),
        "no norm": base,
    }
    frozen = final(runs["batch norm, frozen at half"])
    gain = difference(frozen, final(runs["batch norm"]), "dB")
    left = difference(frozen, final(runs["no norm"]), "dB")
    return Finding(
        all_of(is_above(gain, 0), is_above(left, -ADDED)),
        gain,
        f"Freezing changes batch norm's final PSNR by {gain}; it then ends {left} relative to no norm.",
        [learning_curves("EDSR x2", runs)],
    )


@cache
def _features_of_equal_memory(budget: Budget) -> int:
    """The most features without norm whose step needs no more memory than the one with batch norm (forecast)."""
    memory = forecast(_step(budget.super_resolution.with_network(norm="batch"))).memory
    assert memory is not None
    return largest(_step(budget.super_resolution), "features", memory.peak)


def _step(experiment: Experiment) -> Step:
    network = build(experiment.network).spec
    return Step(network, experiment.batch_size, experiment.patch_size, experiment.optim.loss)


def _between(low: float, high: float, share: float) -> float:
    return low + share * (high - low)


def _unstable(by_rate: Sequence[tuple[Sequence[Record], Sequence[Sequence[Record]]]]) -> list[float]:
    """Of each seed, how many learning rates are unstable; each is given with all residual scales at that rate."""
    seeds = range(len(by_rate[0][0]))
    return [float(sum(_is_unstable(found, rivals, seed) for found, rivals in by_rate)) for seed in seeds]


def _is_unstable(found: Sequence[Record], rivals: Sequence[Sequence[Record]], seed: int) -> bool:
    best = max(final(rival)[seed] for rival in rivals)
    return found[seed].spikes > 0 or final(found)[seed] < best - UNSTABLE_DB
