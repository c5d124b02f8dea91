"""python -m restore.data: download data sets, install them from files, and verify them."""

import sys
from typing import TYPE_CHECKING

from restore import cli
from restore.data.catalog import default_root
from restore.data.known_sets import SETS
from restore.errors import UserError, nearest
from restore.tables import print_table

if TYPE_CHECKING:  # with torch, which is not imported before the arguments are known to be right
    from restore.data.verification import Verification

EXAMPLES = f"""examples:
  restore data BSDS500 Set5                download, unpack, verify
  restore data all
  restore data Set12 --from testsets/   from a folder, archive or address
  restore data verify                      check the installed data sets
  restore data verify DIV2K --root data

data sets: {", ".join(list(SETS)[:8])},
  {", ".join(list(SETS)[8:])}
"""


def main(argv: list[str] | None = None) -> int:
    parser = cli.ArgumentParser("data", "Download, install and verify data sets.", EXAMPLES)
    parser.add_argument("names", nargs="+", metavar="NAME", help="data sets or `all`; `verify` first only checks them")
    parser.add_argument("--root", type=cli.path, default=default_root(), help="their folder (default: %(default)s)")
    parser.add_argument(
        "--from", dest="given", metavar="SOURCE", help="install one data set from a folder, archive or address"
    )
    args = parser.parse_args(argv)

    only_verify = args.names[0] == "verify"
    names = args.names[1:] if only_verify else args.names
    for name in names:
        if name != "all" and name not in SETS:
            parser.error(f"{name}: unknown data set{nearest(name, SETS)}; known: {', '.join(SETS)}")
    if args.given and (only_verify or len(names) != 1 or names == ["all"]):
        parser.error("--from takes exactly one data set")
    everything = not names or "all" in names
    names = list(SETS) if everything else names

    from restore.data.installation import install, install_from
    from restore.data.verification import verify

    failures = []
    if not only_verify:
        for name in names:
            try:
                new = install_from(name, args.given, args.root) if args.given else install(name, args.root)
            except UserError as error:
                failures.append(str(error))
            else:
                print(f"{name}: installed {', '.join(new)}" if new else f"{name}: already installed")
    verifications = [verification for name in names for verification in verify(name, args.root)]
    _print(verifications)
    for failure in failures:
        print(f"failed: {failure}", file=sys.stderr)
    absent = not only_verify or not everything
    return int(bool(failures) or any(f.wrong or (absent and not f.images) for f in verifications))


def _print(verifications: "list[Verification]") -> None:
    rows = [
        {
            "data set": verification.name,
            "part": verification.split,
            "images": str(verification.images),
            "degraded": " ".join(f"x{scale}" for scale in verification.scales),
            "verdict": verification.verdict,
        }
        for verification in verifications
    ]
    print_table("", rows)
    for verification in verifications:
        for line in verification.wrong:
            print(f"wrong: {verification.name} {verification.split}: {line}")
        for line in verification.remarks:
            print(f"note: {verification.name} {verification.split}: {line}")


if __name__ == "__main__":
    cli.run(main)
