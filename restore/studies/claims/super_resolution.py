"""Claims about batch norm in super-resolution: EDSR's side of the dispute."""

import statistics
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from restore.models import Norm
from restore.studies.arms import TWINS, timed, tuned, words
from restore.studies.budget import Budget
from restore.studies.claim import Study, claim, part
from restore.studies.curves import below, change_if_shorter, ends, failures, gain, lenient_psnr, psnr, void
from restore.studies.effects import Effect, difference
from restore.studies.experiment import Experiment, Record
from restore.studies.figures import Bars, HeatMap
from restore.studies.judgement import Finding
from restore.studies.measurements import before_and_after
from restore.studies.requests import Measurement
from restore.studies.step_memory import features_of_equal_memory, peak
from restore.studies.step_times import processor

SHORTER = 0.5  # of the first length: a second run of batch norm; between the two lies the one of equal time
RES_SCALES = (1.0, 0.1)
WIDE_RATES = (1e-3, 3e-3, 1e-2)
JUDGED_RATES = (3e-3, 1e-2)


@claim(4, "Without batch norm EDSR ends higher: at equal steps, at equal time and at equal memory")
def better_without(budget: Budget) -> Study:
    """Lim et al. 2017, section 3.1: removing batch norm improves quality, and its memory buys a larger network.

    EDSR x2 with and without, each at its own best rate, at equal steps; at equal processor time (batch norm between
    runs of two lengths, on a line over the logarithm of steps); at equal memory (no norm with as many features as fit
    into the memory that the step with batch norm is forecast to take). Controls, where a difference is expected, tell
    whether one would be seen: EDSR with instance norm, with batch norm on batches of one patch, and WDSR-B.
    """
    features = features_of_equal_memory(budget)
    length, last = budget.lengths[0], budget.lengths[-1]
    trained = yield from tuned(budget, _arms_with_and_without(budget, features))
    samples = {("sample", name): Measurement(trained[name], "sample") for name in ("batch", "none", "larger")}
    runs = yield {**trained, **samples}
    times = yield from timed({norm: trained[norm] for norm in TWINS})
    time = times.ratio("none", "batch")
    steps = gain(runs["none"], runs["batch"])
    effects = {
        "equal steps": gain(runs["last", "none"], runs["last", "batch"]),
        "equal time": difference(steps, change_if_shorter(runs["shorter"], runs["batch"], min(1.0, time))),
        "equal memory": gain(runs["larger"], runs["batch"]),
    }
    controls = {
        "EDSR, no norm less instance norm": gain(runs["none"], runs["instance"]),
        "EDSR, no norm less batch norm on batches of one patch": gain(
            runs["batch 1", "none"], runs["batch 1", "batch"]
        ),
        "WDSR-B, no norm less batch norm": gain(runs["WDSR-B", "none"], runs["WDSR-B", "batch"]),
    }
    courses: dict[str, dict[int, Sequence[Record]]] = {
        "batch norm": {round(SHORTER * length): runs["shorter"], length: runs["batch"], last: runs["last", "batch"]},
        "no norm": {length: runs["none"], last: runs["last", "none"]},
        f"no norm, {features} features": {length: runs["larger"]},
    }
    compared: dict[str, dict[str, Sequence[Record]]] = {
        "equal steps": {norm: runs["last", norm] for norm in TWINS},
        "equal time": {"none": runs["none"], "batch": runs["batch"], "batch, shorter": runs["shorter"]},
        "equal memory": {"none, larger": runs["larger"], "batch": runs["batch"]},
    }
    return Finding(
        [part(better_without, name, effect, void(**compared[name])) for name, effect in effects.items()],
        f"Without batch norm EDSR ends {steps} relative to batch norm at the first length and "
        f"{effects['equal steps']} at the last; {effects['equal time']} at equal time (a step takes {time:.2f} of the "
        f"time on {processor(times)}); {effects['equal memory']} at equal memory ({features} "
        f"instead of {budget.sr_features} features). Controls: "
        + "; ".join(f"{name} {effect}" for name, effect in controls.items())
        + ".",
        [
            ends("Super-resolution x2: ends of runs", courses),
            *before_and_after(
                "Part of a test image, first seed", "low resolution",
                {
                    "batch norm": runs["sample", "batch"], "no norm": runs["sample", "none"],
                    f"no norm, {features} features": runs["sample", "larger"],
                },
            ),
        ],
        [{"compared": name, "difference": str(effect)} for name, effect in (effects | controls).items()],
    )  # fmt: skip


