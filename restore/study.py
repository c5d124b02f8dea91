"""python -m restore.study: claims about batch norm -> experiments -> verdicts."""

import argparse
import logging
import re
import time
from pathlib import Path

from restore import command
from restore.data.catalog import default_root
from restore.studies.contrast import FULL, Contrast, campaign
from restore.studies.criteria import CONTRAST
from restore.studies.data import StudyData
from restore.studies.requests import Archive
from restore.studies.runner import put_on_record

LOG = logging.getLogger("restore.study")  # also when this module is run

EXAMPLES = """examples:
  python -m restore.study contrast --for 150m --output ../contrast --data.root DATA
"""


def main(argv: list[str] | None = None) -> int:
    parser = command.ArgumentParser("restore.study", "Put what is said about batch norm to the test.", EXAMPLES)
    actions = parser.add_subparsers(dest="action", required=True, parser_class=command.ActionParser)
    contrast = actions.add_parser("contrast", help="the contrast at full size: go on with it, then report")
    contrast.add_argument("--output", type=Path, default=Path("runs/contrast"), help="folder of the campaign")
    contrast.add_argument("--for", dest="limit", metavar="TIME", type=duration, help="stop after 90s, 150m or 2h")
    contrast.add_argument("--jobs", type=int, help="trainings at once (default: one for each GPU, or each core)")
    contrast.add_argument(
        "--data.root", dest="root", type=Path, help="where data sets lie (default: RESTORE_DATA or data)"
    )
    args = parser.parse_args(argv)
    _contrast(args)
    return 0


def duration(text: str) -> float:
    """The type of `--for`: seconds."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(s|m|h)", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"expected a number with s, m or h, such as 150m, found {text!r}")
    return float(match[1]) * {"s": 1, "m": 60, "h": 3600}[match[2]]


def _contrast(args: argparse.Namespace) -> None:
    until = None if args.limit is None else time.time() + args.limit
    data = StudyData("papers", args.root or default_root())
    archive = Archive.opened(args.output / "records.json", FULL, data, FULL.seeds, CONTRAST)
    found = Contrast({}, {})
    stages = campaign(found)
    requests = next(stages)
    while True:
        if archive.missing(requests):
            LOG.info(f"{found.stage}")
            if not put_on_record(requests, archive, args.output, jobs=args.jobs, until=until):
                LOG.info(f"stopped during the {found.stage}; the same command goes on from here")
                return
        try:
            requests = stages.send(archive.answer(requests))
        except StopIteration:
            return


if __name__ == "__main__":
    command.run(main)
