"""Claims about memory and about what happens to batch norm at inference. They need few runs or none."""

from functools import cache

from restore.models import NetworkSpec, complete
from restore.models.norm import Recompute
from restore.profiling import Profile, Step, forecast
from restore.studies.arms import tuned
from restore.studies.budget import Budget
from restore.studies.claim import Study, claim, part
from restore.studies.effects import Effect
from restore.studies.figures import Bars
from restore.studies.judgement import Finding
from restore.studies.requests import Measurement

# The recipes' sizes, whatever the budget: a forecast costs nothing but a second.
RECIPES = {
    "EDSR-baseline x2": Step(NetworkSpec("EDSR", {"scale": 2}), 16, 48, "l1"),
    "DnCNN-17": Step(NetworkSpec("DnCNN", {"depth": 17}), 128, 40),
    "SRResNet x4": Step(NetworkSpec("SRResNet", {"scale": 4}), 16, 24, "l1"),
    "EDSR-baseline x4": Step(NetworkSpec("EDSR", {"scale": 4}), 16, 24, "l1"),
}


@claim(1, "Removing batch norm saves about 40 % of the memory of training")
def forty_percent_of_memory(_: Budget) -> Study:
    """Lim et al. 2017 (EDSR), section 3.1: "our baseline model without batch normalization layer saves approximately
    40% of memory usage during training, compared to SRResNet".

    By forecast of the peak of a training step in float32 at the recipes' sizes, tensors and a convolution's workspace
    together (see `restore.memory` for categories and real steps): the paper's own comparison, SRResNet with its PReLUs
    against EDSR-baseline at x4, and each network with and without its norm. A GPU's total also holds the context of
    CUDA and what PyTorch keeps in reserve, so that 40 % of the peak is a smaller share of what nvidia-smi shows.
    """
    yield {}
    peaks = {name: (_peak(name, "batch"), _peak(name, "none")) for name in RECIPES}
    saved = {name: 100 * (1 - without / with_norm) for name, (with_norm, without) in peaks.items()}
    paper = 100 * (1 - _peak("EDSR-baseline x4", "none") / _peak("SRResNet x4", "batch"))
    tensors = 100 * (1 - _tensors("EDSR-baseline x4", "none") / _tensors("SRResNet x4", "batch"))
    words = ", ".join(f"{name} {value:.1f} %" for name, value in saved.items())
    return Finding(
        [
            part(forty_percent_of_memory, "SRResNet to EDSR", Effect((paper,), "%", stochastic=False)),
            part(
                forty_percent_of_memory,
                "EDSR's own norm",
                Effect((saved["EDSR-baseline x2"],), "%", stochastic=False),
            ),
        ],
        f"At the peak EDSR-baseline x4 saves {paper:.1f} % of SRResNet x4's memory; of the tensors alone, without the "
        f"convolution's workspace, it is {tensors:.1f} %. Without its norm a network's training step needs less "
        f"memory: {words}.",
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

    A trained DnCNN against its folded self in float64; the peak of a step with recomputed norms against no norm, by
    forecast, on every recipe.
    """
    best = yield from tuned(budget, {"batch": budget.denoising(norm="batch")})
    runs = yield {"folding": Measurement(best["batch"], "folding")}
    differences = [result["largest difference"] for result in runs["folding"] if result is not None]
    ratios = {name: _peak(name, "batch", "norm") / _peak(name, "none") for name in RECIPES}
    worst = Effect((max(ratios.values()),), "x", stochastic=False)
    exact = Effect((max(differences, default=float("nan")),), "", stochastic=False)
    words = ", ".join(f"{name} {value:.2f}x" for name, value in ratios.items())
    return Finding(
        [
            part(folding_and_recomputing, "folding", exact, "" if differences else "every run failed"),
            part(folding_and_recomputing, "recomputing", worst),
        ],
        f"Folding changes a trained DnCNN's output by at most {exact.mean:.0e} (float64). With recomputed "
        "norms the peak "
        f"of a step, relative to no norm at all, is {words}.",
        [
            Bars(
                "Peak with recomputed batch norm, relative to no norm",
                "times",
                {n: {"": [v]} for n, v in ratios.items()},
            )
        ],
        [{"network": name, "peak / no norm": value} for name, value in ratios.items()],
    )


def _peak(recipe: str, norm: str, recompute: Recompute = "none") -> int:
    """Bytes."""
    memory = _forecast(recipe, norm, recompute).memory
    assert memory is not None
    return memory.peak


def _tensors(recipe: str, norm: str) -> int:
    """The same without the convolution's workspace."""
    tensors = _forecast(recipe, norm).tensors
    assert tensors is not None
    return tensors


@cache
def _forecast(recipe: str, norm: str, recompute: Recompute = "none") -> Profile:
    step = RECIPES[recipe]
    spec = NetworkSpec(step.network.name, step.network.arguments | {"norm": norm, "recompute": recompute})
    return forecast(Step(complete(spec), step.batch, step.patch, step.loss))
