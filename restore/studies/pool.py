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

SAVE_EVERY_S = 300.0
Ask = Callable[[], Sequence[Task]]


def put_on_record(
    ask: Ask, records: StudyRecords, folder: Path, *, jobs: int | None = None, until: float | None = None
) -> bool:
    """Train and measure what is not on record, in processes of one thread each, until nothing more is asked for.

    Args:
        ask: returns what is asked for next and is not in `records`.
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
    devices = [f"cuda:{index}" for index in range(torch.cuda.device_count())] or ["cpu"]
    jobs = jobs or (len(devices) if devices != ["cpu"] else usable_cores())
    context = multiprocessing.get_context("spawn")
    stop, counter = context.Event(), context.Value("i", 0)
    with (
        _stopping_on_signals(stop),
        ProcessPoolExecutor(jobs, context, _prepare, (devices, counter, stop, until)) as pool,
    ):
        queue = _Queue(ask, records, alone=devices != ["cpu"])
        flying: dict[Future[bool], Task] = {}
        saved_at = time.monotonic()
        try:
            while True:
                while len(flying) < jobs and not _over(stop, until) and (task := queue.take(list(flying.values()))):
                    flying[pool.submit(_work, task, records.data, folder)] = task
                if not flying:
                    return not ask()
                for future in wait(flying, return_when=FIRST_COMPLETED).done:
                    task = flying.pop(future)
                    if future.result():
                        key = task.key(records.data)
                        records.results[key] = result = _result(folder / "runs" / f"{key}.json")
                        LOG.info(queue.progress(f"{describe(task)}: {_outcome(task, result)}", len(flying)))
                if time.monotonic() - saved_at > SAVE_EVERY_S:  # for who judges what there is
                    records.save(folder / "records.json")
                    saved_at = time.monotonic()
        except BaseException:
            stop.set()
            raise
        finally:
            records.save(folder / "records.json")


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


class _Queue:
    """What is asked for and not under way, and how long the rest of it will take.

    Args:
        ask: see `put_on_record`.
        records: is filled with results meanwhile.
        alone: whether a timing must be the only task under way, since it is by the clock of a shared device.
    """

    def __init__(self, ask: Ask, records: StudyRecords, alone: bool) -> None:
        self._ask = ask
        self._records = records
        self._alone = alone
        self._todo: list[Task] = []
        self._known = -1  # results at the last question
        self._done = 0  # since then
        self._begun = 0.0

    def take(self, flying: Sequence[Task]) -> Task | None:
        """The next task that can begin beside those under way; asks what follows from new results if there is none."""
        task = self._next(flying)
        if task is None and len(self._records.results) != self._known:
            under_way = {task.key(self._records.data) for task in flying}
            asked = [task for task in self._ask() if task.key(self._records.data) not in under_way]
            self._todo = sorted(asked, key=_in_rounds)
            self._known, self._done, self._begun = len(self._records.results), 0, time.monotonic()
            if self._todo:
                LOG.info(f"asked for: {len(self._todo)}")
            task = self._next(flying)
        if task is not None:
            self._todo.remove(task)
        return task

    def _next(self, flying: Sequence[Task]) -> Task | None:
        """The first task that needs nothing of those under way: neither their weights, their state, nor the device."""
        data, results = self._records.data, self._records.results
        timings = [task for task in flying if isinstance(task.request, Timing)]
        if self._alone and timings:
            return None
        busy = {task.experiment.trunk_key(data, task.seed) for task in flying if task not in timings}
        for task in self._todo:
            match task.request:
                case Timing():
                    waits = self._alone and bool(flying)
                case Measurement(of):
                    waits = Task(of, task.seed).key(data) not in results or of.trunk_key(data, task.seed) in busy
                case _:
                    waits = task.experiment.trunk_key(data, task.seed) in busy
            if not waits:
                return task
        return None

    def progress(self, words: str, flying: int) -> str:
        """A line about a task that is done."""
        self._done += 1
        left = len(self._todo) + flying
        left_s = (time.monotonic() - self._begun) / self._done * left
        return f"{self._done}/{self._done + left} {words}; about {left_s / 60:.0f} min left of what is asked for so far"


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
