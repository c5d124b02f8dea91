"""Claims about what batch norm does for denoising: DnCNN's side of the dispute."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from restore.data.degradation import GaussianNoise
from restore.models import Norm
from restore.studies.budget import Budget
from restore.studies.claim import Measurement, Records, Study, claim
from restore.studies.claims.optimisation import ADAM_RATES, GAINS, LAST_SMALL
from restore.studies.curves import best_of, final, learning_curves, mean_final, reached
from restore.studies.experiment import Experiment
from restore.studies.figures import Bars, Curves
from restore.studies.judgement import Finding, all_of, difference, is_above, ratio
from restore.studies.measurements import before_and_after

SGD_RATE = 1e-4
SOONER = 1.5
LONGER = 4
TWINS: tuple[Norm, Norm] = ("batch", "none")


@claim(2, "With batch norm DnCNN trains 1.5x faster and ends higher; residual learning and batch norm help each other")
def faster_and_better_denoising(budget: Budget) -> Study:
    """Zhang et al. 2017 (DnCNN), section 3.2 and figure 2: residual learning and batch norm, for SGD and for Adam,
    "the integration of residual learning and batch normalization ... can bring fast and stable training and better
    denoising performance" than either alone.

    The 2x2 of that figure for both optimisers, four networks that share seed, batches, noise and learning rate; and two
    runs of four times the steps, to see whether what is found lasts. Supported if, with Adam and residual learning,
    batch norm reaches the lower of the two final PSNRs (less 0.1 dB) in 1.5 times fewer steps and seconds, and ends
    higher; refuted if one of these fails.
    """
    base = budget.denoising
    optimisers = {"Adam": base, "SGD": base.with_optim(optimizer="sgd", lr=SGD_RATE)}
    trained = {
        (name, norm, residual): experiment.with_network(norm=norm, residual=residual)
        for name, experiment in optimisers.items()
        for norm in TWINS
        for residual in (True, False)
    } | {("longer", norm): replace(base.with_network(norm=norm), steps=LONGER * base.steps) for norm in TWINS}
    samples = {("sample", norm): Measurement(trained["Adam", norm, True], "sample") for norm in TWINS}
    runs = yield {**trained, **samples}
    later = difference(final(runs["longer", "batch"]), final(runs["longer", "none"]), "dB")
    with_norm, without = runs["Adam", "batch", True], runs["Adam", "none", True]
    targets = [min(a, b) - 0.1 for a, b in zip(final(with_norm), final(without), strict=True)]
    steps = ratio(reached(without, targets), reached(with_norm, targets))
    step_times = ratio([run.step_s for run in with_norm], [run.step_s for run in without])
    seconds = ratio(steps.values, step_times.values)
    gain = difference(final(with_norm), final(without), "dB")
    names = {
        (norm, residual): f"{'batch' if norm == 'batch' else 'no'} norm, {'residual' if residual else 'direct'}"
        for norm in TWINS
        for residual in (True, False)
    }
    return Finding(
        all_of(is_above(steps, SOONER), is_above(seconds, SOONER), is_above(gain, 0)),
        steps,
        f"To the same PSNR, no norm takes {steps} the steps and {seconds} the seconds of batch norm; batch norm ends "
        f"{gain} relative to no norm; after {LONGER} times the steps, {later}. A step with batch norm takes "
        f"{step_times} the time.",
        [
            *(
                learning_curves(f"Denoising, {name}", {names[n, r]: runs[name, n, r] for n, r in names})
                for name in optimisers
            ),
            learning_curves(f"Denoising, {LONGER} times the steps", {f"norm: {n}": runs["longer", n] for n in TWINS}),
            *before_and_after(
                "Part of a test image, Adam, residual, seed 0",
                "noisy",
                {f"norm: {n}": runs["sample", n] for n in TWINS},
            ),
        ],
        [
            {
                "optimiser": name,
                "network": names[norm, residual],
                "final PSNR (dB)": str(difference(final(found), [0.0] * len(found), "dB")),
                "diverged": f"{sum(run.diverged_at is not None for run in found)} of {len(found)}",
            }
            for name in optimisers
            for norm, residual in names
            for found in [runs[name, norm, residual]]
        ],
    )


@claim(3, "Batch norm raises the PSNR of denoising by up to 1 dB")
def one_decibel(budget: Budget) -> Study:
    """Folklore after figure 2 of the DnCNN paper, where the curves lie that far apart early in training.

    Each norm with what suits it best, so that neither is handicapped: of the learning rates (Adam) and of the scales of
    the initial weights that other claims try. Supported if the gain is nearer to 1 dB than to nothing, that is above
    0.5 dB; refuted if below.
    """
    settings: dict[str, Callable[[Experiment], Experiment]] = {
        **{f"learning rate {rate:g}": partial(_with_rate, rate) for rate in ADAM_RATES},
        **{f"initial weights x {gain:g}": partial(_with_gain, gain) for gain in GAINS},
        "last initial weights x 0.1": partial(_with_gain, LAST_SMALL),
    }
    runs: Records = yield {
        (norm, name): change(budget.denoising.with_network(norm=norm))
        for norm in TWINS
        for name, change in settings.items()
    }
    best = {norm: best_of({name: runs[norm, name] for name in settings}) for norm in TWINS}
    found = {norm: runs[norm, name] for norm, name in best.items()}
    gain = difference(final(found["batch"]), final(found["none"]), "dB")
    return Finding(
        is_above(gain, 0.5),
        gain,
        f"With what suits each best (batch norm: {best['batch']}; no norm: {best['none']}), batch norm ends {gain} "
        f"relative to no norm.",
        [learning_curves("Denoising, each at its best", {f"norm: {n}, {best[n]}": found[n] for n in TWINS})],
        [
            {"setting": name, **{f"norm: {norm} (dB)": mean_final(runs[norm, name]) for norm in TWINS}}
            for name in settings
        ],
    )


def _with_rate(rate: float, experiment: Experiment) -> Experiment:
    return experiment.with_optim(lr=rate)


def _with_gain(gain: float | tuple[float, float], experiment: Experiment) -> Experiment:
    return replace(experiment, gain=gain)


@claim(15, "Batch norm regularises")
def regularises(budget: Budget) -> Study:
    """Ioffe & Szegedy 2015, section 3.4: the randomness of a batch's statistics works as regularisation.

    Training on 4, 16, 64 and all images. The gap is PSNR on the last training patches less PSNR on the test crops,
    both in eval mode. Supported if, with 4 images, the gap without norm is larger than with batch norm by more than
    0.1 dB; refuted if it is not.
    """
    counts = {"4": 4, "16": 16, "64": 64, "all": None}
    runs: Records = yield {
        (norm, name): replace(budget.denoising.with_network(norm=norm), images=count)
        for norm in TWINS
        for name, count in counts.items()
    }
    gaps = {key: [run.train_psnr - run.psnr[-1] for run in found] for key, found in runs.items()}
    effect = difference(gaps["none", "4"], gaps["batch", "4"], "dB")
    return Finding(
        is_above(effect, 0.1),
        effect,
        f"With 4 training images, the gap between training and test is {effect} larger without norm than with.",
        [
            Bars(
                "Training less test PSNR by number of training images", "gap (dB)",
                {name: {norm: gaps[norm, name] for norm in TWINS} for name in counts},
            ),
            Bars(
                "Test PSNR by number of training images", "PSNR (dB)",
                {name: {norm: final(runs[norm, name]) for norm in TWINS} for name in counts},
                y_from=min(psnr for found in runs.values() for psnr in final(found)) - 1,
            ),
        ],
    )  # fmt: skip


@claim(16, "A blind model gains more from batch norm than a model of one noise level")
def blind_gains_more(budget: Budget) -> Study:
    """Implied by the DnCNN paper, whose blind networks rest on batch norm: inputs of very different variance pass
    through one network.

    One network for sigma 0 to 55 against one for sigma 25, each with and without norm, scored at sigma 25. Supported
    if the gain by batch norm is larger for the blind one; refuted if it is smaller.
    """
    blind = replace(budget.denoising, degradation=GaussianNoise((0.0, 55.0)))
    runs = yield {
        (kind, norm): Measurement(experiment.with_network(norm=norm), "denoising")
        for kind, experiment in (("blind", blind), ("sigma 25", budget.denoising))
        for norm in TWINS
    }
    psnr = {key: [0.0 if one is None else one["25"] for one in found] for key, found in runs.items()}
    gain = {kind: difference(psnr[kind, "batch"], psnr[kind, "none"], "dB") for kind in ("blind", "sigma 25")}
    effect = difference(gain["blind"].values, gain["sigma 25"].values, "dB")
    levels = ("15", "25", "50")
    return Finding(
        is_above(effect, 0),
        effect,
        f"At sigma 25, batch norm changes the blind network by {gain['blind']} and the one for sigma 25 by "
        f"{gain['sigma 25']}.",
        [
            Curves(
                "The same networks at other noise levels", "sigma", "PSNR (dB)",
                {
                    f"{kind}, norm {norm}": [
                        (float(level), [one[level] for one in found if one is not None]) for level in levels
                    ]
                    for (kind, norm), found in runs.items()
                },
            )
        ],
    )  # fmt: skip
