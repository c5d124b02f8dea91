"""Trains and measures what claims ask for and is not on record, and lets them judge.

A folder of studies holds `runs/`, a file for each run and measurement with the weights beside it, and
`records.json`, all that the claims need to judge once more.
"""

import json
import multiprocessing
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from restore.checkpoint import load_weights
from restore.errors import UserError
from restore.hardware import usable_cores
from restore.images.io import write_atomically
from restore.progress import progress
from restore.studies.budget import BUDGETS, Budget
from restore.studies.claim import CLAIMS, Claim, Measurement, Results, Wanted
from restore.studies.experiment import Bench, Experiment, Record, run
from restore.studies.judgement import Finding
from restore.studies.measurements import MEASUREMENTS


@dataclass(frozen=True)
class Task:
    """One run, or one measurement of a run, with one seed."""

    wanted: Experiment | Measurement
    seed: int

    def key(self, bench: Bench) -> str:
        """Names its file."""
        if isinstance(self.wanted, Experiment):
            return self.wanted.key(bench, self.seed)
        return f"{self.wanted.of.key(bench, self.seed)}-{self.wanted.by}"

    def perform(self, bench: Bench, folder: Path) -> None:
        """Train or measure, and leave a file behind."""
        if isinstance(self.wanted, Experiment):
            path = folder / f"{self.key(bench)}.safetensors"
            result: Any = asdict(run(self.wanted, bench, self.seed, path))
        else:
            weights = load_weights(folder / f"{self.wanted.of.key(bench, self.seed)}.safetensors")
            finite = bool(weights.training["finite"])
            measure = MEASUREMENTS[self.wanted.by]
            result = measure(weights.network, self.wanted.of, bench, self.seed) if finite else None
        write_atomically(folder / f"{self.key(bench)}.json", json.dumps(result))


class Archive:
    """Results of tasks by their keys, and the settings they were made with.

    Attributes:
        budget: sizes and lengths.
        bench: data.
        seeds: how many of each.
        results: by key, as JSON.
    """

    def __init__(self, budget: Budget, bench: Bench, seeds: int, results: dict[str, Any] | None = None) -> None:
        self.budget = budget
        self.bench = bench
        self.seeds = seeds
        self.results = results or {}

    def tasks(self, wanted: Wanted) -> dict[str, Task]:
        """All that must be on record by its key, one seed after the other."""
        asked = list(wanted.values())
        runs = [it for it in asked if isinstance(it, Experiment)]
        measured = [it for it in asked if isinstance(it, Measurement)]
        everything: list[Experiment | Measurement] = [*(it.of for it in measured), *runs, *measured]
        tasks = [Task(it, seed) for seed in range(self.seeds) for it in everything]
        return {task.key(self.bench): task for task in tasks}

    def _holds(self, wanted: Wanted) -> bool:
        return self.tasks(wanted).keys() <= self.results.keys()

    def covers(self, claim: Claim) -> bool:
        """Whether all that a claim needs is on record."""
        return self._holds(next(claim.study(self.budget)))

    def judge(self, claim: Claim) -> Finding:
        """What the records say of a claim.

        Raises:
            UserError: something it needs is not on record.
        """
        study = claim.study(self.budget)
        wanted = next(study)
        if not self._holds(wanted):
            raise UserError(f"{claim.name}: not all of its runs are on record; `study run {claim.name}` makes them")
        try:
            study.send(self._results(wanted))
        except StopIteration as end:
            finding: Finding = end.value
            return finding
        raise AssertionError(f"{claim.name} asks twice")

    def _results(self, wanted: Wanted) -> Results:
        return {name: [self._result(Task(it, seed)) for seed in range(self.seeds)] for name, it in wanted.items()}

    def _result(self, task: Task) -> Any:
        result = self.results[task.key(self.bench)]
        return Record(**result) if isinstance(task.wanted, Experiment) else result

    def save(self, path: Path) -> None:
        """Write it as `records.json`."""
        bench = {name: value for name, value in asdict(self.bench).items() if name != "root"}
        content = {"budget": self.budget.name, "bench": bench, "seeds": self.seeds, "results": self.results}
        write_atomically(path, json.dumps(content, separators=(",", ":")) + "\n")

    @classmethod
    def load(cls, path: Path) -> "Archive":
        """Read `records.json`.

        Raises:
            UserError: there is none, or it is damaged.
        """
        try:
            content = json.loads(path.read_text())
            bench = Bench(**content["bench"], root=Path())
            return cls(BUDGETS[content["budget"]], bench, content["seeds"], content["results"])
        except OSError as error:
            raise UserError(f"{path}: no records of studies here ({error.strerror})") from error
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path}: not the records of studies, or damaged ({error})") from error


def fulfil(names: Sequence[str], archive: Archive, folder: Path, jobs: int | None = None) -> None:
    """Put on record what claims need: read from `folder`/runs what is there, train and measure the rest.

    Args:
        names: of claims.
        archive: is filled, and written to `folder`/records.json.
        folder: of the studies.
        jobs: processes at once; default: as many as there are GPUs or else processor cores.

    Raises:
        UserError: data are missing or do not fit.
    """
    runs = folder / "runs"
    runs.mkdir(parents=True, exist_ok=True)
    wanted: dict[Any, Experiment | Measurement] = {}
    for name in names:
        wanted |= {(name, key): it for key, it in next(CLAIMS[name].study(archive.budget)).items()}
    tasks = archive.tasks(wanted)
    missing = {key: task for key, task in tasks.items() if not (runs / f"{key}.json").exists()}
    _perform(missing, archive.bench, runs, jobs)
    for key in tasks:
        archive.results[key] = json.loads((runs / f"{key}.json").read_text())
    archive.save(folder / "records.json")


def _perform(tasks: Mapping[str, Task], bench: Bench, folder: Path, jobs: int | None) -> None:
    """In processes of their own, one thread each on a CPU; first the runs, then the measurements."""
    devices = [f"cuda:{index}" for index in range(torch.cuda.device_count())] or ["cpu"]
    jobs = jobs or (len(devices) if devices != ["cpu"] else usable_cores())
    threads = 1 if devices == ["cpu"] and jobs > 1 else usable_cores()
    context = multiprocessing.get_context("spawn")
    counter = context.Value("i", 0)
    for kind, title in ((Experiment, "Training"), (Measurement, "Measuring")):
        todo = [task for task in tasks.values() if isinstance(task.wanted, kind)]
        if not todo:
            continue
        with ProcessPoolExecutor(jobs, context, _prepare, (devices, threads, counter)) as pool:
            futures = [pool.submit(_work, task, bench, folder) for task in todo]
            try:
                for future in progress(as_completed(futures), title, len(futures)):
                    future.result()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise


_DEVICE = "cpu"  # of this process


def _prepare(devices: list[str], threads: int, counter: Any) -> None:
    global _DEVICE
    torch.set_num_threads(threads)
    with counter.get_lock():
        _DEVICE = devices[counter.value % len(devices)]
        counter.value += 1


def _work(task: Task, bench: Bench, folder: Path) -> None:
    task.perform(Bench(**asdict(bench) | {"device": _DEVICE}), folder)
