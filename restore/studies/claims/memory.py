"""Claims about memory and about what happens to batch norm at inference. They need few runs or none."""

from functools import cache

from restore.models import NetworkSpec, build
from restore.models.recompute import Recompute
from restore.profiling import Step, forecast
from restore.studies.budget import Budget
from restore.studies.claim import Measurement, Study, claim
from restore.studies.figures import Bars
from restore.studies.judgement import Effect, Finding, all_of, is_above, is_below

CLAIMED = 40.0  # per cent
TOLERANCE = 5.0
RECOMPUTED = 1.08  # times the peak without norm, at most

# The recipes' sizes, whatever the budget: a forecast costs nothing but a second.
RECIPES = {
    "EDSR-baseline x2": Step(NetworkSpec("EDSR", {"scale": 2}), 16, 48, "l1"),
    "DnCNN-17": Step(NetworkSpec("DnCNN", {"depth": 17}), 128, 40),
    "SRResNet x4": Step(NetworkSpec("SRResNet", {"scale": 4}), 16, 24, "l1"),
}


@claim(1, "Removing batch norm saves about 40 % of the memory of training")
def forty_percent_of_memory(_: Budget) -> Study:
    """Lim et al. 2017 (EDSR), section 3.1: "our baseline model without batch normalization layer saves approximately
    40% of memory usage during training, compared to SRResNet".

    Tested on the same network with and without norm, by forecast of a training step in float32 at the recipe's sizes
    (see `restore.memory` for categories and real steps). Supported if EDSR-baseline saves 35 to 45 %; refuted if not.
    """
    yield {}
    peaks = {name: (_peak(name, "batch"), _peak(name, "none")) for name in RECIPES}
    saved = {name: 100 * (1 - without / with_norm) for name, (with_norm, without) in peaks.items()}
    effect = Effect((saved["EDSR-baseline x2"],), "%", stochastic=False)
    verdict = all_of(is_above(effect, CLAIMED - TOLERANCE), is_below(effect, CLAIMED + TOLERANCE))
    words = ", ".join(f"{name} {value:.1f} %" for name, value in saved.items())
    return Finding(
        verdict,
        effect,
        f"Without its norm a network's training step needs less memory: {words}.",
        [
            Bars(
                "Peak memory of a training step (forecast, float32)",
                "MiB",
                {name: {"batch": [a / 2**20], "none": [b / 2**20]} for name, (a, b) in peaks.items()},
            )
        ],
        [
            {"network": name, "batch (MiB)": a / 2**20, "none (MiB)": b / 2**20, "saved (%)": saved[name]}
            for name, (a, b) in peaks.items()
        ],
    )


@claim(18, "Folding batch norm changes nothing at inference, and recomputing it gives its memory back in training")
def folding_and_recomputing(budget: Budget) -> Study:
    """Folding is arithmetic (Jacob et al. 2018, section 3.2); that recomputing norms and activations in backward
    removes the memory argument against batch norm is this project's own claim.

    Supported if a trained DnCNN differs from its folded self by less than 1e-9 in float64, and if the step with
    recomputed norms peaks at no more than 1.08 times the step without norm, on every recipe; refuted if not.
    """
    runs = yield {"folding": Measurement(budget.denoising, "folding")}
    differences = [result["largest difference"] for result in runs["folding"]]
    ratios = {name: _peak(name, "batch", "norm") / _peak(name, "none") for name in RECIPES}
    worst = Effect((max(ratios.values()),), "x", stochastic=False)
    exact = Effect((max(differences),), "", stochastic=False)
    words = ", ".join(f"{name} {value:.2f}x" for name, value in ratios.items())
    return Finding(
        all_of(is_below(worst, RECOMPUTED), is_below(exact, 1e-9)),
        worst,
        f"Folding changes a trained DnCNN's output by at most {max(differences):.0e} (float64). With recomputed norms "
        f"a step peaks at so many times the memory of no norm at all: {words}.",
        [
            Bars(
                "Peak with recomputed batch norm, relative to no norm",
                "times",
                {n: {"": [v]} for n, v in ratios.items()},
            )
        ],
        [{"network": name, "peak / no norm": value} for name, value in ratios.items()],
    )


@cache
def _peak(recipe: str, norm: str, recompute: Recompute = "none") -> int:
    """Bytes."""
    step = RECIPES[recipe]
    spec = build(NetworkSpec(step.network.name, step.network.arguments | {"norm": norm, "recompute": recompute})).spec
    memory = forecast(Step(spec, step.batch, step.patch, step.loss)).memory
    assert memory is not None
    return memory.peak
