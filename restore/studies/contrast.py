"""The contrast at full size: DnCNN with batch norm and without, EDSR without and with, over size and length.

A campaign of many hours. Each group of arms goes through stages: settings are searched, then rounds of ever longer
runs are made, each arm and seed of a round before the next round. Before a round that is longer than the search, each
arm is offered lower learning rates at its length.
"""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from restore.models.init import DnCNNInit
from restore.studies.arms import SEEDS
from restore.studies.budget import BUDGETS
from restore.studies.experiment import Experiment, Record, steps_of
from restore.studies.requests import Requests, Results, StudyRecords
from restore.studies.stages import follow
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
CENTRAL_FIRST = 6000  # steps to which the central groups go before the others begin

Arm = tuple[str, str]  # of which network, and which of its arms
# Learning rates beside those that the searches chose, which are a factor of three apart: halfway to the next higher
# one, and without norm that one too, with which some seeds of the searches collapse. Explored at one length, with the
# seeds of its round; the verdicts stay with the rates of the searches.
OTHER_RATES: dict[Arm, tuple[float, ...]] = {
    (FULL_SIZE.name, "none"): (5.5e-4, 1e-3),
    (FULL_SIZE.name, "batch"): (1.8e-2,),
    ("EDSR", "none"): (5.5e-4, 1e-3),
    ("EDSR", "batch"): (1.8e-3,),
}
OTHER_RATES_LENGTH = 3000


def denoising_candidates(size: Size) -> dict[Arm, list[Experiment]]:
    """What the search chooses from, for DnCNN of a size with batch norm and without."""
    base = replace(FULL, depth=size.depth, features=size.features)
    return {(size.name, norm): [base.denoising(norm=norm, init=init) for init in INITS[norm]] for norm in NORMS}


def edsr_candidates() -> dict[Arm, list[Experiment]]:
    """EDSR without batch norm and with it; initial weights are given, learning rates are searched."""
    return {("EDSR", norm): [FULL.edsr(norm=norm)] for norm in ("none", "batch")}


def further_candidates() -> dict[Arm, list[Experiment]]:
    """The other arms in super-resolution: a start of each block at 0, as much memory as batch norm takes, other
    networks and norms."""
    features = features_of_equal_memory(FULL)
    return {
        ("EDSR", "batch, gain 0"): [FULL.edsr(norm="batch", init="zero")],
        ("EDSR", LARGER): [FULL.edsr(norm="none").with_network(features=features)],
        ("SRResNet", "batch"): [FULL.srresnet(norm="batch")],
        ("WDSR-B", "none"): [FULL.wdsr("WDSRB", norm="none")],
        ("WDSR-B", "weight"): [FULL.wdsr("WDSRB", norm="weight")],
        ("WDSR-B", "batch"): [FULL.wdsr("WDSRB", norm="batch")],
    }


@dataclass(frozen=True)
class Group:
    """Arms that are searched together and go from round to round together.

    Attributes:
        candidates: for each arm, what its search chooses from.
        rates: with which the search begins.
        central: whether it goes before those that are not, up to `CENTRAL_FIRST` steps.
    """

    candidates: Mapping[Arm, list[Experiment]]
    rates: Sequence[float]
    central: bool = True


def groups() -> list[Group]:
    """All groups in the order in which they have their turns."""
    return [
        *(Group(denoising_candidates(size), TUNING_RATES) for size in SIZES),
        Group(edsr_candidates(), SUPER_RESOLUTION_RATES),
        Group(further_candidates(), SUPER_RESOLUTION_RATES, central=False),
    ]


def arms() -> dict[Arm, Experiment]:
    """One experiment of each arm: what its steps take does not depend on initial weights or learning rate."""
    return {arm: candidates[0] for group in groups() for arm, candidates in group.candidates.items()}


@dataclass
class Contrast:
    """What the campaign has so far.

    Attributes:
        tuned: what the search found, by arm.
        runs: by arm and length, one record a seed.
        stage: what comes next, in words; empty at the end.
        other_rates: by arm and learning rate, one record a seed, of `OTHER_RATES_LENGTH`.
    """

    tuned: dict[Arm, Tuned] = field(default_factory=dict)
    runs: dict[tuple[Arm, int], Sequence[Record]] = field(default_factory=dict)
    stage: str = ""
    other_rates: dict[tuple[Arm, float], Sequence[Record]] = field(default_factory=dict)


def so_far(records: StudyRecords) -> tuple[Contrast, Requests]:
    """What the campaign has, and what it asks for next; nothing at its end.

    The central groups, all sizes of DnCNN and EDSR, are made up to `CENTRAL_FIRST` steps, then the others as far; from
    then on all continue together. Among those, the group whose next stage needs the least computing has its turn. A
    group whose runs are on record, say from another machine, is told about as far as they go, whatever the others lack.
    """
    found = Contrast()
    turns: list[tuple[tuple[bool, bool, int], str, Requests]] = []
    for group in groups():
        for stages in (campaign, other_rates):
            requests = follow(stages(group, found), records).waiting_for
            if requests:
                missing = [task.experiment for task in records.missing(requests)]
                is_long = any(it.length > CENTRAL_FIRST for it in missing)
                turns.append(((is_long, not group.central, sum(map(_computing, missing))), found.stage, requests))
    _, found.stage, requests = min(turns, key=lambda turn: turn[0], default=(None, "", {}))
    return found, requests


def _computing(experiment: Experiment) -> int:
    """Of a run, roughly: the products of its convolutions, all steps' pixels times features squared times layers."""
    size = experiment.network.arguments
    layers = size["depth"] if "depth" in size else 2 * size["blocks"]
    return int(experiment.steps * experiment.batch_size * experiment.patch_size**2 * size["features"] ** 2 * layers)


def campaign(group: Group, found: Contrast) -> Generator[Requests, Results, None]:
    """A group's stages in order; `found` is filled as they are answered."""
    names = ", ".join(dict.fromkeys(name for name, _ in group.candidates))
    found.stage = f"search of settings, {names}"
    judged = [length for length in FULL.tuning_lengths if length in FULL.lengths]
    tuned = yield from tune(group.candidates, group.rates, FULL.tuning_lengths, SEEDS, judged)
    for length in FULL.lengths:
        if length > FULL.tuning_lengths[-1]:
            found.stage = f"learning rates for {steps_of(length):,} steps, {names}"
            tuned = yield from for_longer(tuned, length, SEEDS)
        found.tuned |= tuned
        found.stage = f"round of {steps_of(length):,} steps, {names}"
        found.runs |= yield {(arm, length): tuned[arm].by_length[length] for arm in group.candidates}


def other_rates(group: Group, found: Contrast) -> Generator[Requests, Results, None]:
    """`OTHER_RATES` of a group's arms whose round of that length is in `found`, which is filled further. Nothing waits
    for them."""
    for arm in group.candidates:
        if (rates := OTHER_RATES.get(arm)) and (arm, OTHER_RATES_LENGTH) in found.runs:
            found.stage = f"other learning rates, {' '.join(arm)}"
            chosen = found.tuned[arm].by_length[OTHER_RATES_LENGTH]
            found.other_rates |= yield {(arm, rate): chosen.with_rate(rate) for rate in rates}