def _arms_with_and_without(budget: Budget, features: int) -> dict[Any, Experiment]:
    """EDSR with and without batch norm at two lengths, as long as takes equal time, with `features`, and controls."""
    norms: tuple[Norm, ...] = *TWINS, "instance"
    arms: dict[Any, Experiment] = {norm: budget.edsr(norm=norm) for norm in norms}
    arms["shorter"] = arms["batch"].of_length(round(SHORTER * budget.lengths[0]))
    arms["larger"] = arms["none"].with_network(features=features)
    for norm in TWINS:
        arms["last", norm] = arms[norm].of_length(budget.lengths[-1])
        arms["batch 1", norm] = replace(arms[norm], batch_size=1)
        arms["WDSR-B", norm] = budget.wdsr("WDSRB", norm=norm)
    return arms


@claim(13, "Residual scaling by 0.1 keeps wide EDSR stable")
def residual_scaling(budget: Budget) -> Study:
    """Lim et al. 2017, section 3.3: beyond some width training becomes numerically unstable; residuals times 0.1
    solve it.

    A wide EDSR with both scales over Adam's learning rate, up to where training breaks; compared is where runs end, a
    run that fails at its input. Spikes are told, not judged.
    """
    runs = yield {
        (scale, rate): budget.wide(norm="none", res_scale=scale).with_optim(lr=rate)
        for scale in RES_SCALES
        for rate in WIDE_RATES
    }
    lenient = {key: lenient_psnr(found) for key, found in runs.items()}
    by_scale = {
        scale: Effect(
            tuple(
                statistics.fmean(of_seed)
                for of_seed in zip(*(lenient[scale, r].values for r in JUDGED_RATES), strict=True)
            ),
            "dB",
        )
        for scale in RES_SCALES
    }
    effect = difference(by_scale[0.1], by_scale[1.0])
    reason = void(**{f"scale 0.1 at {rate:g}": runs[0.1, rate] for rate in JUDGED_RATES})
    return Finding(
        [part(residual_scaling, "scale 0.1", effect, reason)],
        f"At rates of {' and '.join(f'{rate:g}' for rate in JUDGED_RATES)}, residual scale 0.1 ends {effect} "
        "relative to 1; "
        f"at {WIDE_RATES[0]:g}, {gain(runs[0.1, WIDE_RATES[0]], runs[1.0, WIDE_RATES[0]])}.",
        [
            HeatMap(
                f"Final PSNR (dB), EDSR with {budget.wide_features} features", "learning rate", "residual scale",
                [f"{scale:g}" for scale in RES_SCALES], [f"{rate:g}" for rate in WIDE_RATES],
                [[lenient[scale, rate].mean for rate in WIDE_RATES] for scale in RES_SCALES], low=24,
            )
        ],
        [
            {
                "residual scale": f"{scale:g}", "learning rate": f"{rate:g}", "PSNR (dB)": str(lenient[scale, rate]),
                "spikes": statistics.fmean(run.spikes for run in runs[scale, rate]),
                "failed": failures(runs[scale, rate]),
            }
            for scale, rate in runs
        ],
    )  # fmt: skip


