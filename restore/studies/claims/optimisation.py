"""Claims about how batch norm changes optimisation: learning rate, initialisation, batch size, landscape."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace

from scipy.stats import spearmanr

from restore.models import NORMS
from restore.studies.budget import Budget
from restore.studies.claim import Measurement, Records, Study, claim
from restore.studies.curves import final, learning_curves, mean_final
from restore.studies.experiment import Record
from restore.studies.figures import Bars, Curves, HeatMap
from restore.studies.judgement import Effect, Finding, all_of, difference, is_above, is_below, ratio

ADAM_RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
DYING = 1e-2  # of Adam's rates, the one for which dead features are told in words
SGD_RATES = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3)
WORKS_DB = 1.0  # a learning rate works where a run ends so near to the best of its norm
GAINS = (0.1, 0.3, 1.0, 3.0, 10.0)
LAST_SMALL = (1.0, 0.1)  # on all but the last convolution, and on the last
OTHERS_SMALL = (0.1, 1.0)
INSENSITIVE_DB = 0.5
FLOOR = 10.0  # dB; what ends below is as good as nothing
BATCHES = (1, 2, 4, 8, 16, 64)


@claim(6, "Batch norm allows 5 to 30 times higher learning rates")
def higher_learning_rates(budget: Budget) -> Study:
    """Ioffe & Szegedy 2015, section 4.2.1, train Inception with 5 and with 30 times its learning rate.

    DnCNN over learning rate and norm, for SGD, of which they speak, and for Adam. A rate works where a run ends within
    1 dB of its norm's best. Supported if, for SGD, the highest rate that works is at least 5 times as high with batch
    norm as without; refuted if not. Rates are a factor of 3 apart, and so is what can be seen. Beside it, the share of
    features that have died.
    """
    rates = {"SGD": SGD_RATES, "Adam": ADAM_RATES}
    base = {"SGD": budget.denoising.with_optim(optimizer="sgd"), "Adam": budget.denoising}
    trained = {
        (name, norm, rate): base[name].with_network(norm=norm).with_optim(lr=rate)
        for name in rates
        for norm in ("batch", "none")
        for rate in rates[name]
    }
    runs = yield {**trained, **{("dead", *key): Measurement(experiment, "dead") for key, experiment in trained.items()}}
    dead = {key: _mean_of_survivors(runs["dead", *key]) for key in trained}
    highest = {
        (name, norm): _highest_that_works({rate: runs[name, norm, rate] for rate in rates[name]})
        for name in rates
        for norm in ("batch", "none")
    }
    effects = {name: ratio(highest[name, "batch"], highest[name, "none"]) for name in rates}
    return Finding(
        is_above(effects["SGD"], 5 * (1 - 1e-9)),
        effects["SGD"],
        f"The highest learning rate that works is {effects['SGD']} as high with batch norm for SGD, {effects['Adam']} "
        f"for Adam. At Adam's {DYING:g}, {dead['Adam', 'none', DYING]:.0f} % of the features are zero everywhere "
        f"without norm, {dead['Adam', 'batch', DYING]:.0f} % with it.",
        [
            HeatMap(
                f"Final PSNR (dB) by learning rate, {name}",
                "learning rate",
                "norm",
                ["batch", "none"],
                [f"{rate:g}" for rate in rates[name]],
                [[mean_final(runs[name, norm, rate]) for rate in rates[name]] for norm in ("batch", "none")],
                low=15,
            )
            for name in rates
        ]
        + [
            HeatMap(
                f"Features that are zero everywhere (%) by learning rate, {name}",
                "learning rate",
                "norm",
                ["batch", "none"],
                [f"{rate:g}" for rate in rates[name]],
                [[dead[name, norm, rate] for rate in rates[name]] for norm in ("batch", "none")],
            )
            for name in rates
        ],
    )


@claim(7, "Batch norm makes training insensitive to initialisation")
def insensitive_to_initialisation(budget: Budget) -> Study:
    """Ioffe & Szegedy 2015, section 3.3: training becomes "more resilient to the parameter scale".

    He's initial weights of all convolutions times 0.1 to 10; and those of the last one alone, whose output no norm
    follows, times 0.1. Supported if over gains of 0.3 to 3 final PSNR varies by less than 0.5 dB with batch norm;
    refuted if by more.
    """
    runs: Records = yield {
        (norm, gain): replace(budget.denoising.with_network(norm=norm), gain=gain)
        for norm in ("batch", "none")
        for gain in (*GAINS, LAST_SMALL, OTHERS_SMALL)
    }
    spread = {
        norm: [max(seed) - min(seed) for seed in zip(*(final(runs[norm, gain]) for gain in GAINS[1:-1]), strict=True)]
        for norm in ("batch", "none")
    }
    effect = Effect(tuple(spread["batch"]), "dB")
    won = {norm: difference(final(runs[norm, LAST_SMALL]), final(runs[norm, 1.0]), "dB") for norm in ("batch", "none")}
    return Finding(
        is_below(effect, INSENSITIVE_DB),
        effect,
        f"Over gains of {GAINS[1]:g} to {GAINS[-2]:g}, final PSNR spreads {effect} with batch norm and "
        f"{statistics.fmean(spread['none']):.1f} dB without. The last convolution's initial weights times 0.1 change "
        f"it by {won['batch']} with batch norm and {won['none']} without.",
        [
            Curves(
                "Final PSNR by the scale of the initial weights", "gain on He's initial weights", "PSNR (dB)",
                {f"norm: {n}": [(gain, final(runs[n, gain])) for gain in GAINS] for n in ("batch", "none")},
                log_x=True, y_from=FLOOR,
            ),
            learning_curves(
                "He's initial weights, and where the last or all others are ten times smaller",
                {
                    f"norm {norm}, {name}": runs[norm, gain]
                    for norm in ("batch", "none")
                    for name, gain in (("He", 1.0), ("small last", LAST_SMALL), ("small others", OTHERS_SMALL))
                },
            ),
        ],
    )  # fmt: skip


@claim(8, "Batch norm fails for small batches (fewer than 16)")
def fails_for_small_batches(budget: Budget) -> Study:
    """Wu & He 2018 (group norm), figure 1, for classification with few images a GPU.

    Batches of 1 to 64 patches with every norm, at equal steps. What a network loses from batch 16 to batch 4 in PSNR
    has two causes, fewer patches and worse statistics; without norm there is only the first. Supported if batch norm
    loses at least 0.1 dB more than no norm does; refuted if less. The gap between the statistics of a batch (training
    mode) and of the population (eval mode), on the same patches, is shown beside it.
    """
    runs: Records = yield {
        (norm, batch): replace(budget.denoising.with_network(norm=norm), batch_size=batch)
        for norm in NORMS
        for batch in BATCHES
    }
    lost = {norm: difference(final(runs[norm, 16]), final(runs[norm, 4]), "dB") for norm in NORMS}
    effect = difference(lost["batch"].values, lost["none"].values, "dB")
    gap = {batch: [run.train_mode_psnr - run.train_psnr for run in runs["batch", batch]] for batch in BATCHES}
    return Finding(
        is_above(effect, 0.1),
        effect,
        f"From batch 16 to 4, batch norm loses {lost['batch']}, no norm {lost['none']}.",
        [
            Curves(
                "Final PSNR by batch size", "patches a step", "PSNR (dB)",
                {norm: [(b, [p for p in final(runs[norm, b]) if p > FLOOR]) for b in BATCHES] for norm in NORMS},
                log_x=True,
            ),
            Bars(
                "Batch norm: PSNR by the batch's statistics less PSNR by the population's", "gap (dB)",
                {f"batch {batch}": {"batch norm": values} for batch, values in gap.items()},
            ),
        ],
        [{"norm": n, **{f"batch {b}": f"{mean_final(runs[n, b]):.2f}" for b in BATCHES}} for n in NORMS],
    )  # fmt: skip


@claim(9, "BN(a W u) = BN(W u), and the gradient with respect to W shrinks by 1/a")
def weight_scale_does_not_matter(budget: Budget) -> Study:
    """Ioffe & Szegedy 2015, section 3.3. What follows is an effective learning rate of lr / |W|^2 that falls by itself
    as the weights grow (van Laarhoven 2017).

    Checked in float64 on a trained DnCNN with a = 10. Supported if both identities hold to one in a million;
    refuted if not.
    """
    watched = budget.denoising.watching("effective_lr")
    runs = yield {"check": Measurement(budget.denoising, "invariance"), "course": watched}
    errors = [max(abs(one["output"]), abs(one["gradient"] * 10 - 1)) for one in runs["check"]]
    effect = Effect((max(errors),), "", stochastic=False)
    return Finding(
        is_below(effect, 1e-6),
        effect,
        f"The largest deviation from either identity is {max(errors):.0e}.",
        [
            Curves(
                "Effective learning rate over training, mean over layers", "steps", "lr / |W|^2",
                {"batch norm": _course(runs["course"], "effective_lr", "mean")}, log_y=True,
            )
        ],
    )  # fmt: skip


@claim(11, "Batch norm works by reducing internal covariate shift")
def internal_covariate_shift(budget: Budget) -> Study:
    """Ioffe & Szegedy 2015, figure 1: the percentiles of a layer's inputs stay put with batch norm. Santurkar et al.
    2018 (definition 2.1, figure 2) measure the change of a layer's gradient as the layers before it are updated, and
    find no less of it with batch norm.

    The middle layer of DnCNN. The measure is Santurkar's: the change relative to the gradient. Supported if batch norm
    has less of it than no norm, and if over all norms less of it goes with a higher final PSNR (rank correlation below
    0); refuted if one fails.
    """
    runs: Records = yield {
        norm: budget.denoising.with_network(norm=norm).watching("percentiles", "shift") for norm in NORMS
    }
    shift = {norm: [_late(run, "shift", "relative") for run in found] for norm, found in runs.items()}
    effect = ratio(shift["batch"], shift["none"])
    psnr = {norm: final(found) for norm, found in runs.items()}
    seeds = range(len(runs["batch"]))
    ranks = Effect(tuple(float(spearmanr(*_of_seed(seed, shift, psnr)).statistic) for seed in seeds), "")
    percents = ("15", "50", "85")
    return Finding(
        all_of(is_below(effect, 1), is_below(ranks, 0)),
        effect,
        f"With batch norm the gradient of the middle layer shifts {effect} as much as without. Over all norms, the "
        f"rank correlation of this shift with final PSNR is {ranks}.",
        [
            *(
                Curves(
                    f"Pre-activations of the middle layer, norm: {norm}", "steps", "percentile",
                    {f"{p} %": _course(runs[norm], "percentiles", p) for p in percents},
                )
                for norm in ("batch", "none")
            ),
            Bars("Shift of the gradient, relative", "times its norm", {norm: {"": v} for norm, v in shift.items()}),
        ],
        [
            {"norm": norm, "shift": statistics.fmean(shift[norm]), "final PSNR (dB)": mean_final(found)}
            for norm, found in runs.items()
        ],
    )  # fmt: skip


@claim(12, "Batch norm makes the landscape of the loss smoother")
def smoother_landscape(budget: Budget) -> Study:
    """Santurkar et al. 2018, section 3 and figure 4: along the gradient the loss varies less, and the gradient stays
    more predictive, with batch norm.

    Along the gradient, at several step sizes relative to the weights' norm: the range of the loss relative to its
    value, and the largest change of the gradient relative to its norm. Supported if, for DnCNN and for EDSR, the
    gradient changes less with batch norm than without; refuted if more.
    """
    tasks = {"DnCNN": budget.denoising, "EDSR": budget.super_resolution}
    runs: Records = yield {
        (name, norm): experiment.with_network(norm=norm).watching("landscape")
        for name, experiment in tasks.items()
        for norm in ("batch", "none")
    }
    change = {key: [_middle(run, "landscape", "gradient_change") for run in found] for key, found in runs.items()}
    effects = {name: ratio(change[name, "batch"], change[name, "none"]) for name in tasks}
    return Finding(
        all_of(*(is_below(effect, 1) for effect in effects.values())),
        effects["DnCNN"],
        "Along its own direction the gradient changes, with batch norm, "
        + " and ".join(f"{effect} as much as without in {name}" for name, effect in effects.items())
        + ".",
        [
            Curves(
                f"{title}, {name}", "steps", label,
                {f"norm: {norm}": _course(runs[name, norm], "landscape", key) for norm in ("batch", "none")},
                log_y=True,
            )
            for name in tasks
            for title, label, key in (
                ("Change of the gradient along itself", "relative to its norm", "gradient_change"),
                ("Range of the loss along the gradient", "relative to the loss", "loss_range"),
            )
        ],
    )  # fmt: skip


def _mean_of_survivors(found: Sequence[float | None]) -> float:
    """Mean over the seeds that did not diverge; NaN where all did."""
    kept = [value for value in found if value is not None]
    return statistics.fmean(kept) if kept else math.nan


def _highest_that_works(runs: Mapping[float, Sequence[Record]]) -> list[float]:
    """For each seed, the highest rate that ends within WORKS_DB of the best."""
    seeds = range(len(next(iter(runs.values()))))
    best = [max(found[seed].psnr[-1] for found in runs.values()) for seed in seeds]
    return [max(rate for rate, found in runs.items() if found[s].psnr[-1] >= best[s] - WORKS_DB) for s in seeds]


def _course(runs: Sequence[Record], watch: str, value: str) -> list[tuple[float, list[float]]]:
    """A watched value over the steps, all seeds."""
    courses = [run.watched[watch] for run in runs]
    longest = max(courses, key=len)
    return [(entry["step"], [it[i][value] for it in courses if i < len(it)]) for i, entry in enumerate(longest)]


def _of_seed(seed: int, *quantities: Mapping[str, Sequence[float]]) -> list[list[float]]:
    return [[values[seed] for values in quantity.values()] for quantity in quantities]


def _late(run: Record, watch: str, value: str) -> float:
    """Median of the second half of the run."""
    entries = run.watched[watch]
    return statistics.median(entry[value] for entry in entries[len(entries) // 2 :])


def _middle(run: Record, watch: str, value: str) -> float:
    """Median of the whole run."""
    return statistics.median(entry[value] for entry in run.watched[watch])
