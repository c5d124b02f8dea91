"""The words of messages: none of those that a reader stumbled over, American spelling."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]

# Words that earlier messages used for others: where (if), behind (after), anew (again), alone (only), and British ones.
ODD = re.compile(
    r"\b(anew|aloud|amid|behind|whatever|to be had|goes with|made again|so many)\b|colour|[a-z]isation\b", re.IGNORECASE
)


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("messages", ROOT / "scripts/messages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_texts_of_errors_logs_and_help_are_listed_with_their_values_in_braces(script: ModuleType) -> None:
    source = 'raise UserError(f"{path}: no such file")\nadd("--x", help="how " "many")\nlen("not a message")\n'
    assert list(script.messages(source)) == [(1, "{path}: no such file"), (2, "how many")]


def test_messages_are_free_of_odd_words(script: ModuleType) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}: {text}"
        for path in sorted((ROOT / "restore").rglob("*.py"))
        for line, text in script.messages(path.read_text())
        if "studies" not in path.parts and ODD.search(text)
    ]
    assert not found
