"""python -m restore.study: claims about batch norm -> experiments -> verdicts."""

import argparse
from pathlib import Path
from typing import get_args

from restore import command
from restore.data.catalog import default_root
from restore.errors import UserError
from restore.report import print_table
from restore.studies.budget import BUDGETS, BudgetName
from restore.studies.claims import CLAIMS
from restore.studies.experiment import Bench
from restore.studies.laboratory import Archive, fulfil
from restore.studies.ledger import ledger, write_report

EXAMPLES = """examples:
  python -m restore.study list                                     the claims, who makes them, what would refute them
  python -m restore.study run --budget smoke                       all of them in three minutes; proves the machinery
  python -m restore.study run higher_learning_rates --budget cpu   one of them, on photographs
  python -m restore.study run all --budget cpu --seeds 3 --data.train BSDS500 --data.test B100 --data.root DATA
  python -m restore.study report runs/study                        judge once more from what is on record
"""


def main(argv: list[str] | None = None) -> int:
    parser = command.ArgumentParser("restore.study", "Put what is said about batch norm to the test.", EXAMPLES)
    actions = parser.add_subparsers(dest="action", required=True, parser_class=command.ActionParser)
    actions.add_parser("list", help="the claims")
    run = actions.add_parser("run", help="train and measure what is not on record, then judge and report")
    run.add_argument("claims", nargs="*", metavar="CLAIM", help=f"all (default), or of: {', '.join(CLAIMS)}")
    run.add_argument("--budget", choices=get_args(BudgetName), default="smoke", help="sizes and lengths")
    run.add_argument("--seeds", type=int, help="repetitions of each experiment (default: the budget's)")
    run.add_argument("--output", type=Path, default=Path("runs/study"), help="folder of the studies")
    run.add_argument("--jobs", type=int, help="trainings at once (default: one for each GPU, or each core)")
    run.add_argument("--data.train", dest="train", default="photos", help="data set or folder to train on")
    run.add_argument("--data.test", dest="test", default="photos", help="data set or folder to score on")
    run.add_argument("--data.root", dest="root", type=Path, help="where data sets lie (default: RESTORE_DATA or data)")
    report = actions.add_parser("report", help="judge once more from records.json and write the report")
    report.add_argument("folder", type=Path, metavar="DIR", help="folder of the studies")
    args = parser.parse_args(argv)
    match args.action:
        case "list":
            _list()
        case "run":
            _run(args)
        case "report":
            _report(Archive.load(args.folder / "records.json"), args.folder)
    return 0


def _list() -> None:
    for claim in sorted(CLAIMS.values(), key=lambda claim: claim.number):
        indented = claim.about.replace("\n", "\n    ")
        print(f"{claim.number:2}. {claim.name}: {claim.title}\n    {indented}\n")


def _run(args: argparse.Namespace) -> None:
    names = list(CLAIMS) if args.claims in ([], ["all"]) else args.claims
    if unknown := [name for name in names if name not in CLAIMS]:
        raise UserError(f"{unknown[0]}: no such claim; known: all, {', '.join(CLAIMS)}")
    budget = BUDGETS[args.budget]
    for option, value in (("--seeds", args.seeds), ("--jobs", args.jobs)):
        if value is not None and value < 1:
            raise UserError(f"{option} must be at least 1, not {value}")
    bench = Bench(args.train, args.test, args.root or default_root(), budget.crops, budget.crop)
    archive = Archive(budget, bench, args.seeds or budget.seeds)
    fulfil(names, archive, args.output, args.jobs)
    _report(archive, args.output)


def _report(archive: Archive, folder: Path) -> None:
    on_record = [claim for claim in CLAIMS.values() if archive.covers(claim)]
    if not on_record:
        raise UserError(f"{folder}: no claim has all of its runs on record")
    findings = {claim.name: archive.judge(claim) for claim in on_record}
    written = write_report(archive, findings, folder)
    print_table(f"budget {archive.budget.name}, {archive.seeds} seeds", ledger(findings))
    print(f"written: {', '.join(map(str, written))}")


if __name__ == "__main__":
    command.run(main)
