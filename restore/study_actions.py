"""What `restore study` does: lists claims, runs what is not on record, judges and reports."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import torch

from restore.choices import BudgetName, CollectionName
from restore.data.catalog import default_root
from restore.errors import UserError, nearest
from restore.hardware import available_device
from restore.studies.budget import BUDGETS
from restore.studies.claims import CLAIMS
from restore.studies.contrast import FULL, arms, so_far
from restore.studies.contrast_report import write_contrast
from restore.studies.criteria import CONTRAST
from restore.studies.data import StudyData
from restore.studies.judgement import Finding
from restore.studies.plan import plan
from restore.studies.pool import put_on_record
from restore.studies.report import overview, write_report
from restore.studies.requests import StudyRecords, Task
from restore.studies.stages import StudyState, follow
from restore.studies.step_times import measure
from restore.tables import print_table

LOG = logging.getLogger(__name__)

STOPPED = "stopped; the same command continues from here"


@dataclass(frozen=True)
class Repetitions:
    """How much is asked of each claim.

    Attributes:
        budget: sizes and lengths.
        seeds: repetitions of each experiment; None: the budget's.
        data: which images.
    """

    budget: BudgetName
    seeds: int | None = None
    data: CollectionName = "photos"


@dataclass(frozen=True)
class Running:
    """Where and how long experiments run.

    Attributes:
        output: the folder of records and reports.
        limit: seconds; None: to the end.
        jobs: trainings at once; None: one for each GPU, or each core.
        root: where data sets lie; None: RESTORE_DATA or `data`.
    """

    output: Path
    limit: float | None = None
    jobs: int | None = None
    root: Path | None = None

    @cached_property
    def until(self) -> float | None:
        """The time at which to stop, by the clock, counted from the first call."""
        return None if self.limit is None else time.time() + self.limit


def list_claims() -> None:
    """Print all claims with their criteria."""
    for claim in sorted(CLAIMS.values(), key=lambda claim: claim.number):
        indented = claim.about.replace("\n", "\n    ")
        print(f"{claim.number:2}. {claim.name}: {claim.title}\n    {indented}")
        for name, criterion in claim.criteria.items():
            print(f"    {name}: {criterion.in_words}")
        print()


def run(claims: Sequence[str], repetitions: Repetitions, running: Running) -> None:
    """Train and measure what the claims need and is not on record, as long as there is time; judge and report.

    Args:
        claims: names; none, or `all`, for all.
        repetitions: how much.
        running: where and how long.

    Raises:
        UserError: there is no such claim, or images are missing.
    """
    names = list(CLAIMS) if claims in ([], ["all"]) else claims
    if unknown := [name for name in names if name not in CLAIMS]:
        meant = nearest(unknown[0], CLAIMS)
        raise UserError(f"{unknown[0]}: unknown claim{meant}; known: all, {', '.join(CLAIMS)}")
    budget, seeds = BUDGETS[repetitions.budget], repetitions.seeds
    data = StudyData(repetitions.data, running.root or default_root(), budget.images, budget.crop)
    criteria = {f"{name}/{part}": it for name, claim in CLAIMS.items() for part, it in claim.criteria.items()}
    path = running.output / "records.json"
    data.check()
    records = StudyRecords.opened(path, budget, data, seeds or budget.seeds, criteria, names)
    ask = partial(_missing, list(names), records)
    if not put_on_record(ask, records, running.output, jobs=running.jobs, until=running.until):
        LOG.info(STOPPED)
        if not _states(records):
            LOG.info(f"no claim has all of its runs on record yet: {path} has {len(records.results)}")
            return
    _report(records, running.output)


def report(folder: Path) -> None:
    """Judge the records of a folder once more and write the report.

    Raises:
        UserError: there are no records, or no claim has all of its runs on record.
    """
    _report(StudyRecords.load(folder / "records.json"), folder)


def plan_seeds(folder: Path) -> None:
    """Print how many seeds each comparison on record would need.

    Raises:
        UserError: there are no records, or none of two seeds.
    """
    rows = plan(_states(StudyRecords.load(folder / "records.json")))
    if not rows:
        raise UserError(f"{folder}: no comparison has two seeds on record; run the studies with more --seeds first")
    print_table("seeds for a power of 80 %, two-sided at 5 %", rows)


def contrast(running: Running) -> None:
    """Go on with the contrast at full size as long as there is time, and write its page."""
    data = StudyData("papers", running.root or default_root())
    data.check()
    records = StudyRecords.opened(running.output / "records.json", FULL, data, FULL.seeds, CONTRAST)
    told: list[str] = []

    def ask() -> list[Task]:
        found, requests = so_far(records)
        if requests and found.stage not in told[-1:]:
            LOG.info(found.stage)
            told.append(found.stage)
        return records.missing(requests)

    complete = put_on_record(ask, records, running.output, jobs=running.jobs, until=running.until)
    found, _ = so_far(records)
    if not complete:
        LOG.info(f"during the {found.stage}: {STOPPED}")
    print(f"written: {', '.join(map(str, write_contrast(records, found, running.output)))}")


def time_steps(folder: Path, root: Path | None) -> None:
    """Time a step of each arm of the contrast, in turns, on the GPU or one thread; its page uses that from then on.

    Raises:
        UserError: there is no such folder, or images are missing.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; name the one of the contrast, which the times are for")
    torch.set_num_threads(1)  # as in the runs
    names = {" ".join(arm): experiment for arm, experiment in arms().items()}
    device = available_device()
    times = measure(names, StudyData("papers", root or default_root()), device)
    rows = [{"arm": name, "a step (s)": f"{times.of(name):.4f}"} for name in names]
    print_table(f"times of training steps, {device}", rows)
    print(f"written: {times.save(folder)}")


def _missing(names: list[str], records: StudyRecords) -> list[Task]:
    """What claims ask for next, each with its seeds, and is not on record; claims that have all leave `names`."""
    found: list[Task] = []
    for name in list(names):
        of_claim = records.with_seeds(records.asked[name])
        state = follow(CLAIMS[name].study(records.budget), of_claim)
        if state.outcome is not None:
            names.remove(name)
        found += of_claim.missing(state.waiting_for)
    return records.unrecorded(found)


def _states(records: StudyRecords) -> dict[str, StudyState[Finding]]:
    """The claims that were asked for and have all of their runs on record, with all of their seeds, or else the
    budget's."""
    found = {}
    for name in _asked_for(records):
        for seeds in (records.asked[name], records.budget.seeds):
            one = follow(CLAIMS[name].study(records.budget), records.with_seeds(seeds))
            if one.outcome is not None:
                found[name] = one
                break
    return found


def _asked_for(records: StudyRecords) -> list[str]:
    """The claims that were asked for in any start."""
    return [name for name in CLAIMS if name in records.asked]


def _report(records: StudyRecords, folder: Path) -> None:
    states = _states(records)
    if not states:
        raise UserError(f"{folder}: no claim has all of its runs on record")
    written = write_report(records, states, folder)
    print_table(f"budget {records.budget.name}", overview(states, records))
    complete = {name: one.seeds for name, one in states.items()}
    if waiting := [name for name in _asked_for(records) if complete.get(name) != records.asked[name]]:
        print(f"not all on record yet: {', '.join(waiting)}")
    print(f"written: {', '.join(map(str, written))}")
