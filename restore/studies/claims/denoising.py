"""Claims about what batch norm does for denoising: DnCNN's side of the dispute."""

from collections.abc import Sequence
from dataclasses import replace

from restore.data.degradation import GaussianNoise
from restore.studies.arms import INITS, TWINS, timed, tuned, words
from restore.studies.budget import Budget
from restore.studies.claim import Study, claim, part
from restore.studies.curves import (
    below,
    diverged,
    ends,
    failures,
    gain,
    input_psnr,
    lenient_psnr,
    of_images,
    psnr,
    steps_to,
    void,
)
from restore.studies.effects import difference, mean_of, ratio
from restore.studies.figures import Bars, Curves, HeatMap
from restore.studies.judgement import Finding
from restore.studies.measurements import SIGMAS, before_and_after
from restore.studies.requests import Measurement
from restore.studies.step_times import processor
from restore.studies.variants import variant_of

COURSE = (0.25, 0.5, 1.0, 2.0, 4.0)  # times the first length: lengths of whole runs
TARGETS_DB = {"mid": 28.4}
TARGET_DB = 28.0
MAP_RATES = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
USUAL = ("he", 1e-3)  # what most public PyTorch code does
BLIND = (0.0, 55.0)
SEEN = (0.0, 25.0)
UNSEEN = "50"
FEW, SEVERAL = 4, 16  # training images
DECAY, DROPOUT = 1e-4, 0.1


@claim(2, "With batch norm DnCNN trains 1.5x faster and ends higher; residual learning and batch norm help each other")
def faster_and_better_denoising(budget: Budget) -> Study:
    """Zhang et al. 2017 (DnCNN), section 3.2 and figure 2: residual learning and batch norm, for SGD and for Adam,
    "the integration of residual learning and batch normalization ... can bring fast and stable training and better
    denoising performance" than either alone.

    The 2x2 of that figure for both optimizers, every one of the eight networks with its own best initial weights and
    learning rate; and, with residual learning and Adam, whole runs of five lengths, each with its own best settings,
    too, from whose ends the steps to a fixed PSNR are read.
    """
    base = budget.denoising()
    keys = [(name, norm, residual) for name in ("adam", "sgd") for norm in TWINS for residual in (True, False)]
    lengths = [round(share * base.length) for share in COURSE]
    arms = {key: base.with_network(norm=key[1], residual=key[2]).with_optim(optimizer=key[0]) for key in keys}
    twins = {norm: base.with_network(norm=norm, residual=True) for norm in TWINS}
    courses = {(norm, length): twins[norm].of_length(length) for norm in TWINS for length in lengths}
    best = yield from tuned(budget, {**arms, **courses})
    samples = {("sample", norm): Measurement(best["adam", norm, True], "sample") for norm in TWINS}
    runs = yield {**best, **samples}

    batch, none = runs["adam", "batch", True], runs["adam", "none", True]
    by_length = {norm: {length: runs[norm, length] for length in lengths} for norm in TWINS}
    target = TARGETS_DB.get(budget.name, TARGET_DB)
    reached = {norm: steps_to(target, by_length[norm]) for norm in TWINS}
    both = [(a, b) for a, b in zip(reached["none"], reached["batch"], strict=True) if a and b]
    steps = ratio([a for a, _ in both] or [1.0], [b for _, b in both] or [1.0])
    censored = len(batch) - len(both)
    better = gain(by_length["batch"][lengths[-1]], by_length["none"][lengths[-1]])
    added = {norm: gain(runs["adam", norm, True], runs["adam", norm, False]) for norm in TWINS}
    together = difference(added["batch"], added["none"])
    by_norm = {
        (name, residual): gain(runs[name, "batch", residual], runs[name, "none", residual])
        for name in ("adam", "sgd")
        for residual in (True, False)
    }
    trained = void(batch=batch, none=none)
    at_last = void(**{norm: by_length[norm][lengths[-1]] for norm in TWINS})
    all_four = void(**{f"{norm}, residual {res}": runs["adam", norm, res] for norm in TWINS for res in (True, False)})
    too_few = f"in {censored} of {len(batch)} seeds a network does not pass {target:g} dB" if censored > 0 else ""
    return Finding(
        [
            part(faster_and_better_denoising, "faster", steps, trained or too_few),
            part(faster_and_better_denoising, "better", better, at_last),
            part(faster_and_better_denoising, "together", together, all_four),
        ],
        f"With Adam no norm takes {steps} the steps of batch norm to {target:g} dB. Batch norm ends "
        f"{gain(batch, none)} relative to no norm at the first length and "
        f"{better} at the last. Residual learning adds {added['batch']} with batch norm and {added['none']} without: "
        f"without residual learning batch norm ends {by_norm['adam', False]} relative to no norm. With SGD it ends "
        f"{by_norm['sgd', True]} with residual learning and {by_norm['sgd', False]} without.",
        [
            ends("Denoising: ends of runs of several lengths", {f"norm: {norm}": by_length[norm] for norm in TWINS}),
            *before_and_after(
                "Part of a test image, Adam, residual, first seed", "noisy",
                {f"norm: {norm}": runs["sample", norm] for norm in TWINS},
            ),
        ],
        [
            {
                "optimizer": name, "norm": norm, "learns": "residual" if residual else "image",
                "settings": words(best[name, norm, residual]),
                "PSNR (dB)": str(psnr(runs[name, norm, residual])),
                "failed": failures(runs[name, norm, residual]),
            }
            for name, norm, residual in keys
        ],
    )  # fmt: skip


