"""The contrast at full size: DnCNN with batch norm and without, EDSR without and with, over size and length.

A campaign of many hours in stages, each complete before the next: settings are searched, then rounds of ever longer
runs are made, each arm and seed of a round before the next round. Before a round that is longer than the search, each
arm is offered lower learning rates at its length.
"""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace

from restore.models.init import DnCNNInit
from restore.studies.budget import BUDGETS, Budget
from restore.studies.experiment import Experiment, Record
from restore.studies.requests import Requests, Results
from restore.studies.tuning import Tuned, for_longer, tune

FULL = BUDGETS["full"]
TUNING_RATES = (1e-3, 3e-3, 1e-2)
SUPER_RESOLUTION_RATES = (3e-4, 1e-3, 3e-3)
# Initial weights that each arm chooses from. `he` (gain 1) with batch norm is far behind at every rate at 10x16, and
# kept out of the search at full size only.
INITS: dict[str, tuple[DnCNNInit, ...]] = {"batch": ("released", "kair"), "none": ("he", "small_last", "released")}


@dataclass(frozen=True)
class Size:
    """A DnCNN of the trend in size."""

    depth: int
    features: int

    @property
    def name(self) -> str:
        return f"{self.depth}x{self.features}"


FULL_SIZE = Size(FULL.depth, FULL.features)
SIZES = (Size(10, 16), Size(12, 32), Size(17, 32), FULL_SIZE)
NORMS = ("batch", "none")

Arm = tuple[str, str]  # of which network, and which of its arms


def denoising_candidates(size: Size, budget: Budget = FULL) -> dict[Arm, list[Experiment]]:
    """What the search chooses from, for DnCNN of a size with batch norm and without."""
    base = replace(budget, depth=size.depth, features=size.features)
    return {(size.name, norm): [base.denoising(norm=norm, init=init) for init in INITS[norm]] for norm in NORMS}


def super_resolution_candidates(budget: Budget = FULL) -> dict[Arm, list[Experiment]]:
    """The arms in super-resolution; their initial weights are given, their learning rates are searched."""
    return {
        ("EDSR", "none"): [budget.edsr(norm="none")],
        ("EDSR", "batch"): [budget.edsr(norm="batch")],
        ("EDSR", "batch, gain 0"): [budget.edsr(norm="batch", init="zero")],
        ("SRResNet", "batch"): [budget.srresnet(norm="batch")],
        ("WDSR-B", "none"): [budget.wdsr("WDSRB", norm="none")],
        ("WDSR-B", "weight"): [budget.wdsr("WDSRB", norm="weight")],
        ("WDSR-B", "batch"): [budget.wdsr("WDSRB", norm="batch")],
    }


@dataclass
class Contrast:
    """What the campaign has so far.

    Attributes:
        tuned: what the search found, by arm.
        runs: by arm and length, one record a seed.
        stage: what is under way, in words.
    """

    tuned: dict[Arm, Tuned]
    runs: dict[tuple[Arm, int], Sequence[Record]]
    stage: str = ""


def campaign(found: Contrast) -> Generator[Requests, Results, None]:
    """The stages in order; `found` is filled as they are answered.

    Denoising goes first up to 1500 steps, so that there is a complete result early; then both continue together.
    """
    denoising: dict[Arm, list[Experiment]] = {}
    for size in SIZES:
        found.stage = f"search of settings, DnCNN {size.name}"
        denoising |= (candidates := denoising_candidates(size))
        found.tuned |= yield from tune(candidates, TUNING_RATES, FULL.tuning_lengths)
    first, later = FULL.lengths[:2], FULL.lengths[2:]
    for length in first:
        yield from _round(found, denoising, length)
    super_resolution = super_resolution_candidates()
    found.stage = "search of settings, super-resolution"
    found.tuned |= yield from tune(super_resolution, SUPER_RESOLUTION_RATES, FULL.tuning_lengths)
    for length in first:
        yield from _round(found, super_resolution, length)
    for length in later:
        yield from _round(found, denoising, length)
        yield from _round(found, super_resolution, length)


def _round(found: Contrast, arms: Mapping[Arm, object], length: int) -> Generator[Requests, Results, None]:
    names = ", ".join(dict.fromkeys(name for name, _ in arms))
    if length > FULL.tuning_lengths[-1]:
        found.stage = f"learning rates for {length} steps, {names}"
        found.tuned |= yield from for_longer({arm: found.tuned[arm] for arm in arms}, length)
    found.stage = f"round of {length} steps, {names}"
    results = yield {(arm, length): found.tuned[arm].best.of_length(length) for arm in arms}
    found.runs |= results
