"""Trains and measures what is asked for and not on record, in several processes and any number of sittings.

Of what is asked for, runs are made in rounds: all of one length before any longer one, all of one seed before the next.
What follows from results is asked for as soon as a process would have nothing to do.

A folder of studies holds `runs/` (a JSON file for each run and measurement, and the weights), `states/` (from which
runs continue) and `records.json`, all that judging needs.
"""

import json
import logging
import multiprocessing
import signal
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch

from restore.errors import UserError
from restore.hardware import keep_pages, usable_cores
from restore.studies.data import StudyData
from restore.studies.requests import Measurement, StudyRecords, Task, Timing
from restore.studies.runner import Interrupted, perform

LOG = logging.getLogger(__name__)


Ask = Callable[[], Sequence[Task]]


def put_on_record(
    ask: Ask, records: StudyRecords, folder: Path, *, jobs: int | None = None, until: float | None = None
) -> bool:
    """Train and measure what is not on record, in processes of one thread each, until nothing more is asked for.

    Args:
        ask: returns what is asked for next and is not in `records`, trained networks before their measurements.
        records: is filled from `folder`, and written to its `records.json`.
        folder: of the studies.
        jobs: processes at once; default: as many as there are GPUs, or else processor cores.
        until: time (of `time.time`) to stop at, with all states kept.

    Returns:
        Whether nothing more is asked for; False if the time was over or SIGTERM or SIGINT came.

    Raises:
        UserError: data are missing or do not fit, or a file in `folder` is damaged.
    """
    for name in ("runs", "states"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    adopt(records, folder)
    todo = sorted(ask(), key=_in_rounds)
    complete = not todo or _work_off(todo, ask, records, folder, jobs, until)
    records.save(folder / "records.json")
    return complete


def adopt(records: StudyRecords, folder: Path) -> None:
    """Put everything on record that lies in `runs/` of a folder of studies, of a start that was killed or from another
    machine.

    Raises:
        UserError: a file is damaged.
    """
    for path in sorted((folder / "runs").glob("*.json")):
        if path.stem not in records.results:
            records.results[path.stem] = _result(path)


def _result(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (ValueError, OSError) as error:
        raise UserError(f"{path}: damaged ({error}); delete it to train or measure again") from error


def _in_rounds(task: Task) -> tuple[bool, int, int]:
    return isinstance(task.request, Measurement | Timing), task.experiment.length, task.seed


def _work_off(
    todo: list[Task], ask: Ask, records: StudyRecords, folder: Path, jobs: int | None, until: float | None
) -> bool:
    devices = [f"cuda:{index}" for index in range(torch.cuda.device_count())] or ["cpu"]
    jobs = jobs or (len(devices) if devices != ["cpu"] else usable_cores())
    context = multiprocessing.get_context("spawn")
    stop, counter = context.Event(), context.Value("i", 0)
    LOG.info(f"{len(todo)} runs to begin with, {jobs} at once")
    progress = _Progress()
    answered = False  # whether there are results since the last question
    with (
        _stopping_on_signals(stop),
        ProcessPoolExecutor(jobs, context, _prepare, (devices, counter, stop, until)) as pool,
    ):
        flying: dict[Future[bool], Task] = {}
        try:
            while True:
                while len(flying) < jobs and not _over(stop, until):
                    task = _next(todo, list(flying.values()), records)
                    if task is None and answered:
                        under_way = {task.key(records.data) for task in flying.values()}
                        todo = sorted((it for it in ask() if it.key(records.data) not in under_way), key=_in_rounds)
                        answered = False
                    elif task is None:
                        break
                    else:
                        todo.remove(task)
                        flying[pool.submit(_work, task, records.data, folder)] = task
                if not flying:
                    return not ask()
                for future in wait(flying, return_when=FIRST_COMPLETED).done:
                    task = flying.pop(future)
                    if future.result():
                        _take_over(task, records, folder, progress, len(todo) + len(flying))
                        answered = True
        except BaseException:
            stop.set()
            raise


def _next(todo: list[Task], flying: list[Task], records: StudyRecords) -> Task | None:
    """The first task that needs nothing of those under way: neither their weights nor their state."""
    data = records.data
    busy = {task.experiment.trunk_key(data, task.seed) for task in flying}
    for task in todo:
        waits = (
            isinstance(task.request, Measurement) and Task(task.experiment, task.seed).key(data) not in records.results
        )
        if not waits and task.experiment.trunk_key(data, task.seed) not in busy:
            return task
    return None


class _Progress:
    """How much is done, and how long the rest will take that is known."""

    def __init__(self) -> None:
        self._done = 0
        self._begun = time.monotonic()

    def line(self, words: str, left: int) -> str:
        self._done += 1
        left_s = (time.monotonic() - self._begun) / self._done * left
        return f"{self._done}/{self._done + left} {words}; about {left_s / 60:.0f} min until more may be asked for"


def _take_over(task: Task, records: StudyRecords, folder: Path, progress: _Progress, left: int) -> None:
    """Put a result that a process has written into the records, and say so in one line."""
    key = task.key(records.data)
    records.results[key] = result = _result(folder / "runs" / f"{key}.json")
    LOG.info(progress.line(f"{describe(task)}: {_outcome(task, result)}", left))


def describe(task: Task) -> str:
    """A run in a few words, for the log."""
    if isinstance(task.request, Timing):
        return f"times of steps, {', '.join(name for name, _ in task.request.arms)}, seed {task.seed}"
    experiment = task.experiment
    arguments = {name: it for name, it in experiment.network.arguments.items() if name not in ("scale", "channels")}
    words = " ".join(f"{name} {value}" for name, value in arguments.items())
    optim = f"{experiment.optim.optimizer} {experiment.rate:g}"
    by = f", {task.request.by}" if isinstance(task.request, Measurement) else ""
    return f"{experiment.network.name} {words}, {optim}, {experiment.length} steps, seed {task.seed}{by}"


def _outcome(task: Task, result: Any) -> str:
    if isinstance(task.request, Measurement | Timing):
        return "measured"
    if result["failed_at"] is not None:
        return f"failed at step {result['failed_at']}"
    scores = [f"{name} {statistics.fmean(values):.2f} dB" for name, values in result["psnr"].items()]
    return ", ".join([*scores, f"validation {result['validation']:.2f} dB"])


def _over(stop: Any, until: float | None) -> bool:
    return bool(stop.is_set()) or (until is not None and time.time() >= until)


@contextmanager
def _stopping_on_signals(stop: Any) -> Iterator[None]:
    """SIGTERM and SIGINT let the processes keep their states and end."""
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


# Of this process:
_DEVICE = torch.device("cpu")
_INTERRUPTED: Interrupted = partial(bool, 0)


def _prepare(devices: list[str], counter: Any, stop: Any, until: float | None) -> None:
    global _DEVICE, _INTERRUPTED
    for number in (signal.SIGINT, signal.SIGTERM):  # the parent's to handle, although all processes get them
        signal.signal(number, signal.SIG_IGN)
    torch.set_num_threads(1)
    keep_pages()
    with counter.get_lock():
        _DEVICE = torch.device(devices[counter.value % len(devices)])
        counter.value += 1
    _INTERRUPTED = partial(_over, stop, until)


def _work(task: Task, data: StudyData, folder: Path) -> bool:
    return perform(task, data, folder, _DEVICE, _INTERRUPTED)