@claim(14, "Weight norm replaces batch norm in super-resolution")
def weight_norm_replaces_batch_norm(budget: Budget) -> Study:
    """Yu et al. 2018 (WDSR), section 3.3 and figure 3: with weight norm training is faster and ends higher than
    with batch norm or with none.

    WDSR-A and WDSR-B with weight, batch and no norm, each at its own best rate; WDSR-B decides.
    """
    norms: tuple[Norm, ...] = ("weight", "batch", "none")
    arms = {(kind, norm): budget.wdsr(kind, norm=norm) for kind in ("WDSRA", "WDSRB") for norm in norms}
    best = yield from tuned(budget, arms)
    runs = yield best
    times = yield from timed({" ".join(arm): one for arm, one in best.items()})
    over = {
        (kind, other): gain(runs[kind, "weight"], runs[kind, other])
        for kind in ("WDSRA", "WDSRB")
        for other in norms[1:]
    }
    reason = void(**{norm: runs["WDSRB", norm] for norm in norms})
    harm = {kind: gain(runs[kind, "none"], runs[kind, "batch"]) for kind in ("WDSRA", "WDSRB")}
    return Finding(
        [
            part(weight_norm_replaces_batch_norm, "over batch norm", over["WDSRB", "batch"], reason),
            part(weight_norm_replaces_batch_norm, "over no norm", over["WDSRB", "none"], reason),
        ],
        f"In WDSR-B weight norm ends {over['WDSRB', 'batch']} relative to batch norm and "
        f"{over['WDSRB', 'none']} to none; "
        f"in WDSR-A {over['WDSRA', 'batch']} and {over['WDSRA', 'none']}. So batch norm costs WDSR-B "
        f"{harm['WDSRB']} and "
        f"WDSR-A {harm['WDSRA']}.",
        [
            Bars(
                "WDSR x2 by norm", "PSNR (dB)",
                {kind: {norm: psnr(runs[kind, norm]).values for norm in norms} for kind in ("WDSRA", "WDSRB")},
                y_from=below(runs.values(), 0.2),
            )
        ],
        [
            {
                "network": kind, "norm": norm, "settings": words(best[kind, norm]), "PSNR (dB)": str(psnr(found)),
                f"a step (s), {processor(times)}": f"{times.of(f'{kind} {norm}'):.4f}",
            }
            for (kind, norm), found in runs.items()
        ],
    )  # fmt: skip


@claim(17, "Freezing the statistics late in training removes batch norm's harm in super-resolution")
def frozen_statistics(budget: Budget) -> Study:
    """Wang et al. 2022 (RepSR), section 3: artifacts of batch norm come from the difference of training and inference;
    population statistics in the last part of training remove it.

    With batch norm, with its statistics frozen in the decay, and without norm: WDSR-B, which batch norm harms, and
    EDSR.
    """
    makes = {"WDSR-B": budget.wdsr("WDSRB"), "EDSR": budget.edsr()}
    best = yield from tuned(
        budget, {(name, norm): made.with_network(norm=norm) for name, made in makes.items() for norm in TWINS}
    )
    frozen = {(name, "frozen"): replace(best[name, "batch"], freeze_in_decay=True) for name in makes}
    runs = yield {**best, **frozen}
    won = {name: gain(runs[name, "frozen"], runs[name, "batch"]) for name in makes}
    left = {name: gain(runs[name, "frozen"], runs[name, "none"]) for name in makes}
    reasons = {name: void(batch=runs[name, "batch"], frozen=runs[name, "frozen"]) for name in makes}
    return Finding(
        [part(frozen_statistics, name, won[name], reasons[name]) for name in makes],
        "; ".join(
            f"In {name} freezing changes batch norm by {won[name]}, which then ends {left[name]} relative to no norm"
            for name in makes
        )
        + ".",
        table=[{"network": name, "arm": arm, "PSNR (dB)": str(psnr(found))} for (name, arm), found in runs.items()],
    )