@claim(3, "Batch norm raises the PSNR of denoising by up to 1 dB")
def one_decibel(budget: Budget) -> Study:
    """Folklore after figure 2 of the DnCNN paper, where the curves lie that far apart early in training.

    Each norm with its own best initial weights and learning rate.
    """
    best = yield from tuned(budget, {norm: budget.denoising(norm=norm) for norm in TWINS})
    runs = yield best
    effect = gain(runs["batch"], runs["none"])
    return Finding(
        [part(one_decibel, "gain", effect, void(batch=runs["batch"], none=runs["none"]))],
        f"With what suits each best ({'; '.join(f'{norm}: {words(best[norm])}' for norm in TWINS)}), batch norm ends "
        f"{effect} relative to no norm.",
        [
            Bars(
                "Each at its best", "PSNR (dB)", {"": {f"norm: {norm}": psnr(runs[norm]).values for norm in TWINS}},
                y_from=below(runs.values(), 0.5),
            )
        ],
    )  # fmt: skip


@claim(15, "Batch norm regularizes")
def regularizes(budget: Budget) -> Study:
    """Ioffe & Szegedy 2015, section 3.4: the randomness of a batch's statistics works as regularization.

    Training on 4, 16, 64 and all images. What is judged is generalization, the PSNR of test images that is lost with
    few training images; a small gap between training and test alone may be a network that fits neither.
    """
    counts = {"4": FEW, "16": SEVERAL, "64": 64, "all": None}
    best = yield from tuned(budget, {norm: budget.denoising(norm=norm) for norm in TWINS})
    runs = yield {(norm, name): replace(best[norm], images=count) for norm in TWINS for name, count in counts.items()}
    lost = {norm: gain(runs[norm, "all"], runs[norm, "4"]) for norm in TWINS}
    effect = difference(lost["none"], lost["batch"])
    arms = {f"{norm}, {name} images": runs[norm, name] for norm in TWINS for name in ("4", "all")}
    return Finding(
        [part(regularizes, "generalization", effect, void(**arms))],
        f"Trained on 4 images instead of all, no norm loses {lost['none']} and batch norm {lost['batch']}.",
        [
            Bars(
                "Test PSNR by number of training images", "PSNR (dB)",
                {name: {norm: psnr(runs[norm, name]).values for norm in TWINS} for name in counts},
                y_from=below(runs.values(), 0.5),
            ),
            Bars(
                "PSNR of the last training patches less test PSNR", "gap (dB)",
                {
                    name: {
                        norm: [
                            run.train_psnr - psnr([run]).mean
                            for run in runs[norm, name]
                            if run.train_psnr is not None
                        ]
                        for norm in TWINS
                    }
                    for name in counts
                },
            ),
        ],
    )  # fmt: skip


