"""What a claim asks for: networks, trials of settings, measurements, times of steps; and the results on record."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from restore.errors import UserError
from restore.files import write_atomically
from restore.provenance import provenance
from restore.studies.budget import BUDGETS, Budget
from restore.studies.criteria import Criterion, registered
from restore.studies.data import StudyData
from restore.studies.experiment import TUNING_SEED, Experiment, Record
from restore.studies.step_times import StepTimes


@dataclass(frozen=True)
class Trial:
    """Runs that choose settings: with seeds that judge nothing, scored on validation images only."""

    of: Experiment
    seeds: int = 1


@dataclass(frozen=True)
class Measurement:
    """A measurement of trained networks, see `measurements.py`.

    Attributes:
        of: the experiment whose final weights are measured.
        by: name of the measurement.
    """

    of: Experiment
    by: str


@dataclass(frozen=True)
class Timing:
    """The times of training steps, taken in turns, see `step_times.py`; repeated as often as there are seeds.

    Attributes:
        arms: names, and the experiments whose steps are timed.
    """

    arms: tuple[tuple[str, Experiment], ...]


Request = Experiment | Trial | Measurement | Timing
# What a claim asks for, by names of its own, and what it is sent: for each, one result a seed.
Requests = Mapping[Any, Request]
Results = Mapping[Any, Sequence[Any]]


@dataclass(frozen=True)
class Task:
    """One run, one measurement of a run, or one repetition of a timing, with one seed."""

    request: Request
    seed: int

    @property
    def experiment(self) -> Experiment:
        """What is trained; of a timing the first arm."""
        match self.request:
            case Experiment():
                return self.request
            case Timing(arms):
                return arms[0][1]
        return self.request.of

    def key(self, data: StudyData) -> str:
        """Names its file."""
        if isinstance(self.request, Timing):
            arms = [(name, experiment.key(data, self.seed)) for name, experiment in self.request.arms]
            return f"{hashlib.sha256(json.dumps(arms).encode()).hexdigest()[:16]}-times"
        run = self.experiment.key(data, self.seed)
        return f"{run}-{self.request.by}" if isinstance(self.request, Measurement) else run


class StudyRecords:
    """All results of a folder of studies, and the settings they were made with.

    Attributes:
        budget: sizes and lengths.
        data: images.
        seeds: how many of each run, of what no claim asks for.
        results: by key, as JSON.
        criteria: hash, commit and date of each criterion at the first start with it.
        asked: the claims that were asked for in any start, and with how many seeds each, the most of all starts.
        notes: sentences about these records that a reader of their report must know, written by hand into
            `records.json`.
    """

    def __init__(
        self,
        budget: Budget,
        data: StudyData,
        seeds: int,
        results: dict[str, Any] | None = None,
        criteria: dict[str, dict[str, str]] | None = None,
        asked: Mapping[str, int] | None = None,
        notes: Sequence[str] = (),
    ) -> None:
        self.budget = budget
        self.data = data
        self.seeds = seeds
        self.results = {} if results is None else results
        self.criteria = criteria or {}
        self.asked = dict(asked or {})
        self.notes = list(notes)

    def with_seeds(self, seeds: int) -> "StudyRecords":
        """The same results, of which this number of seeds is asked for."""
        view = copy(self)
        view.seeds = seeds
        return view

    @property
    def runs(self) -> list[dict[str, Any]]:
        """The results that are of runs, not of measurements."""
        return [it for it in self.results.values() if isinstance(it, dict) and "experiment" in it]

    def tasks(self, request: Request) -> list[Task]:
        """One task for each seed."""
        if isinstance(request, Trial):
            # Each seed is a task of the same trial of one, so that a search that asks for more seeds reuses it.
            return [Task(Trial(request.of), TUNING_SEED + number) for number in range(request.seeds)]
        first = self.budget.first_seed
        return [Task(request, seed) for seed in range(first, first + self.seeds)]

    def missing(self, requests: Requests) -> list[Task]:
        """What is not on record, trained networks before their measurements."""
        asked = [task for request in requests.values() for task in self.tasks(request)]
        trained = [Task(task.experiment, task.seed) for task in asked if isinstance(task.request, Measurement)]
        return self.unrecorded([*trained, *asked])

    def unrecorded(self, tasks: Sequence[Task]) -> list[Task]:
        """Those of `tasks` whose results are not on record, each once."""
        by_key = {task.key(self.data): task for task in tasks}
        return [task for key, task in by_key.items() if key not in self.results]

    def answer(self, requests: Requests) -> Results:
        """The results of requests that are all on record."""
        return {name: [self._result(task) for task in self.tasks(request)] for name, request in requests.items()}

    def _result(self, task: Task) -> Any:
        result = self.results[task.key(self.data)]
        match task.request:
            case Measurement():
                return result
            case Timing():
                return StepTimes.of_json(result)
        return Record(**result)

    @classmethod
    def opened(
        cls,
        path: Path,
        budget: Budget,
        data: StudyData,
        seeds: int,
        criteria: Mapping[str, Criterion],
        asked: Sequence[str] = (),
    ) -> "StudyRecords":
        """Continue `records.json`, or begin one; all criteria are noted before anything is trained, since claims share
        runs, and so are the claims that are asked for, with `seeds`.

        Raises:
            UserError: it is of another budget or other data, or damaged.
        """
        records = cls(budget, data, seeds)
        if path.exists():
            before = cls.load(path)
            if (before.budget, before.data.identity) != (budget, data.identity):
                found, wanted = (f"{it.budget.name} on {it.data.collection}" for it in (before, records))
                raise UserError(f"{path}: records of the budget {found}, not {wanted}; choose another --output")
            records.results, records.criteria = before.results, before.criteria
            records.asked, records.notes = before.asked, before.notes
        records.criteria = registered(records.criteria, criteria, provenance(torch.device("cpu"))["commit"])
        records.asked |= {name: max(seeds, records.asked.get(name, 0)) for name in asked}
        records.save(path)
        return records

    def save(self, path: Path) -> None:
        """Write it as `records.json`."""
        content = {
            "budget": self.budget.name,
            "data": self.data.identity,
            "seeds": self.seeds,
            "criteria": self.criteria,
            "asked": self.asked,
            **({"notes": self.notes} if self.notes else {}),
            "results": self.results,
        }
        write_atomically(path, json.dumps(content, separators=(",", ":")) + "\n")

    @classmethod
    def load(cls, path: Path) -> "StudyRecords":
        """Read `records.json`.

        Raises:
            UserError: there is none, or it is damaged.
        """
        try:
            content = json.loads(path.read_text())
            data = StudyData(**content["data"], root=Path())
            budget, seeds, asked = BUDGETS[content["budget"]], content["seeds"], content["asked"]
            if isinstance(asked, list):  # before claims had seeds of their own
                asked = dict.fromkeys(asked, seeds)
            notes = content.get("notes", ())
            return cls(budget, data, seeds, content["results"], content["criteria"], asked, notes)
        except OSError as error:
            raise UserError(f"{path}: no records of studies here ({error.strerror})") from error
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path}: not the records of studies, or damaged ({error})") from error


def rounded(record: Record) -> dict[str, Any]:
    """A record as JSON, its scores to a ten-thousandth of a decibel."""
    content = asdict(record)
    content["psnr"] = {name: [round(value, 4) for value in values] for name, values in record.psnr.items()}
    return content