@claim(22, "Batch norm can be made to work in super-resolution")
def batch_norm_can_work_in_super_resolution(budget: Budget) -> Study:
    """Three ways: gain 0 at each block's end (Goyal et al. 2017); AdaDM (Liu et al. 2021), which gives back the
    deviation that batch norm takes; i-LN (arXiv:2504.06629), layer norm rescaled by the image's own deviation. Directly
    after a convolution, as here, i-LN's division and multiplication cancel: what is left is a centering of the image's
    features and an affine map of each channel. Its authors have a Transformer's layers between the two.

    Neither AdaDM nor i-LN is quite its authors': AdaDM has a factor for each norm here, where they have one for each
    block, and i-LN is no batch norm, so that it can help super-resolution but not this claim. The claim needs one way;
    the criterion, as it was stated, is stricter: it is supported if all three are ahead of batch norm.

    In WDSR-B, which batch norm harms, and in EDSR; each at its own best rate; WDSR-B decides.
    """
    ways: dict[str, dict[str, str]] = {
        "batch norm": {"norm": "batch"}, "no norm": {"norm": "none"}, "gain 0": {"norm": "batch", "init": "zero"},
        "AdaDM": {"norm": "adadm"}, "i-LN": {"norm": "iln"},
    }  # fmt: skip
    makes = {"WDSR-B": budget.wdsr("WDSRB"), "EDSR": budget.edsr()}
    best = yield from tuned(
        budget, {(name, way): made.with_network(**ways[way]) for name, made in makes.items() for way in ways}
    )
    runs = yield best
    over = {(name, way): gain(runs[name, way], runs[name, "batch norm"]) for name in makes for way in ways}
    to_none = {(name, way): gain(runs[name, way], runs[name, "no norm"]) for name in makes for way in ways}
    tried = ("gain 0", "AdaDM", "i-LN")
    return Finding(
        [
            part(
                batch_norm_can_work_in_super_resolution, way, over["WDSR-B", way],
                void(**{"batch norm": runs["WDSR-B", "batch norm"], way: runs["WDSR-B", way]}),
            )
            for way in tried
        ],
        "Relative to batch norm in WDSR-B: " + "; ".join(f"{way} {over['WDSR-B', way]}" for way in tried)
        + ". Failed: " + "; ".join(f"{way} {failures(runs['WDSR-B', way])}" for way in tried)
        + ". Relative to no norm there: "
        + "; ".join(f"{way} {to_none['WDSR-B', way]}" for way in ("batch norm", *tried)) + ".",
        [
            Bars(
                "Ways to use a norm in super-resolution", "PSNR (dB)",
                {name: {way: psnr(runs[name, way]).values for way in ways} for name in makes},
                y_from=below(runs.values(), 0.2),
            )
        ],
        [
            {
                "network": name, "way": way, "settings": words(best[name, way]),
                "PSNR (dB)": str(psnr(runs[name, way])), "failed": failures(runs[name, way]),
                "less batch norm": str(over[name, way]), "less no norm": str(to_none[name, way]),
            }
            for name, way in runs
        ],
    )  # fmt: skip


@claim(23, "From SRResNet to EDSR, the removal of batch norm raises PSNR")
def from_srresnet_to_edsr(budget: Budget) -> Study:
    """Lim et al. 2017 compare with SRResNet, which differs in loss, activation, the size of two convolutions, and norm.

    The ladder in single steps: squared error to L1; PReLU and 9x9 convolutions to ReLU and 3x3; batch norm to none.
    Each rung at its own best rate.
    """
    rungs = {
        "SRResNet, squared error": budget.srresnet(norm="batch").with_optim(loss="half_squared_error"),
        "SRResNet, L1": budget.srresnet(norm="batch"),
        "EDSR with batch norm": budget.edsr(norm="batch"),
        "EDSR": budget.edsr(norm="none"),
    }
    best = yield from tuned(budget, rungs)
    names = list(rungs)
    runs = yield best
    times = yield from timed(best)
    steps = {
        "to L1": (names[1], names[0]), "ReLU and 3x3": (names[2], names[1]), "batch norm out": (names[3], names[2]),
    }  # fmt: skip
    gains = {name: gain(runs[after], runs[before]) for name, (after, before) in steps.items()}
    memory = {name: peak(best[name]) for name in names}
    reasons = {name: void(**{rung: runs[rung] for rung in of}) for name, of in steps.items()}
    return Finding(
        [part(from_srresnet_to_edsr, "batch norm out", gains["batch norm out"], reasons["batch norm out"])],
        "; ".join(
            f"{name}: {f'void, {reasons[name]}' if reasons[name] else gains[name]}, "
            f"memory {memory[after] / memory[before] - 1:+.0%}, time {times.ratio(after, before) - 1:+.0%}"
            for name, (after, before) in steps.items()
        )
        + ".",
        [
            Bars(
                "From SRResNet to EDSR", "PSNR (dB)", {name: {"": psnr(runs[name]).values} for name in names},
                y_from=below(runs.values(), 0.2),
            )
        ],
        [
            {
                "rung": name, "settings": words(best[name]), "PSNR (dB)": str(psnr(runs[name])),
                "memory of a step (MiB, forecast)": memory[name] / 2**20,
                f"a step (s), {processor(times)}": f"{times.of(name):.4f}",
            }
            for name in names
        ],
    )  # fmt: skip
