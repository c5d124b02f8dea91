"""Networks, degradations, losses and optimizers of other packages, by name.

Importing a module executes it. So no file chooses which modules are imported; the user does, by naming packages in the
environment variable RESTORE_EXTENSIONS, separated by commas.
"""

import importlib
import os
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

from restore.errors import UserError, nearest

VARIABLE = "RESTORE_EXTENSIONS"
BUILT_IN = "restore"

Kind = TypeVar("Kind")


def packages() -> list[str]:
    """The packages and modules that the user allows to import."""
    return [name for part in os.environ.get(VARIABLE, "").split(",") if (name := part.strip())]


def load(path: str, *also: str) -> Any:
    """The class or function that `package.module:name`, or `package.module.name`, stands for.

    Args:
        path: names it.
        also: packages that are allowed besides the user's own and this one.

    Raises:
        UserError: its package, or the one that it comes from, is not allowed, cannot be imported or does not have it;
            or it is neither a class nor a function.
    """
    module, _, name = path.partition(":") if ":" in path else path.rpartition(".")
    allowed = (BUILT_IN, *also, *packages())
    _check_allowed(path, module, allowed)
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise UserError(f"{path}: cannot be imported ({error})") from error
    if not (callable(found) and isinstance(home := getattr(found, "__module__", None), str)):
        raise UserError(f"{path}: neither a class nor a function")
    _check_allowed(path, home, allowed)  # modules import others, and their names are found in them
    return found


def not_allowed(path: str, module: str = "") -> str:
    """What to say of a path whose package, or another module's from which it comes, may not be imported."""
    package = (module or path).partition(".")[0]
    return f"{path}: to import it, add {package} to the environment variable {VARIABLE} (importing executes its code)"


def _check_allowed(path: str, module: str, allowed: Sequence[str]) -> None:
    if not any(module == root or module.startswith(f"{root}.") for root in allowed):
        raise UserError(not_allowed(path, module))


class Registry(Generic[Kind]):
    """The subclasses of a class by the names that files keep of them.

    A built-in class has its bare name, any other is `package.module:Class`.

    Args:
        kind: what the classes are, for messages.
    """

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._known: dict[str, type[Kind]] = {}

    def add(self, cls: type[Kind]) -> None:
        """Called for each subclass as it is defined."""
        self._known[self.name_of(cls)] = cls

    def name_of(self, cls: type) -> str:
        """The name under which files keep a class."""
        built_in = cls.__module__.partition(".")[0] == BUILT_IN
        return cls.__name__ if built_in else f"{cls.__module__}:{cls.__qualname__}"

    def built_in(self) -> dict[str, type[Kind]]:
        """The classes of this package that can be named, by name."""
        return {name: cls for name, cls in self._known.items() if ":" not in name and not name.startswith("_")}

    def find(self, name: str) -> type[Kind]:
        """The class of that name, or of the path `package.module.Class`, imported if the user allows it.

        Raises:
            UserError: there is none, or its package is not allowed.
        """
        if name not in self._known and (":" in name or "." in name):
            found = load(name)
            name = self.name_of(found) if isinstance(found, type) else name
        if name not in self._known:
            known = self.built_in()
            raise UserError(f"unknown {self._kind} {name!r}{nearest(name, known)}; known: {', '.join(known)}")
        return self._known[name]
