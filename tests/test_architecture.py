"""The layers of the house: imports go down only."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "restore"

# Each room and the rooms it may use, besides itself and those for everybody.
FOR_EVERYBODY = {"choices", "errors", "extensions", "extras", "files", "progress", "tables", "torch_internals"}
FOUNDATION = {"images", "data", "models", "losses", "metrics", "optim"}
MAY_USE: dict[str, set[str]] = {
    "errors": set(),
    "torch_internals": set(),
    "extensions": set(),
    "extras": set(),
    "files": set(),
    "progress": set(),
    "choices": set(),
    "tables": set(),
    "ranks": set(),
    "images": set(),
    "models": set(),
    "losses": set(),
    "optim": {"losses"},
    "data": {"images"},
    "metrics": {"images"},
    "provenance": set(),
    "recipes": set(),
    "hardware": set(),
    "checkpoint": FOUNDATION,
    "layouts": FOUNDATION,
    "foreign_checkpoints": FOUNDATION | {"checkpoint", "layouts"},
    "exporters": FOUNDATION,
    "inference": FOUNDATION | {"hardware"},
    "benchmark": FOUNDATION | {"inference", "ranks"},
    "bundled": FOUNDATION | {"checkpoint", "inference", "benchmark"},
    "report": FOUNDATION,
    "page": {"images"},
    "profiling": FOUNDATION,
    "memory_verdict": {"profiling"},
    "folder": FOUNDATION | {"inference", "report", "ranks"},
    "training": FOUNDATION
    | {"checkpoint", "foreign_checkpoints", "inference", "benchmark", "report", "provenance", "profiling", "hardware"},
}
MAY_USE["studies"] = MAY_USE["training"] | {"training", "page"}
ENTRIES = {
    "study",
    "train",
    "infer",
    "evaluate",
    "convert",
    "export",
    "memory",
    "memory_table",
    "evaluation",
    "study_actions",
    "cli",
    "runner_options",
    "wrong_settings",
    "api",
    "__init__",
    "__main__",
}


def room(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imported_rooms(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide what is imported"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name.split(".")[1] for name in found if name.startswith("restore.")}


def test_every_form_of_import_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text("import restore.data\nfrom restore import models, studies\nfrom restore.images.io import listing\n")
    assert imported_rooms(path) == {"data", "models", "studies", "images"}


FILES = [path for path in sorted(ROOT.rglob("*.py")) if room(path) not in ENTRIES and path.name != "__main__.py"]


@pytest.mark.parametrize("path", FILES, ids=[str(path.relative_to(ROOT)) for path in FILES])
def test_imports_go_down_only(path: Path) -> None:
    allowed = MAY_USE[room(path)] | {room(path)} | FOR_EVERYBODY
    assert imported_rooms(path) <= allowed


def test_lightning_is_known_in_training_and_the_train_command_alone() -> None:
    users = {room(path) for path in ROOT.rglob("*.py") if "pytorch_lightning" in path.read_text()}
    assert users - {"provenance"} == {"training", "train"}