@claim(16, "A blind model gains more from batch norm than a model of one noise level")
def blind_gains_more(budget: Budget) -> Study:
    """Implied by the DnCNN paper, whose blind networks rest on batch norm: inputs of very different variance pass
    through one network.

    One network for sigma 0 to 55 against one for sigma 25, each with and without norm at its own best, all scored at
    sigma 25.
    """
    kinds = {"blind": GaussianNoise(BLIND), "sigma 25": budget.denoising().degradation}
    best = yield from tuned(
        budget,
        {
            (kind, norm): replace(budget.denoising(norm=norm), degradation=degradation)
            for kind, degradation in kinds.items()
            for norm in TWINS
        },
    )
    measured = {("measured", *key): Measurement(experiment, "denoising") for key, experiment in best.items()}
    runs = yield {**best, **measured}
    at = {key: of_images([one and one["25"] for one in runs["measured", *key]]) for key in best}
    gains = {kind: difference(at[kind, "batch"], at[kind, "none"]) for kind in kinds}
    effect = difference(gains["blind"], gains["sigma 25"])
    arms = {f"{norm}, {kind}": runs[kind, norm] for kind, norm in best}
    return Finding(
        [part(blind_gains_more, "gain", effect, void(**arms))],
        f"At sigma 25, batch norm changes the blind network by {gains['blind']} and the one for sigma 25 by "
        f"{gains['sigma 25']}.",
        [_by_noise("The same networks at all noise levels", {f"{k}, {n}": runs["measured", k, n] for k, n in best})],
    )


def _by_noise(title: str, measured: dict[str, Sequence[dict[str, list[float]] | None]]) -> Curves:
    """PSNR over the noise level, from the measurement `denoising`."""
    lines = {
        name: [(sigma, [mean_of(one[f"{sigma:g}"]) for one in found if one is not None]) for sigma in SIGMAS]
        for name, found in measured.items()
    }
    return Curves(title, "sigma", "PSNR (dB)", lines)


@claim(19, "Without batch norm my DnCNN is better, or does not converge")
def better_without_in_my_code(budget: Budget) -> Study:
    """Users of DnCNN's codes report both: better without batch norm (cszn/DnCNN, issues 34 and 86), and no convergence
    without it (wbhu/DnCNN-tensorflow, issue 29).

    The map of final PSNR over initial weights, norm and Adam's learning rate. With gains of 1 and a rate of 1e-3, as in
    most PyTorch code, no norm should be ahead; with each at its best, batch norm.
    """
    best = yield from tuned(budget, {norm: budget.denoising(norm=norm) for norm in TWINS})
    grid = {
        (norm, init, rate): budget.denoising(norm=norm, init=init).with_optim(lr=rate)
        for norm in TWINS
        for init in INITS
        for rate in MAP_RATES
    }
    runs = yield {**best, **grid}
    usual = gain(runs["none", *USUAL], runs["batch", *USUAL])
    at_best = gain(runs["batch"], runs["none"])
    failed = {norm: failures([run for key in grid if key[0] == norm for run in runs[key]]) for norm in TWINS}
    return Finding(
        [
            part(
                better_without_in_my_code, "usual settings", usual,
                void(**{norm: runs[norm, *USUAL] for norm in TWINS}),
            ),
            part(better_without_in_my_code, "each at its best", at_best, void(batch=runs["batch"], none=runs["none"])),
        ],
        f"With gains of 1 and Adam 1e-3, no norm ends {usual} relative to batch norm; with what suits each best "
        f"({'; '.join(f'{norm}: {words(best[norm])}' for norm in TWINS)}), batch norm ends {at_best} relative "
        "to no norm. "
        f"Failed runs of the map: {failed['none']} without norm, {failed['batch']} with. Convergence is shown, not "
        "judged.",
        [
            HeatMap(
                f"Final PSNR (dB), norm: {norm}", "Adam's learning rate", "init", list(INITS),
                [f"{rate:g}" for rate in MAP_RATES],
                [[psnr(runs[norm, init, rate]).mean for rate in MAP_RATES] for init in INITS],
                low=20,
                notes=[[diverged(runs[norm, init, rate]) for rate in MAP_RATES] for init in INITS],
            )
            for norm in TWINS
        ],
    )  # fmt: skip


