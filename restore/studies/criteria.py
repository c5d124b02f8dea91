"""What each comparison is about and what would decide it, stated before there are data.

A folder of studies keeps the hash, commit and date of each criterion from the first start on. A report says for each
verdict whether its criterion is older than its data.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Literal

VOID_DB = 1.0  # an arm that does not end so far above its input was never trained


@dataclass(frozen=True)
class Criterion:
    """What decides a comparison.

    Attributes:
        estimand: the quantity, in words.
        unit: of it: `dB`, `x` (a ratio), `%`, or none.
        direction: the claim says that the estimand is `above` the threshold, `below` it, or `between` it and `upper`.
        threshold, upper: in that unit.
        margin: what does not matter in practice. `equal` means that the 90 % interval lies within the margin around no
            effect (two one-sided tests at 5 %). None: the claim knows no `equal`.
        void: when the comparison says nothing.
    """

    estimand: str
    unit: str
    direction: Literal["above", "below", "between"]
    threshold: float
    margin: float | None = None
    upper: float | None = None
    void: str = f"an arm ends less than {VOID_DB:g} dB above its input, or more than half of its runs fail"

    @property
    def stochastic(self) -> bool:
        """Whether other seeds could give another value."""
        return self.void != _NO_ARM

    @property
    def in_words(self) -> str:
        """Estimand, threshold and margin in one sentence."""
        unit = f" {self.unit}" if self.unit and self.unit != "x" else ""
        upper = f" and {self.upper:g}{unit}" if self.upper is not None else ""
        margin = f"; equal within {self.margin:g}{unit}" if self.margin is not None else ""
        return f"{self.estimand}: {self.direction} {self.threshold:g}{unit}{upper}{margin}"

    @property
    def hash(self) -> str:
        """Changes with any part of it."""
        return hashlib.sha256(json.dumps(asdict(self)).encode()).hexdigest()[:12]


def registered(
    before: Mapping[str, Mapping[str, str]], criteria: Mapping[str, Criterion], commit: str | None
) -> dict[str, dict[str, str]]:
    """For each criterion its hash, and commit and date of the first start with it; a changed one counts as new.

    Args:
        before: what a folder of studies holds already.
        criteria: by name, those of this start.
        commit: of this start.
    """
    found = {name: dict(entry) for name, entry in before.items()}
    for name, criterion in criteria.items():
        if found.get(name, {}).get("hash") != criterion.hash:
            now = datetime.now(UTC).isoformat(timespec="seconds")
            found[name] = {"hash": criterion.hash, "commit": commit or "unknown", "since": now}
    return found


DENOISING_MARGIN_DB = 0.05
SUPER_RESOLUTION_MARGIN_DB = 0.03

# The contrast at full size: one estimand for each pair, at every length; "best" is that of the search at this length.
_COLLAPSED = "; a run that ends less than 1 dB above its input counts as failed and enters no mean"
CONTRAST: dict[str, Criterion] = {
    "DnCNN": Criterion(
        "batch norm less no norm, each at its own best init and learning rate (Adam), mean PSNR on BSD68, sigma 25, "
        f"at equal steps{_COLLAPSED}",
        "dB", "above", 0.0, DENOISING_MARGIN_DB,
    ),
    "EDSR": Criterion(
        "no norm less batch norm in EDSR-baseline x2, each at its own best learning rate (Adam), mean PSNR on B100, "
        f"sr-y, at equal steps{_COLLAPSED}",
        "dB", "above", 0.0, SUPER_RESOLUTION_MARGIN_DB,
    ),
    "EDSR, gain 0": Criterion(
        "no norm less batch norm whose last gain in each block starts at 0, otherwise as for EDSR",
        "dB", "above", 0.0, SUPER_RESOLUTION_MARGIN_DB,
    ),
    "EDSR, equal memory": Criterion(
        "no norm, with as many features as fit into the memory of batch norm's step (forecast, float32), less batch "
        "norm, otherwise as for EDSR",
        "dB", "above", 0.0, SUPER_RESOLUTION_MARGIN_DB,
    ),
    "SRResNet": Criterion(
        "EDSR-baseline x2 without norm less SRResNet x2 with batch norm, each at its own best learning rate (Adam), "
        f"L1, mean PSNR on B100, sr-y, at equal steps{_COLLAPSED}",
        "dB", "above", 0.0, SUPER_RESOLUTION_MARGIN_DB,
    ),
    "WDSR-B, weight": Criterion(
        "weight norm less batch norm in WDSR-B x2, each at its own best learning rate (Adam), mean PSNR on B100, sr-y, "
        f"at equal steps{_COLLAPSED}",
        "dB", "above", 0.0, SUPER_RESOLUTION_MARGIN_DB,
    ),
    "WDSR-B, none": Criterion(
        "no norm less batch norm in WDSR-B x2, otherwise as for weight norm",
        "dB", "above", 0.0, SUPER_RESOLUTION_MARGIN_DB,
    ),
}  # fmt: skip

# Steps and seconds until DnCNN reaches these on BSD68, between the ends of runs of two lengths on a straight line over
# the logarithm of their steps; not reached in the longest run: censored, and said so.
TARGETS_DB = (27.5, 28.0, 28.5, 28.75)

_D, _S = DENOISING_MARGIN_DB, SUPER_RESOLUTION_MARGIN_DB
_NO_ARM = "nothing: no network is trained"
_WITH_NORM_VOID = "batch norm ends less than 1 dB above its input, or more than half of its runs fail"


def _above(estimand: str, margin: float | None, threshold: float = 0.0, unit: str = "dB") -> Criterion:
    return Criterion(estimand, unit, "above", threshold, margin)


def _ratio_below(estimand: str) -> Criterion:
    return Criterion(estimand, "x", "below", 1.0, 0.1)


# By claim and part. Unless they say otherwise, estimands are differences in PSNR on the first test set (BSD68, B100),
# all its whole images, at the budget's first length, every arm with its own best initial weights and learning rate.
CRITERIA: dict[str, dict[str, Criterion]] = {
    "forty_percent_of_memory": {
        "SRResNet to EDSR": Criterion(
            "memory of a training step (forecast, float32) that EDSR-baseline x4 saves over SRResNet x4",
            "%", "between", 35.0, upper=45.0, void=_NO_ARM,
        ),
        "EDSR's own norm": Criterion(
            "the same that EDSR-baseline x2 without batch norm saves over itself with it",
            "%", "between", 35.0, upper=45.0, void=_NO_ARM,
        ),
    },
    "faster_and_better_denoising": {
        "faster": _above(
            "steps of no norm over steps of batch norm to 28.0 dB (budget mid: 28.4), both with residual learning and "
            "Adam", None, 1.5, "x",
        ),
        "better": _above("batch norm less no norm at the last length, residual learning, Adam", _D),
        "together": _above(
            "what residual learning adds with batch norm less what it adds without, Adam", _D,
        ),
    },
    "one_decibel": {
        "gain": _above("batch norm less no norm (a gain nearer to 1 dB than to none)", None, 0.5),
    },
    "better_without": {
        "equal steps": _above("EDSR x2, no norm less batch norm, at the last length", _S),
        "equal time": _above(
            "the same at the first length, batch norm at as many steps as take equal processor time", _S,
        ),
        "equal memory": _above(
            "the same at the first length, no norm with as many features as fit into batch norm's memory", _S,
        ),
    },
    "scale_is_lost": {
        "DnCNN": _above(
            "PSNR lost from contrast 1 to 0.5, noise scaled alike, batch norm less no norm", _D,
        ),
        "EDSR": _above("the same in EDSR x2", _S),
    },
    "higher_learning_rates": {
        "SGD": _above(
            "highest learning rate of SGD that ends within 1 dB of its norm's best and at least 1 dB above the input, "
            "batch norm over no norm; rates are a factor of 1.78 apart, by which the ratio is divided", None, 5.0, "x",
        ),
    },
    "insensitive_to_initialization": {
        "gains": _above(
            "PSNR lost from gain 1 to the worst of 0.1, 0.3, 3 and 10 on He's weights of all layers but the last, no "
            "norm less batch norm; a run that fails ends at its input", _D,
        ),
    },
    "fails_for_small_batches": {
        "batch 4": _above(
            "PSNR lost from batch 16 to batch 4 at equal patches (4 patches of the budget's size), batch norm less no "
            "norm; learning rates scaled by the root of the batch", _D, 0.1,
        ),
    },
    "weight_scale_does_not_matter": {
        "identities": Criterion(
            "largest deviation of BN(a W u) = BN(W u) and of the gradient's factor 1/a, a = 10, float64, eps 1e-30",
            "", "below", 1e-6, void=_NO_ARM,
        ),
    },
    "population_statistics": {
        "momentum 0.95": _above(
            "what exact statistics win back over the running ones at momentum 0.95, in mid-training at the full "
            "learning rate, validation images, mean over the second half of the run", _D, 0.1,
        ),
    },
    "internal_covariate_shift": {
        "shift": _ratio_below(
            "Santurkar's shift of the middle layer's gradient by the layers before it taking their real step (SGD), "
            "median of the second half of the run, batch norm over no norm",
        ),
    },
    "smoother_landscape": {
        f"{network}, {measure}": _ratio_below(f"{words}, {network}, median over the run, batch norm over no norm")
        for network in ("DnCNN", "EDSR")
        for measure, words in (
            ("loss", "range of the loss along the gradient, relative to the loss"),
            ("gradient", "change of the gradient along itself, relative to its norm"),
            ("beta", "effective beta-smoothness"),
        )
    },
    "residual_scaling": {
        "scale 0.1": _above(
            "wide EDSR, residual scale 0.1 less 1, mean over Adam's rates 3e-3 and 1e-2; a run that fails ends at its "
            "input", _S,
        ),
    },
    "weight_norm_replaces_batch_norm": {
        "over batch norm": _above("WDSR-B x2, weight norm less batch norm", _S),
        "over no norm": _above("WDSR-B x2, weight norm less no norm", _S),
    },
    "regularizes": {
        "generalization": _above(
            "PSNR lost by training on 4 images instead of all, no norm less batch norm", _D,
        ),
    },
    "blind_gains_more": {
        "gain": _above(
            "at sigma 25: gain by batch norm of networks for sigma 0 to 55 less gain of networks for sigma 25", _D,
        ),
    },
    "frozen_statistics": {
        "WDSR-B": _above(
            "WDSR-B x2, batch norm frozen in the decay less batch norm", _S,
        ),
        "EDSR": _above("the same in EDSR x2", _S),
    },
    "folding_and_recomputing": {
        "folding": Criterion(
            "largest change of a trained DnCNN's output by folding, float64", "", "below", 1e-9, void=_NO_ARM,
        ),
        "recomputing": Criterion(
            "peak of a training step with recomputed batch norm over no norm (forecast), the worst of three recipes",
            "x", "below", 1.08, void=_NO_ARM,
        ),
    },
    "better_without_in_my_code": {
        "usual settings": _above(
            "gain 1 (init he) and Adam 1e-3, the settings of most public code: no norm less batch norm", _D,
        ),
        "each at its best": _above("batch norm less no norm, each with its own best settings", _D),
    },
    "spots_in_mid_training": {
        "PSNR": _above(
            "momentum 0.1, in mid-training at the full learning rate: what exact statistics win back, validation "
            "images, mean over the second half of the run", _D, 0.1,
        ),
        "worst block": _above(
            "the same of the PSNR of the worst 16x16 block of each image", _D, 0.1,
        ),
    },
    "bias_free_generalizes": {
        "no norm": _above(
            "trained for sigma 0 to 25, at sigma 50: bias-free less usual network, no norm", _D,
        ),
        "batch norm": _above(
            "the same with batch norm, whose mean and shift are constants, too", _D,
        ),
    },
    "batch_norm_can_work_in_super_resolution": {
        name: _above(f"WDSR-B x2, {words} less batch norm", _S)
        for name, words in (("gain 0", "batch norm with gain 0 at each block's end"), ("AdaDM", "AdaDM"),
                            ("i-LN", "i-LN"))
    },
    "from_srresnet_to_edsr": {
        "batch norm out": _above("EDSR x2 without batch norm less EDSR x2 with it (L1)", _S),
    },
    "norm_before_activation": {
        "order": _above("DnCNN, convolution-norm-ReLU less convolution-ReLU-norm", _D),
    },
    "sigmoid_needs_batch_norm": {
        "sigmoid": Criterion(
            "DnCNN with sigmoids, batch norm less no norm", "dB", "above", 1.0, void=_WITH_NORM_VOID,
        ),
    },
    "makes_weight_decay_and_dropout_unnecessary": {
        name: _above(
            f"trained on 16 images: gain by {words}, no norm less batch norm", _D,
        )
        for name, words in (("weight decay", "weight decay 1e-4"), ("dropout", "dropout of 10 % of the features"))
    },
    "muon_gives_what_batch_norm_gives": {
        "with Adam less with Muon": _above("gain by batch norm with Adam less gain by batch norm with Muon", _D),
        "Muon without norm": _above("no norm with Muon less batch norm with Adam", _D),
    },
}  # fmt: skip
