"""List all texts that a user can see, to be read at one go: python scripts/messages.py [FOLDER]

Errors, warnings, notes, help and what commands print; names in braces stand for values.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

CALLS = {"UserError", "ValueError", "ArgumentTypeError", "error", "exit", "print", "print_table", "warning", "info"}
KEYWORDS = {"help", "description", "label"}
SHORTEST = 8  # characters of a text that is worth reading


def main() -> int:
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1] / "restore"
    for path in sorted(root.rglob("*.py")):
        for line, text in messages(path.read_text()):
            print(f"{path.relative_to(root.parent)}:{line}: {text}")
    return 0


def messages(source: str) -> Iterator[tuple[int, str]]:
    """The line and the text of each message in a program, in order."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    for call in sorted(calls, key=lambda call: (call.lineno, call.col_offset)):
        shown = call.args if ast.unparse(call.func).rpartition(".")[2] in CALLS else []
        values = [*shown, *(keyword.value for keyword in call.keywords if keyword.arg in KEYWORDS)]
        for text in map(_text, values):
            if len(text) >= SHORTEST:
                yield call.lineno, " ".join(text.split())


def _text(node: ast.expr) -> str:
    """The text of an expression, with values in braces; empty if it is no text."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(_text(part) for part in parts)
        case ast.FormattedValue(value=value):
            return f"{{{ast.unparse(value)}}}"
        case ast.BinOp(left=left, right=right):
            return _text(left) + _text(right)
        case ast.IfExp(body=body, orelse=other):
            return f"{_text(body)} | {_text(other)}"
    return ""


if __name__ == "__main__":
    raise SystemExit(main())
