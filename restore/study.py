"""restore study: claims about batch norm -> experiments -> verdicts."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from restore import command
from restore.data.catalog import default_root
from restore.errors import UserError
from restore.tables import print_table

if TYPE_CHECKING:  # with torch, which is not imported before the arguments are known to be right
    from restore.studies.laboratory import Archive

EXAMPLES = """examples:
  restore study list                            the claims
  restore study run --budget smoke              all, tiny: three minutes
  restore study run higher_learning_rates --budget cpu
  restore study run all --budget cpu --data.train BSDS500 --data.test B100
  restore study report runs/study               judge the recorded runs again
"""


def main(argv: list[str] | None = None) -> int:
    parser = command.ArgumentParser("study", "Put what is said about batch norm to the test.", EXAMPLES)
    actions = parser.add_subparsers(dest="action", required=True, parser_class=command.ActionParser)
    actions.add_parser("list", help="the claims")
    run = actions.add_parser("run", help="train and measure what is not on record, then judge and report")
    run.add_argument("claims", nargs="*", metavar="CLAIM", help="names from `restore study list`, or all (default)")
    run.add_argument("--budget", default="smoke", metavar="NAME", help="smoke (default), cpu or gpu: sizes and lengths")
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
            from restore.studies.laboratory import Archive

            _report(Archive.load(args.folder / "records.json"), args.folder)
    return 0


def _list() -> None:
    from restore.studies.claims import CLAIMS

    for claim in sorted(CLAIMS.values(), key=lambda claim: claim.number):
        indented = claim.about.replace("\n", "\n    ")
        print(f"{claim.number:2}. {claim.name}: {claim.title}\n    {indented}\n")


def _run(args: argparse.Namespace) -> None:
    from restore.studies.budget import BUDGETS
    from restore.studies.claims import CLAIMS
    from restore.studies.experiment import Bench
    from restore.studies.laboratory import Archive, fulfil

    names = list(CLAIMS) if args.claims in ([], ["all"]) else args.claims
    if unknown := [name for name in names if name not in CLAIMS]:
        raise UserError(f"{unknown[0]}: no such claim; known: all, {', '.join(CLAIMS)}")
    if args.budget not in BUDGETS:
        raise UserError(f"--budget: expected {', '.join(BUDGETS)}, found {args.budget}")
    budget = BUDGETS[args.budget]
    for option, value in (("--seeds", args.seeds), ("--jobs", args.jobs)):
        if value is not None and value < 1:
            raise UserError(f"{option} must be at least 1, not {value}")
    bench = Bench(args.train, args.test, args.root or default_root(), budget.crops, budget.crop)
    archive = Archive(budget, bench, args.seeds or budget.seeds)
    fulfil(names, archive, args.output, args.jobs)
    _report(archive, args.output)


def _report(archive: Archive, folder: Path) -> None:
    from restore.studies.claims import CLAIMS
    from restore.studies.ledger import ledger, write_report

    on_record = [claim for claim in CLAIMS.values() if archive.covers(claim)]
    if not on_record:
        raise UserError(f"{folder}: no claim has all of its runs on record")
    findings = {claim.name: archive.judge(claim) for claim in on_record}
    written = write_report(archive, findings, folder)
    print_table(f"budget {archive.budget.name}, {archive.seeds} seeds", ledger(findings))
    print(f"written: {', '.join(map(str, written))}")


if __name__ == "__main__":
    command.run(main)
