"""What `restore study` does: lists claims, runs what is not on record, judges and reports."""

import argparse
import logging
import time
from collections.abc import Sequence
from pathlib import Path

from restore.data.catalog import default_root
from restore.errors import UserError
from restore.studies.budget import BUDGETS
from restore.studies.claims import CLAIMS
from restore.studies.contrast import FULL, Contrast, campaign
from restore.studies.contrast_report import write_contrast
from restore.studies.criteria import CONTRAST
from restore.studies.data import StudyData
from restore.studies.judgement import Finding
from restore.studies.plan import plan
from restore.studies.report import overview, write_report
from restore.studies.requests import Archive, Request
from restore.studies.runner import put_on_record
from restore.studies.stages import Standing, follow
from restore.tables import print_table

LOG = logging.getLogger(__name__)

STOPPED = "stopped; the same command goes on from here"


def act(args: argparse.Namespace) -> None:
    """Do what the arguments of `restore study` say.

    Raises:
        UserError: there is no such claim or budget, or no claim has all of its runs on record.
    """
    match args.action:
        case "list":
            _list()
        case "run":
            _run(args)
        case "report":
            _report(Archive.load(args.folder / "records.json"), args.folder)
        case "plan":
            _plan(Archive.load(args.folder / "records.json"), args.folder)
        case "contrast":
            _contrast(args)


def _list() -> None:
    for claim in sorted(CLAIMS.values(), key=lambda claim: claim.number):
        indented = claim.about.replace("\n", "\n    ")
        print(f"{claim.number:2}. {claim.name}: {claim.title}\n    {indented}")
        for name, criterion in claim.criteria.items():
            print(f"    {name}: {criterion.direction} {criterion.threshold:g} {criterion.unit}; {criterion.estimand}")
        print()


def _run(args: argparse.Namespace) -> None:
    names = list(CLAIMS) if args.claims in ([], ["all"]) else args.claims
    if unknown := [name for name in names if name not in CLAIMS]:
        raise UserError(f"{unknown[0]}: unknown claim; known: all, {', '.join(CLAIMS)}")
    budget = BUDGETS[args.budget]
    for option, value in (("--seeds", args.seeds), ("--jobs", args.jobs)):
        if value is not None and value < 1:
            raise UserError(f"{option} must be at least 1, not {value}")
    data = StudyData(args.data, args.root or default_root(), budget.images, budget.crop)
    criteria = {f"{name}/{part}": it for name in names for part, it in CLAIMS[name].criteria.items()}
    archive = Archive.opened(args.output / "records.json", budget, data, args.seeds or budget.seeds, criteria)
    until = None if args.limit is None else time.time() + args.limit
    while requests := _waiting_for(names, archive):
        if not put_on_record(requests, archive, args.output, jobs=args.jobs, until=until):
            LOG.info(STOPPED)
            break
    _report(archive, args.output)


def _waiting_for(names: Sequence[str], archive: Archive) -> dict[object, Request]:
    """What claims ask for next and is not on record."""
    standings = {name: follow(CLAIMS[name].study(archive.budget), archive) for name in names}
    return {(name, key): it for name, one in standings.items() for key, it in one.waiting_for.items()}


def _standings(archive: Archive, folder: Path) -> dict[str, Standing[Finding]]:
    """The claims that were asked for and have all of their runs on record."""
    followed = {name: follow(CLAIMS[name].study(archive.budget), archive) for name in _asked_for(archive)}
    found = {name: one for name, one in followed.items() if one.outcome is not None}
    if not found:
        raise UserError(f"{folder}: no claim has all of its runs on record")
    return found


def _asked_for(archive: Archive) -> list[str]:
    """The claims whose criteria were noted, in any start."""
    noted = {key.split("/")[0] for key in archive.criteria}
    return [name for name in CLAIMS if name in noted]


def _report(archive: Archive, folder: Path) -> None:
    standings = _standings(archive, folder)
    written = write_report(archive, standings, folder)
    print_table(f"budget {archive.budget.name}, {archive.seeds} seeds", overview(standings, archive))
    if waiting := [name for name in _asked_for(archive) if name not in standings]:
        print(f"not all on record yet: {', '.join(waiting)}")
    print(f"written: {', '.join(map(str, written))}")


def _plan(archive: Archive, folder: Path) -> None:
    rows = plan(_standings(archive, folder))
    if not rows:
        raise UserError(f"{folder}: no comparison has two seeds on record; run the studies with more --seeds first")
    print_table("seeds for a power of 80 %, two-sided at 5 %", rows)


def _contrast(args: argparse.Namespace) -> None:
    until = None if args.limit is None else time.time() + args.limit
    data = StudyData("papers", args.root or default_root())
    archive = Archive.opened(args.output / "records.json", FULL, data, FULL.seeds, CONTRAST)
    while True:
        found = Contrast({}, {})
        standing = follow(campaign(found), archive)
        if not standing.waiting_for:
            break
        LOG.info(found.stage)
        if not put_on_record(standing.waiting_for, archive, args.output, jobs=args.jobs, until=until):
            LOG.info(f"during the {found.stage}: {STOPPED}")
            break
    print(f"written: {', '.join(map(str, write_contrast(archive, found, args.output)))}")
