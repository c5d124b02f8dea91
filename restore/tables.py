"""Tables as plain text: no wider than the terminal, or than 80 columns in files and pipes."""

import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence

WIDTH_IN_FILES = 80
GAP = "  "
NARROWEST_LABEL = 16  # to which the first column is folded before a table is split


def print_table(title: str, rows: Sequence[Mapping[str, str]]) -> None:
    """Print a title and rows of the same keys, nothing if there are no rows; see `format_table`."""
    if not rows:
        return
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else WIDTH_IN_FILES
    print("\n".join(line for line in [*textwrap.wrap(title, width), *format_table(rows, width)]))


def format_table(rows: Sequence[Mapping[str, str]], width: int) -> list[str]:
    """The lines of a table, the first column to the left and the others to the right.

    A table that is too wide folds its first column; columns that do not fit even so follow below, beside the first
    column once more.
    """
    label, *others = ([heading, *(row[heading] for row in rows)] for heading in rows[0])
    widths = [max(map(len, column)) for column in others]
    longest = max(map(len, label))
    spare = width - _total(0, widths)  # what the other columns leave for the first
    label_width = min(longest, spare if spare >= NARROWEST_LABEL else width // 2)
    lines: list[str] = []
    while True:
        count = max(1, sum(_total(label_width, widths[: last + 1]) <= width for last in range(len(widths))))
        lines += _block(label, label_width, others[:count], widths[:count])
        others, widths = others[count:], widths[count:]
        if not others:
            return lines
        lines.append("")


def _total(label_width: int, widths: Sequence[int]) -> int:
    return label_width + sum(len(GAP) + width for width in widths)


def _block(label: Sequence[str], label_width: int, others: Sequence[Sequence[str]], widths: Sequence[int]) -> list[str]:
    lines = []
    for number, name in enumerate(label):
        first, *more = textwrap.wrap(name, label_width) or [""]
        cells = [column[number].rjust(width) for column, width in zip(others, widths, strict=True)]
        lines += [GAP.join([first.ljust(label_width), *cells]).rstrip(), *more]
        if number == 0:
            lines.append("-" * _total(label_width, widths))
    return lines
