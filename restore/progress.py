"""The progress bar that every command shows while it works through items, on a terminal only."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import track

Item = TypeVar("Item")


def progress(items: Iterable[Item], label: str, total: int | None = None) -> Iterator[Item]:
    """Iterate over `items` with a bar on stderr that vanishes at the end; `total` where `items` has no length."""
    console = Console(stderr=True)
    return iter(track(items, label, total, console=console, transient=True, disable=not console.is_terminal))
