"""Recipes: the configurations of `configs/`, by name, and YAML files of the user's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from restore.errors import UserError

if TYPE_CHECKING:  # imported only if a recipe is read
    import yaml

MAX_ENTRIES = 10_000  # of a configuration


def _shipped() -> Path:
    """The folder of recipes, of the checkout that this is or of the installed package."""
    folder = Path(__file__).parents[1] / "configs"
    if (folder / "quickstart.yaml").exists():
        return folder
    from importlib.metadata import files

    installed = (file for file in files("restore-bn") or () if file.name == "quickstart.yaml")
    return next((Path(str(file.locate())).parent.resolve() for file in installed), folder)


CONFIGS = _shipped()


def find(name: str) -> Path:
    """The file of a shipped recipe, named with or without `configs/` and `.yaml`, or another file of that name."""
    given = Path(name).expanduser()
    shipped = CONFIGS / f"{name.removeprefix('configs/').removesuffix('.yaml')}.yaml"
    return shipped if shipped.is_file() and not given.exists() else given


def read(path: Path) -> Any:
    """What a recipe's file says.

    Raises:
        OSError: it cannot be read.
        UserError: it is not YAML, or stands for more than anybody writes.
    """
    import yaml

    check_extent(path)
    try:
        return yaml.safe_load(path.read_text())
    except (ValueError, yaml.YAMLError) as error:
        raise UserError(f"{path}: not a recipe: {' '.join(str(error).split())}") from error


def check_extent(path: Path) -> None:
    """Raises UserError if a configuration stands for more than anybody writes: aliases of aliases multiply.

    A file that cannot be read, or is not YAML, passes: who reads it says so.
    """
    import yaml

    try:
        root = yaml.compose(path.read_text(), yaml.SafeLoader)
        entries = _entries(root, {}) if root else 0
    except RecursionError as error:
        raise UserError(f"{path}: nested too deeply") from error
    except (OSError, ValueError, yaml.YAMLError):
        return
    if entries > MAX_ENTRIES:
        raise UserError(f"{path}: its aliases expand to {entries:.0e} entries, more than {MAX_ENTRIES}")


def _entries(node: yaml.Node, known: dict[int, int]) -> int:
    """How many values a node of YAML has, each alias counted as what it stands for."""
    import yaml

    if id(node) not in known:
        children = [] if isinstance(node, yaml.ScalarNode) else node.value
        pairs = (child if isinstance(child, tuple) else (child,) for child in children)
        known[id(node)] = 1 + sum(_entries(child, known) for pair in pairs for child in pair)
    return known[id(node)]
