"""python -m restore.study: claims about batch norm -> experiments -> verdicts."""

import argparse
import logging
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from restore import command
from restore.data.catalog import default_root
from restore.errors import UserError
from restore.report import print_table
from restore.studies.budget import BUDGETS, BudgetName
from restore.studies.claims import CLAIMS
from restore.studies.contrast import FULL, Contrast, campaign
from restore.studies.contrast_report import write_contrast
from restore.studies.criteria import CONTRAST
from restore.studies.data import CollectionName, StudyData
from restore.studies.judgement import Finding
from restore.studies.plan import plan
from restore.studies.report import overview, write_report
from restore.studies.requests import Archive, Request
from restore.studies.runner import put_on_record
from restore.studies.stages import Standing, follow

LOG = logging.getLogger("restore.study")  # also when this module is run

EXAMPLES = """examples:
  python -m restore.study list                                     the claims, who makes them, what would decide them
  python -m restore.study run --budget smoke                       all of them, a few steps each; proves the machinery
  python -m restore.study run higher_learning_rates --budget small one of them, on photographs that need no download
  python -m restore.study run --budget small --data papers --data.root DATA --for 150m
                                                                   all, on the papers' images; run it again to go on
  python -m restore.study report runs/study                        judge once more from what is on record
  python -m restore.study plan runs/study                          how many seeds each comparison needs
  python -m restore.study contrast --for 150m --output runs/contrast --data.root DATA
"""
STOPPED = "stopped; the same command goes on from here"


def main(argv: list[str] | None = None) -> int:
    args = _parser().parse_args(argv)
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
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = command.ArgumentParser("restore.study", "Put what is said about batch norm to the test.", EXAMPLES)
    actions = parser.add_subparsers(dest="action", required=True, parser_class=command.ActionParser)
    actions.add_parser("list", help="the claims")
    run = actions.add_parser("run", help="train and measure what is not on record, then judge and report")
    run.add_argument("claims", nargs="*", metavar="CLAIM", help=f"all (default), or of: {', '.join(CLAIMS)}")
    run.add_argument("--budget", choices=get_args(BudgetName), default="smoke", help="sizes and lengths")
    run.add_argument("--seeds", type=int, help="repetitions of each experiment (default: the budget's)")
    run.add_argument(
        "--data",
        choices=get_args(CollectionName),
        default="photos",
        help="photos: of scikit-image, no download; papers: training on Train400 and BSDS500, scores on BSD68, Set12, "
        "B100 and Set5, settings chosen on photographs",
    )
    contrast = actions.add_parser("contrast", help="the contrast at full size: go on with it")
    for parser_of, folder in ((run, "runs/study"), (contrast, "runs/contrast")):
        parser_of.add_argument("--output", type=Path, default=Path(folder), help=f"folder (default: {folder})")
        parser_of.add_argument("--for", dest="limit", metavar="TIME", type=duration, help="stop after 90s, 150m or 2h")
        parser_of.add_argument("--jobs", type=int, help="trainings at once (default: one for each GPU, or each core)")
        parser_of.add_argument(
            "--data.root", dest="root", type=Path, help="where data sets lie (default: RESTORE_DATA or data)"
        )
    for name, words in (("report", "judge once more from records.json"), ("plan", "how many seeds are needed")):
        action = actions.add_parser(name, help=words)
        action.add_argument("folder", type=Path, metavar="DIR", help="folder of the studies")
    return parser


def duration(text: str) -> float:
    """The type of `--for`: seconds."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(s|m|h)", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"expected a number with s, m or h, such as 150m, found {text!r}")
    return float(match[1]) * {"s": 1, "m": 60, "h": 3600}[match[2]]


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
        raise UserError(f"{unknown[0]}: no such claim; known: all, {', '.join(CLAIMS)}")
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
    """The claims that have all of their runs on record."""
    followed = {claim.name: follow(claim.study(archive.budget), archive) for claim in CLAIMS.values()}
    found = {name: one for name, one in followed.items() if one.outcome is not None}
    if not found:
        raise UserError(f"{folder}: no claim has all of its runs on record")
    return found


def _report(archive: Archive, folder: Path) -> None:
    standings = _standings(archive, folder)
    written = write_report(archive, standings, folder)
    print_table(f"budget {archive.budget.name}, {archive.seeds} seeds", overview(standings, archive))
    if waiting := [name for name in CLAIMS if name not in standings]:
        print(f"not all on record yet: {', '.join(waiting)}")
    print(f"written: {', '.join(map(str, written))}")


def _plan(archive: Archive, folder: Path) -> None:
    print_table("seeds for a power of 80 %, two-sided at 5 %", plan(_standings(archive, folder)))


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


if __name__ == "__main__":
    command.run(main)
