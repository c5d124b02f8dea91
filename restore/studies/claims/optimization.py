"""Claims about how batch norm changes optimization: learning rate, initial weights, batch size, landscape."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace

from restore.models import Norm
from restore.studies.arms import TWINS, tuned, words
from restore.studies.budget import Budget
from restore.studies.claim import Study, claim, part
from restore.studies.criteria import VOID_DB
from restore.studies.curves import collapsed_as_failed, diverged, failures, gain, input_psnr, lenient_psnr, psnr, void
from restore.studies.effects import Effect, difference, mean_of, ratio
from restore.studies.experiment import Experiment, Record, mode_gaps
from restore.studies.figures import Bars, Curves, HeatMap
from restore.studies.judgement import Finding
from restore.studies.requests import Measurement

FINE_RATES = tuple(10 ** (quarter / 4) for quarter in range(-14, 1))  # 3.2e-4 to 1, a factor of 1.78 apart
FINE_STEP = 10**0.25
WORKS_DB = 1.0  # a learning rate works if a run ends so near to the best of its norm
GAINS = (0.1, 0.3, 1.0, 3.0, 10.0)
SMALL_BATCH_NORMS: tuple[Norm, ...] = ("batch", "none", "group")
BATCHES = (1, 4, 16, 64)
FACTOR = 10.0


@claim(6, "Batch norm allows 5 to 30 times higher learning rates")
def higher_learning_rates(budget: Budget) -> Study:
    """Ioffe & Szegedy 2015, section 4.2.1, train Inception with 5 and with 30 times its learning rate.

    DnCNN over SGD's learning rate, a factor of 1.78 apart, each norm with the initial weights that suit it. A rate
    works if a run ends within 1 dB of its norm's best, and at least 1 dB above its input: a network that leaves the
    noise as it is has not learned.
    """
    best = yield from tuned(budget, {norm: budget.denoising(norm=norm).with_optim(optimizer="sgd") for norm in TWINS})
    runs = yield {(norm, rate): best[norm].with_optim(lr=rate) for norm in TWINS for rate in FINE_RATES}
    highest = {norm: _highest_that_works({rate: runs[norm, rate] for rate in FINE_RATES}) for norm in TWINS}
    both = [(a, b) for a, b in zip(highest["batch"], highest["none"], strict=True) if a and b]
    effect = _ratio([a for a, _ in both], [FINE_STEP * b for _, b in both])
    reason = ""
    if len(both) < len(highest["batch"]):
        reason = "in some seeds no learning rate works"
    elif any(FINE_RATES[-1] in found for found in highest.values()):
        reason = f"the highest rate that was tried, {FINE_RATES[-1]:g}, still works"
    return Finding(
        [part(higher_learning_rates, "SGD", effect, reason, slack=FINE_STEP**2)],
        "The highest rate of SGD that works is "
        + " and ".join(
            f"{statistics.geometric_mean([it for it in highest[norm] if it] or [float('nan')]):.2g} for norm: {norm}"
            for norm in TWINS
        )
        + f"; the ratio, less what the grid cannot tell, is {effect}, and may be up to {FINE_STEP**2:.2f} times that.",
        [
            HeatMap(
                "Final PSNR (dB) by learning rate, SGD", "learning rate", "norm", list(TWINS),
                [f"{rate:.2g}" for rate in FINE_RATES],
                [[psnr(runs[norm, rate]).mean for rate in FINE_RATES] for norm in TWINS],
                low=19,
                notes=[[diverged(runs[norm, rate]) for rate in FINE_RATES] for norm in TWINS],
            )
        ],
        [
            {"norm": norm, "learning rate": f"{rate:.2g}", "PSNR (dB)": str(psnr(runs[norm, rate])),
             "failed": failures(runs[norm, rate])}
            for norm in TWINS
            for rate in FINE_RATES
        ],
    )  # fmt: skip


@claim(7, "Batch norm makes training insensitive to initial weights")
def insensitive_to_initialization(budget: Budget) -> Study:
    """Ioffe & Szegedy 2015, section 3.3: training becomes "more resilient to the parameter scale".

    He's weights of all layers but the last, after which no norm follows, times 0.1 to 10, at the learning rate that
    suits the norm at gain 1. What is lost at the worst gain is compared; a run that fails has lost all.
    """
    best = yield from tuned(budget, {norm: budget.denoising(norm=norm) for norm in TWINS}, inits=("he",))
    runs = yield {
        **{(norm, gain): replace(best[norm], gain=(gain, 1.0)) for norm in TWINS for gain in GAINS},
        **{(norm, "last"): replace(best[norm], gain=(1.0, 0.1)) for norm in TWINS},
    }
    ends = {key: lenient_psnr(found) for key, found in runs.items()}
    lost = {}
    for norm in TWINS:
        worst = [min(of_seed) for of_seed in zip(*(ends[norm, it].values for it in GAINS if it != 1), strict=True)]
        lost[norm] = difference(ends[norm, 1.0], Effect(tuple(worst), "dB"))
    effect = difference(lost["none"], lost["batch"])
    return Finding(
        [part(insensitive_to_initialization, "gains", effect, void(**{norm: runs[norm, 1.0] for norm in TWINS}))],
        f"From gain 1 to the worst of {', '.join(f'{it:g}' for it in GAINS if it != 1)}, no norm loses "
        f"{lost['none']} and "
        f"batch norm {lost['batch']}. The last layer's weights times 0.1 change no norm by "
        f"{difference(ends['none', 'last'], ends['none', 1.0])} and batch norm by "
        f"{difference(ends['batch', 'last'], ends['batch', 1.0])}.",
        [
            Curves(
                "Final PSNR by the scale of all layers' initial weights but the last", "gain on He's weights",
                "PSNR (dB)",
                {f"norm: {norm}": [(it, ends[norm, it].values) for it in GAINS] for norm in TWINS}, log_x=True,
            )
        ],
        [
            {"norm": norm, "gain": str(it), "PSNR (dB)": str(ends[norm, it]), "failed": failures(runs[norm, it])}
            for norm in TWINS
            for it in GAINS
        ],
    )  # fmt: skip


@claim(8, "Batch norm fails for small batches (fewer than 16)")
def fails_for_small_batches(budget: Budget) -> Study:
    """Wu & He 2018 (group norm), figure 1, for classification with few images a GPU.

    Batches of 1 to 64 patches at equal patches, so the smaller the batch the more steps, and learning rates scaled by
    the root of the batch. In restoration a batch of 4 patches is many values: N H W is stated beside it. What is lost
    from batch 16 to batch 4 has other causes, too; no norm has only those.
    """
    best = yield from tuned(budget, {norm: budget.denoising(norm=norm) for norm in SMALL_BATCH_NORMS})
    runs = yield {(norm, batch): _with_batch(best[norm], batch) for norm in SMALL_BATCH_NORMS for batch in BATCHES}
    lost = {norm: gain(runs[norm, 16], runs[norm, 4]) for norm in SMALL_BATCH_NORMS}
    effect = difference(lost["batch"], lost["none"])
    arms = {f"{norm}, batch {batch}": runs[norm, batch] for norm in TWINS for batch in (4, 16)}
    values = {batch: batch * budget.patch**2 for batch in BATCHES}
    return Finding(
        [part(fails_for_small_batches, "batch 4", effect, void(**arms))],
        f"From batch 16 to 4 at equal patches (N H W {values[16]} to {values[4]}), batch norm loses "
        f"{lost['batch']}, no "
        f"norm {lost['none']}, group norm {lost['group']}. At batch 1 (N H W {values[1]}) batch norm ends "
        f"{gain(runs['batch', 1], runs['none', 1])} relative to no norm.",
        [
            Curves(
                "Final PSNR by batch size, equal patches", "patches a step", "PSNR (dB)",
                {norm: [(b, psnr(runs[norm, b]).values) for b in BATCHES] for norm in SMALL_BATCH_NORMS}, log_x=True,
            ),
            Bars(
                "Batch norm: PSNR by the batch's statistics less PSNR by the population's", "gap (dB)",
                {f"batch {batch}": {"batch norm": mode_gaps(runs["batch", batch])} for batch in BATCHES},
            ),
        ],
        [
            {
                "norm": norm, **{f"batch {b} (N H W {values[b]})": str(psnr(runs[norm, b])) for b in BATCHES},
                "failed": "; ".join(f"batch {b}: {failures(runs[norm, b])}" for b in BATCHES),
            }
            for norm in SMALL_BATCH_NORMS
        ],
    )  # fmt: skip


@claim(9, "BN(a W u) = BN(W u), and the gradient with respect to W shrinks by 1/a")
def weight_scale_does_not_matter(budget: Budget) -> Study:
    """Ioffe & Szegedy 2015, section 3.3. What follows is an effective learning rate of lr / |W|^2 that falls by itself
    as the weights grow (van Laarhoven 2017).

    Checked in float64 on a trained DnCNN with a = 10. The epsilon of the norm is set to 1e-30: with the usual 1e-5 the
    identity does not hold for small W, which claim 7 sees.
    """
    best = yield from tuned(budget, {"batch": budget.denoising(norm="batch")})
    runs = yield {"check": Measurement(best["batch"], "invariance"), "course": best["batch"].probing("effective_lr")}
    checks = [one for one in runs["check"] if one is not None]
    errors = [max(abs(one["output"]), abs(one["gradient"] * FACTOR - 1)) for one in checks]
    effect = Effect((max(errors, default=float("nan")),), "", stochastic=False)
    return Finding(
        [part(weight_scale_does_not_matter, "identities", effect, "" if errors else "every run failed")],
        f"The largest deviation from either identity is {effect.mean:.0e}.",
        [
            Curves(
                "Effective learning rate over training, mean over layers", "steps", "lr / |W|^2",
                {"batch norm": _course(runs["course"], "effective_lr", "mean")}, log_y=True,
            )
        ],
    )  # fmt: skip


@claim(11, "Batch norm reduces internal covariate shift")
def internal_covariate_shift(budget: Budget) -> Study:
    """Ioffe & Szegedy 2015, figure 1: the percentiles of a layer's inputs stay put with batch norm. Santurkar et al.
    2018 (definition 2.1, figure 2) measure the change of a layer's gradient as the layers before it are updated, and
    find no less of it with batch norm.

    The middle layer of DnCNN, trained by SGD, each norm at its own best; the layers before it take the step of gradient
    descent that the run takes (without momentum).
    """
    best = yield from tuned(budget, {norm: budget.denoising(norm=norm).with_optim(optimizer="sgd") for norm in TWINS})
    runs = yield {norm: best[norm].probing("percentiles", "shift") for norm in TWINS}
    both = _without_failures(runs["batch"], runs["none"])
    shift = {norm: [_late(run, "shift", "relative") for run in both[norm]] for norm in TWINS}
    effect = _ratio(shift["batch"], shift["none"])
    cosine = {norm: mean_of([_late(run, "shift", "cosine") for run in both[norm]]) for norm in TWINS}
    return Finding(
        [part(internal_covariate_shift, "shift", effect, void(**{norm: runs[norm] for norm in TWINS}))],
        f"With batch norm the gradient of the middle layer shifts {effect} as much as without, each at its own "
        "best rate "
        f"({'; '.join(f'{norm}: {words(best[norm])}' for norm in TWINS)}); cosine of the gradients before and after: "
        f"{cosine['batch']:.2f} and {cosine['none']:.2f}. Failed: {failures(runs['batch'])} and "
        f"{failures(runs['none'])}; their seeds are left out.",
        [
            *(
                Curves(
                    f"Pre-activations of the middle layer, norm: {norm}", "steps", "percentile",
                    {f"{p} %": _course(runs[norm], "percentiles", p) for p in ("15", "50", "85")},
                )
                for norm in TWINS
            ),
            Bars("Shift of the gradient, relative", "times its norm", {norm: {"": v} for norm, v in shift.items()}),
        ],
    )  # fmt: skip


@claim(12, "Batch norm makes the landscape of the loss smoother")
def smoother_landscape(budget: Budget) -> Study:
    """Santurkar et al. 2018, section 3 and figure 4: along the gradient the loss varies less, the gradient stays more
    predictive, and the effective beta-smoothness is better with batch norm.

    All three of their measures, for DnCNN and for EDSR, each norm at its own best, at step sizes relative to the norm
    of the weights; medians over all looks of the stable part.
    """
    tasks = {"DnCNN": budget.denoising, "EDSR": budget.edsr}
    best = yield from tuned(budget, {(name, norm): make(norm=norm) for name, make in tasks.items() for norm in TWINS})
    runs = yield {key: experiment.probing("landscape") for key, experiment in best.items()}
    measures = {"loss": "loss_range", "gradient": "gradient_change", "beta": "smoothness"}
    both = {name: _without_failures(runs[name, "batch"], runs[name, "none"]) for name in tasks}
    effects = {
        (name, what): _ratio(*([_median(run, "landscape", key) for run in both[name][norm]] for norm in TWINS))
        for name in tasks
        for what, key in measures.items()
    }
    reasons = {name: void(**{norm: runs[name, norm] for norm in TWINS}) for name in tasks}
    return Finding(
        [
            part(smoother_landscape, f"{name}, {what}", effect, reasons[name])
            for (name, what), effect in effects.items()
        ],
        "With batch norm, relative to none: "
        + "; ".join(
            f"in {name} the loss varies {effects[name, 'loss']}, the gradient changes "
            f"{effects[name, 'gradient']}, beta is "
            f"{effects[name, 'beta']}"
            for name in tasks
        )
        + ".",
        [
            Curves(
                f"{title}, {name}", "steps", label,
                {f"norm: {norm}": _course(runs[name, norm], "landscape", key) for norm in TWINS}, log_y=True,
            )
            for name in tasks
            for title, label, key in (
                ("Change of the gradient along itself", "relative to its norm", "gradient_change"),
                ("Range of the loss along the gradient", "relative to the loss", "loss_range"),
            )
        ],
    )  # fmt: skip


def _with_batch(experiment: Experiment, batch: int) -> Experiment:
    share = batch / experiment.batch_size
    changed = replace(experiment, batch_size=batch, length=max(1, round(experiment.length / share)))
    return changed.with_optim(lr=experiment.optim.lr * share**0.5)


def _highest_that_works(runs: Mapping[float, Sequence[Record]]) -> list[float | None]:
    """For each seed, the highest rate that ends within WORKS_DB of the best and VOID_DB above the input; None: none."""
    floor = input_psnr(next(iter(runs.values()))) + VOID_DB
    ends = {rate: lenient_psnr(found).values for rate, found in runs.items()}
    highest: list[float | None] = []
    for seed in range(len(next(iter(ends.values())))):
        best = max(values[seed] for values in ends.values())
        working = [rate for rate, values in ends.items() if values[seed] >= max(best - WORKS_DB, floor)]
        highest.append(max(working, default=None))
    return highest


def _without_failures(batch: Sequence[Record], none: Sequence[Record]) -> dict[str, list[Record]]:
    """The runs of the seeds in which neither failed or collapsed, so that there are gradients to look at."""
    pairs = zip(collapsed_as_failed(batch), collapsed_as_failed(none), strict=True)
    kept = [(a, b) for a, b in pairs if a.psnr and b.psnr]
    return {"batch": [a for a, _ in kept], "none": [b for _, b in kept]}


def _ratio(of: Sequence[float], to: Sequence[float]) -> Effect:
    return ratio(of or [math.nan], to or [math.nan])


def _course(runs: Sequence[Record], probe: str, value: str) -> list[tuple[float, list[float]]]:
    """A probed value over the steps, all seeds."""
    courses = [run.probed[probe] for run in runs]
    longest = max(courses, key=len)
    return [(entry["step"], [it[i][value] for it in courses if i < len(it)]) for i, entry in enumerate(longest)]


def _late(run: Record, probe: str, value: str) -> float:
    """Median of the second half of the stable part."""
    entries = run.probed[probe]
    return statistics.median([entry[value] for entry in entries[len(entries) // 2 :]] or [float("nan")])


def _median(run: Record, probe: str, value: str) -> float:
    """Of the whole stable part."""
    return statistics.median([entry[value] for entry in run.probed[probe]] or [float("nan")])
