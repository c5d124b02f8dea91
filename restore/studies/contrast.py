"""The contrast at full size: DnCNN with batch norm and without, EDSR without and with, over size and length.

A campaign of many hours in stages, each complete before the next: settings are searched, then rounds of ever longer
runs are made, each arm and seed of a round before the next round. Before a round that is longer than the search, each
arm is offered lower learning rates at its length.
"""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace

from restore.models.init import DnCNNInit
from restore.studies.arms import SEEDS
from restore.studies.budget import BUDGETS, Budget
from restore.studies.experiment import Experiment, Record
from restore.studies.requests import Requests, Results
from restore.studies.step_memory import features_of_equal_memory
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
LARGER = "none, as much memory"  # as batch norm takes, spent on features

Arm = tuple[str, str]  # of which network, and which of its arms


def denoising_candidates(size: Size, budget: Budget = FULL) -> dict[Arm, list[Experiment]]:
    """What the search chooses from, for DnCNN of a size with batch norm and without."""
    base = replace(budget, depth=size.depth, features=size.features)
    return {(size.name, norm): [base.denoising(norm=norm, init=init) for init in INITS[norm]] for norm in NORMS}


def edsr_candidates(budget: Budget = FULL) -> dict[Arm, list[Experiment]]:
    """EDSR without batch norm and with it; initial weights are given, learning rates are searched."""
    return {("EDSR", norm): [budget.edsr(norm=norm)] for norm in ("none", "batch")}


def further_candidates(budget: Budget = FULL) -> dict[Arm, list[Experiment]]:
    """The other arms in super-resolution: a start of each block at 0, as much memory as batch norm takes, other
    networks and norms."""
    features = features_of_equal_memory(budget)
    return {
        ("EDSR", "batch, gain 0"): [budget.edsr(norm="batch", init="zero")],
        ("EDSR", LARGER): [budget.edsr(norm="none").with_network(features=features)],
        ("SRResNet", "batch"): [budget.srresnet(norm="batch")],
        ("WDSR-B", "none"): [budget.wdsr("WDSRB", norm="none")],
        ("WDSR-B", "weight"): [budget.wdsr("WDSRB", norm="weight")],
        ("WDSR-B", "batch"): [budget.wdsr("WDSRB", norm="batch")],
    }


def arms() -> dict[Arm, Experiment]:
    """One experiment of each arm: what its steps take does not depend on initial weights or learning rate."""
    groups = [*map(denoising_candidates, SIZES), edsr_candidates(), further_candidates()]
    return {arm: candidates[0] for group in groups for arm, candidates in group.items()}


@dataclass
class Contrast:
    """What the campaign has so far.

    Attributes:
        tuned: what the search found, by arm.
        runs: by arm and length, one record a seed.
        stage: what is under way, in words; empty at the end.
    """

    tuned: dict[Arm, Tuned]
    runs: dict[tuple[Arm, int], Sequence[Record]]
    stage: str = ""


def campaign(found: Contrast) -> Generator[Requests, Results, None]:
    """The stages in order; `found` is filled as they are answered.

    The two central pairs, DnCNN and EDSR, go first: each up to 1500 steps, then both to 6000. After them the other arms
    in super-resolution are made as far, and from then on all continue together.
    """
    denoising: dict[Arm, list[Experiment]] = {}
    for size in SIZES:
        yield from _search(found, candidates := denoising_candidates(size), TUNING_RATES)
        denoising |= candidates
    first, second, last = FULL.lengths[:2], FULL.lengths[2:4], FULL.lengths[4:]
    yield from _rounds(found, first, denoising)
    yield from _search(found, edsr := edsr_candidates(), SUPER_RESOLUTION_RATES)
    yield from _rounds(found, first, edsr)
    yield from _rounds(found, second, denoising, edsr)
    yield from _search(found, further := further_candidates(), SUPER_RESOLUTION_RATES)
    yield from _rounds(found, [*first, *second], further)
    yield from _rounds(found, last, denoising, edsr, further)
    found.stage = ""


def _search(
    found: Contrast, candidates: dict[Arm, list[Experiment]], rates: Sequence[float]
) -> Generator[Requests, Results, None]:
    """Settings for the lengths up to 1500 steps, each of which has its own best."""
    found.stage = f"search of settings, {_names(candidates)}"
    judged = [length for length in FULL.tuning_lengths if length in FULL.lengths]
    found.tuned |= yield from tune(candidates, rates, FULL.tuning_lengths, SEEDS, judged)


def _rounds(
    found: Contrast, lengths: Sequence[int], *groups: Mapping[Arm, object]
) -> Generator[Requests, Results, None]:
    for length in lengths:
        for arms in groups:
            yield from _round(found, arms, length)


def _round(found: Contrast, arms: Mapping[Arm, object], length: int) -> Generator[Requests, Results, None]:
    names = _names(arms)
    if length > FULL.tuning_lengths[-1]:
        found.stage = f"learning rates for {length} steps, {names}"
        found.tuned |= yield from for_longer({arm: found.tuned[arm] for arm in arms}, length, SEEDS)
    found.stage = f"round of {length} steps, {names}"
    results = yield {(arm, length): found.tuned[arm].by_length[length] for arm in arms}
    found.runs |= results


def _names(arms: Mapping[Arm, object]) -> str:
    return ", ".join(dict.fromkeys(name for name, _ in arms))
