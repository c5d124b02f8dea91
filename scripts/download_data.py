"""Download data sets, install them from what is at hand, and verify them."""

import sys
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from restore import command
from restore.data.catalog import default_root
from restore.data.installation import install, install_from
from restore.data.sources import SOURCES
from restore.data.verification import Finding, verify
from restore.errors import UserError

EXAMPLES = f"""examples:
  python scripts/download_data.py BSDS500 Set5             download, unpack, verify
  python scripts/download_data.py all
  python scripts/download_data.py Set12 --from testsets/   from a folder, an archive or an address
  python scripts/download_data.py verify                   check what is there
  python scripts/download_data.py verify DIV2K --root data

data sets: {", ".join(SOURCES)}
"""
WIDTH_IN_FILES = 120


def main(argv: list[str] | None = None) -> int:
    parser = command.ArgumentParser("", "Download and verify data sets.", EXAMPLES)
    parser.prog = "python scripts/download_data.py"
    parser.add_argument("names", nargs="+", metavar="NAME", help="data sets or `all`; `verify` first only checks them")
    parser.add_argument("--root", type=Path, default=default_root(), help="where they lie (default: %(default)s)")
    parser.add_argument("--from", dest="given", metavar="DIR|FILE|URL", help="install one data set from there")
    args = parser.parse_args(argv)

    only_verify = args.names[0] == "verify"
    names = args.names[1:] if only_verify else args.names
    for name in names:
        if name != "all" and name not in SOURCES:
            parser.error(f"{name}: no known data set ({', '.join(SOURCES)})")
    if args.given and (only_verify or len(names) != 1 or names == ["all"]):
        parser.error("--from goes with one data set")
    everything = not names or "all" in names
    names = list(SOURCES) if everything else names

    failures = []
    if not only_verify:
        for name in names:
            try:
                new = install_from(name, args.given, args.root) if args.given else install(name, args.root)
            except UserError as error:
                failures.append(str(error))
            else:
                print(f"{name}: installed {', '.join(new)}" if new else f"{name}: is there already")
    findings = [finding for name in names for finding in verify(name, args.root)]
    _print(findings)
    for failure in failures:
        print(f"failed: {failure}", file=sys.stderr)
    absent = not only_verify or not everything
    return int(bool(failures) or any(f.wrong or (absent and not f.images) for f in findings))


def _print(findings: list[Finding]) -> None:
    table = Table("data set", "part", "images", "degraded", "verdict", box=SIMPLE_HEAD, pad_edge=False)
    for finding in findings:
        scales = " ".join(f"x{scale}" for scale in finding.scales)
        table.add_row(finding.name, finding.split, str(finding.images), scales, finding.verdict)
    console = Console()
    if not console.is_terminal:
        console.width = WIDTH_IN_FILES
    console.print(table)
    for finding in findings:
        for line in finding.wrong:
            print(f"wrong: {finding.name} {finding.split}: {line}")
        for line in finding.remarks:
            print(f"note: {finding.name} {finding.split}: {line}")


if __name__ == "__main__":
    command.run(main)
