"""What every command shows while it works: bars on a terminal, a line now and then elsewhere."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

Item = TypeVar("Item")

SECONDS_BETWEEN_LINES = 30.0

shown = True  # a command's --quiet sets it to False


def progress(items: Iterable[Item], label: str, total: int | None = None) -> Iterator[Item]:
    """Iterate over `items` while `counting` them; `total` if `items` has no length."""
    if total is None and isinstance(items, Sized):
        total = len(items)
    with counting(label, total) as advance:
        for item in items:
            yield item
            advance()


@contextmanager
def counting(label: str, total: int | None, within: bool = False) -> Iterator[Callable[[], None]]:
    """Show how much is done and how long the rest takes; yields what to call after each piece of work.

    On a terminal that is a bar on stderr, which vanishes at the end; elsewhere a line every half minute. One within
    another adds to it.

    Args:
        label: of the bar.
        total: pieces of work; None if nobody knows.
        within: show no bar of its own on a terminal, which somebody else may be drawing on, and nothing of one piece.
    """
    global _bar, _said_at
    counter = _Counter(label, total)
    terminal = Console(stderr=True)
    owner = _bar is None
    if not shown or (within and (total == 1 or (terminal.is_terminal and owner))):
        yield lambda: None
        return
    if terminal.is_terminal and _bar is None:
        _bar = Progress(console=terminal, transient=True)
        _bar.start()
    bar, task = _bar, _bar.add_task(escape(label), total=total) if _bar else None

    def advance() -> None:
        counter.done += 1
        if bar and task is not None:
            bar.advance(task)
        else:
            _say()

    if not _counters:
        _said_at = time.monotonic()
    _counters.append(counter)
    try:
        yield advance
    finally:
        _counters.remove(counter)
        if bar and task is not None:
            bar.remove_task(task)
            if owner:
                bar.stop()
                _bar = None


class _Counter:
    """How much of a kind of work is done."""

    def __init__(self, label: str, total: int | None) -> None:
        self.done = 0
        self._label = label
        self._total = total
        self._started = time.monotonic()

    def __str__(self) -> str:
        if self._total is None or not self.done:
            return f"{self._label}: {self.done} done"
        left_s = (time.monotonic() - self._started) / self.done * (self._total - self.done)
        left = timedelta(seconds=round(left_s))
        return f"{self._label}: {self.done} of {self._total} done, about {left} left"


_bar: Progress | None = None
_counters: list[_Counter] = []
_said_at = 0.0


def _say() -> None:
    """Print all that is being counted, every half minute."""
    global _said_at
    if (now := time.monotonic()) - _said_at >= SECONDS_BETWEEN_LINES:
        _said_at = now
        print("; ".join(map(str, _counters)), file=sys.stderr, flush=True)


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
