"""The progress bars that every command shows while it works, on a terminal only."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
    track,
)

Item = TypeVar("Item")

shown = True  # a command's --quiet sets it to False


def progress(items: Iterable[Item], label: str, total: int | None = None) -> Iterator[Item]:
    """Iterate over `items` with a bar on stderr that vanishes at the end; `total` if `items` has no length."""
    console = Console(stderr=True)
    hidden = not (shown and console.is_terminal)
    return iter(track(items, label, total, console=console, transient=True, disable=hidden))


@contextmanager
def byte_progress(label: str, total: int | None, done: int = 0) -> Iterator[Callable[[int], None]]:
    """A bar of bytes, with speed and remaining time; yields what to call with the number of further bytes."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not (shown and console.is_terminal)) as bar:
        task = bar.add_task(label, total=total, completed=done)
        yield lambda count: bar.advance(task, count)