@claim(21, "Networks without any additive constant work at noise levels that they were never trained for")
def bias_free_generalizes(budget: Budget) -> Study:
    """Mohan et al. 2020 (ICLR, arXiv:1906.05478): a network without additive constants is homogeneous, f(a x) = a f(x),
    and denoises far beyond the noise levels of its training; batch norm's mean and shift are such constants.

    Trained for sigma 0 to 25, scored at sigma 50, with and without constants. Bias-free batch norm divides by the
    deviation only.
    """
    base = replace(budget.denoising(), degradation=GaussianNoise(SEEN))
    base = replace(base, network=variant_of(base.network))
    keys = [(norm, free) for norm in TWINS for free in (True, False)]
    best = yield from tuned(budget, {(n, free): base.with_network(norm=n, bias_free=free) for n, free in keys})
    measured = {("measured", *key): Measurement(experiment, "denoising") for key, experiment in best.items()}
    runs = yield {**best, **measured}
    at = {key: of_images([one and one[UNSEEN] for one in runs["measured", *key]]) for key in keys}
    effects = {norm: difference(at[norm, True], at[norm, False]) for norm in TWINS}
    arms = {f"{norm}, bias_free {free}": runs[norm, free] for norm, free in keys}
    return Finding(
        [
            part(bias_free_generalizes, "no norm", effects["none"], void(**arms)),
            part(bias_free_generalizes, "batch norm", effects["batch"], void(**arms)),
        ],
        f"At sigma {UNSEEN}, never seen in training, networks without constants end {effects['none']} relative "
        "to usual "
        f"ones without norm, and {effects['batch']} with batch norm.",
        [
            _by_noise(
                "Trained for sigma 0 to 25",
                {f"{n}{', bias-free' if free else ''}": runs["measured", n, free] for n, free in keys},
            )
        ],
    )


@claim(24, "The norm belongs before the activation")
def norm_before_activation(budget: Budget) -> Study:
    """Ioffe & Szegedy 2015, section 3.2: x = W u + b is normalized, before the nonlinearity, because it "is more likely
    to have a symmetric, non-sparse distribution". Many later codes put the norm after the activation.

    DnCNN with convolution-norm-ReLU and with convolution-ReLU-norm, each at its own best.
    """
    base = replace(budget.denoising(), network=variant_of(budget.denoising(norm="batch").network))
    orders = ("norm-activation", "activation-norm")
    best = yield from tuned(budget, {order: base.with_network(order=order) for order in orders})
    runs = yield best
    effect = gain(runs[orders[0]], runs[orders[1]])
    return Finding(
        [part(norm_before_activation, "order", effect, void(**{order: runs[order] for order in orders}))],
        f"Convolution-norm-ReLU ends {effect} relative to convolution-ReLU-norm.",
        table=[{"order": o, "settings": words(best[o]), "PSNR (dB)": str(psnr(runs[o]))} for o in orders],
    )


@claim(25, "Networks of sigmoids train with batch norm only")
def sigmoid_needs_batch_norm(budget: Budget) -> Study:
    """Ioffe & Szegedy 2015, section 4.2.2: with sigmoids, Inception without batch norm never leaves chance level; with
    batch norm it trains, because the activations no longer saturate.

    DnCNN with sigmoids instead of ReLUs, each norm at its own best.
    """
    base = replace(budget.denoising(), network=variant_of(budget.denoising().network)).with_network(
        activation="sigmoid"
    )
    best = yield from tuned(budget, {norm: base.with_network(norm=norm) for norm in TWINS})
    runs = yield best
    ended = {"batch": psnr(runs["batch"]), "none": lenient_psnr(runs["none"])}
    effect = difference(ended["batch"], ended["none"])
    above = {norm: ended[norm].mean - input_psnr(runs[norm]) for norm in TWINS}
    return Finding(
        [part(sigmoid_needs_batch_norm, "sigmoid", effect, void(batch=runs["batch"]))],
        f"With sigmoids batch norm ends {effect} relative to no norm, whose failed runs count as their input; they end "
        f"{above['batch']:.1f} and {above['none']:.1f} dB above the noisy input.",
        table=[
            {
                "norm": norm, "settings": words(best[norm]), "PSNR (dB)": str(ended[norm]),
                "failed": failures(runs[norm]),
            }
            for norm in TWINS
        ],
    )  # fmt: skip


