"""python -m restore.study: claims about batch norm -> experiments -> verdicts."""

import argparse
import re
from pathlib import Path
from typing import get_args

from restore import cli
from restore.choices import BudgetName, CollectionName

EXAMPLES = """examples:
  restore study list                                  the claims, with criteria
  restore study run --budget smoke                    all, a few steps each
  restore study run higher_learning_rates --budget small
  restore study run --budget small --data papers --data.root DATA --for 150m
                                                      run it again to continue
  restore study report runs/study                     judge the records again
  restore study plan runs/study                       how many seeds are needed
  restore study contrast --for 150m --output runs/contrast --data.root DATA
  restore study times runs/contrast                   on an idle machine
"""


def main(argv: list[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    from restore import study_actions as actions

    match args.action:
        case "list":
            actions.list_claims()
        case "run":
            actions.run(args.claims, cli.chosen(actions.Repetitions, args), cli.chosen(actions.Running, args))
        case "report":
            actions.report(args.folder)
        case "plan":
            actions.plan_seeds(args.folder)
        case "contrast":
            actions.contrast(cli.chosen(actions.Running, args))
        case "times":
            actions.time_steps(args.folder, args.root)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = cli.ArgumentParser("study", "Put what is said about batch norm to the test.", EXAMPLES)
    actions = parser.add_subparsers(dest="action", required=True, parser_class=cli.ActionParser)
    actions.add_parser("list", help="the claims")
    run = actions.add_parser("run", help="train and measure what is not recorded yet, then judge and report")
    run.add_argument("claims", nargs="*", metavar="CLAIM", help="names from `restore study list`, or all (default)")
    run.add_argument("--budget", choices=get_args(BudgetName), default="smoke", help="sizes and lengths")
    run.add_argument("--seeds", type=cli.count, help="repetitions of each experiment (default: the budget's)")
    run.add_argument(
        "--data",
        choices=get_args(CollectionName),
        default="photos",
        help="photos: of scikit-image, no download; papers: training on Train400 and BSDS500, scores on BSD68, Set12, "
        "B100 and Set5, settings chosen on photographs",
    )
    contrast = actions.add_parser("contrast", help="continue the contrast at full size")
    for parser_of, folder in ((run, "runs/study"), (contrast, "runs/contrast")):
        parser_of.add_argument("--output", type=cli.path, default=Path(folder), help=f"folder (default: {folder})")
        parser_of.add_argument("--for", dest="limit", metavar="TIME", type=duration, help="stop after 90s, 150m or 2h")
        parser_of.add_argument(
            "--jobs", type=cli.count, help="trainings at once (default: one for each GPU, or each core)"
        )
    times = actions.add_parser("times", help="time the steps of the contrast's networks in turns")
    report = actions.add_parser("report", help="judge once more from records.json")
    plan = actions.add_parser("plan", help="how many seeds are needed")
    for action in (report, plan, times):
        action.add_argument("folder", type=cli.path, metavar="DIR", help="folder of the studies or of the contrast")
    for reads_images in (run, contrast, times):
        reads_images.add_argument(
            "--data.root", dest="root", type=cli.path, help="where data sets lie (default: RESTORE_DATA or data)"
        )
    return parser


def duration(text: str) -> float:
    """The type of `--for`: seconds."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(s|m|h)", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"expected a number with s, m or h, such as 150m, found {text!r}")
    return float(match[1]) * {"s": 1, "m": 60, "h": 3600}[match[2]]


if __name__ == "__main__":
    cli.run(main)