@claim(26, "Batch norm makes weight decay and dropout unnecessary")
def makes_weight_decay_and_dropout_unnecessary(budget: Budget) -> Study:
    """Ioffe & Szegedy 2015, section 4.2.1: with batch norm, dropout is removed and weight decay reduced by five.

    Training on 16 images, where regularization could matter, each norm at its own best settings without either.
    """
    base = replace(budget.denoising(), network=variant_of(budget.denoising().network))
    best = yield from tuned(budget, {norm: base.with_network(norm=norm) for norm in TWINS})
    ways = {norm: replace(best[norm], images=SEVERAL) for norm in TWINS}
    runs = yield {
        **{(norm, "neither"): ways[norm] for norm in TWINS},
        **{(norm, "weight decay"): ways[norm].with_optim(weight_decay=DECAY) for norm in TWINS},
        **{(norm, "dropout"): ways[norm].with_network(dropout=DROPOUT) for norm in TWINS},
    }
    names = ("weight decay", "dropout")
    gains = {(norm, name): gain(runs[norm, name], runs[norm, "neither"]) for norm in TWINS for name in names}
    arms = {f"{norm}, {name}": found for (norm, name), found in runs.items()}
    return Finding(
        [
            part(
                makes_weight_decay_and_dropout_unnecessary, name,
                difference(gains["none", name], gains["batch", name]), void(**arms),
            )
            for name in names
        ],
        " ".join(
            f"{name.capitalize()} changes no norm by {gains['none', name]} and batch norm by {gains['batch', name]}."
            for name in names
        ),
        table=[{"norm": n, "with": name, "PSNR (dB)": str(psnr(found))} for (n, name), found in runs.items()],
    )  # fmt: skip


@claim(27, "What batch norm gives Adam, Muon gives without it")
def muon_gives_what_batch_norm_gives(budget: Budget) -> Study:
    """This project's own: Muon (Jordan 2024) makes each weight update orthogonal, and so as independent of the scale of
    its gradient as batch norm makes it of the scale of the weights.

    Both optimizers with and without batch norm, all four at their own best. What Muon leaves to Adam has the rate that
    suits Adam alone.
    """
    keys = [(name, norm) for name in ("adam", "muon") for norm in TWINS]
    best = yield from tuned(budget, {("adam", norm): budget.denoising(norm=norm) for norm in TWINS})
    muon = {(name, norm): one.with_optim(optimizer="muon") for (name, norm), one in best.items()}
    best |= yield from tuned(budget, {("muon", norm): one for (_, norm), one in muon.items()})
    runs = yield best
    times = yield from timed({" ".join(key): best[key] for key in keys})
    gains = {name: gain(runs[name, "batch"], runs[name, "none"]) for name in ("adam", "muon")}
    without = gain(runs["muon", "none"], runs["adam", "batch"])
    arms = void(**{f"{name}, {norm}": runs[name, norm] for name, norm in keys})
    return Finding(
        [
            part(
                muon_gives_what_batch_norm_gives, "with Adam less with Muon",
                difference(gains["adam"], gains["muon"]), arms,
            ),
            part(muon_gives_what_batch_norm_gives, "Muon without norm", without, arms),
        ],
        f"Batch norm adds {gains['adam']} with Adam and {gains['muon']} with Muon; no norm with Muon ends {without} "
        f"relative to batch norm with Adam.",
        table=[
            {
                "optimizer": name, "norm": norm, "settings": words(best[name, norm]),
                "PSNR (dB)": str(psnr(runs[name, norm])),
                f"a step (s), {processor(times)}": f"{times.of(f'{name} {norm}'):.4f}",
            }
            for name, norm in keys
        ],
    )  # fmt: skip
