"""Studies answered with made-up results: nothing is trained."""

import random
from collections.abc import Callable, Generator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from restore.studies.budget import BUDGETS, Budget
from restore.studies.claims import CLAIMS
from restore.studies.data import StudyData
from restore.studies.experiment import TUNING_SEED, Experiment, Record
from restore.studies.judgement import Finding
from restore.studies.measurements import CONTRASTS, OTHER_DOMAINS, SIGMAS
from restore.studies.requests import Measurement, Requests, Results, StudyRecords, Task, Timing, Trial, rounded
from restore.studies.stages import StudyState, follow
from restore.studies.step_times import StepTimes

SMALL = BUDGETS["small"]
IMAGES = 6
INPUT_DB = 20.0  # of the degraded images
BASE_DB = 27.0  # of whatever a case says nothing of
DATE = "2030-01-01T00:00:00+00:00"
PICTURE = (  # a PNG of one pixel, in base 64
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
)

T = TypeVar("T")


class World:
    """What training and measuring give. A case overrides what it is about; the rest shows no difference.

    `seed` counts from 0; None stands for the run that chooses settings.
    """

    def psnr(self, run: Experiment, seed: int | None) -> float | None:
        """Where a run ends, in dB; None if it failed. Seeds differ, but in all runs alike."""
        return BASE_DB if seed is None else BASE_DB + 0.4 * (seed % 3)

    def tried(self, run: Experiment, number: int) -> float | None:
        """Where a run that chooses settings ends; `number` counts its seeds from 0."""
        return self.psnr(run, None)

    def at_contrast(self, run: Experiment, seed: int, contrast: float) -> float:
        """PSNR (dB) of f(a x) / a."""
        return BASE_DB

    def at_sigma(self, run: Experiment, seed: int, sigma: float) -> float:
        """PSNR (dB) at another noise level."""
        return BASE_DB

    def won_back(self, run: Experiment, seed: int, what: str) -> float:
        """What exact statistics win in mid-training, in dB, of the `psnr` or of the `worst block`."""
        return 0.0

    def probed(self, run: Experiment, seed: int, value: str) -> float:
        """What a probe sees: `relative`, `loss_range`, `gradient_change`, `smoothness`."""
        return 1.0

    def step_s(self, run: Experiment) -> float:
        """Time of a step, in seconds."""
        return 0.01

    def deviation(self) -> float:
        """Of what should be identical in float64."""
        return 1e-14


def records_of(seeds: int = SMALL.seeds, budget: Budget = SMALL) -> StudyRecords:
    return StudyRecords(budget, StudyData("photos", Path()), seeds)


def state_of(claim: str, world: World, records: StudyRecords) -> StudyState[Finding]:
    """A claim followed to its finding; what it asks for is made up and put on record."""
    return followed(lambda: CLAIMS[claim].study(records.budget), world, records)


def followed(
    begin: Callable[[], Generator[Requests, Results, T]], world: World, records: StudyRecords
) -> StudyState[T]:
    """The same of any study."""
    while True:
        found = follow(begin(), records)
        if found.outcome is not None:
            return found
        for task in records.missing(found.waiting_for):
            records.results[task.key(records.data)] = _result(task, world, records)


def _result(task: Task, world: World, records: StudyRecords) -> Any:
    place = task.seed - records.budget.first_seed
    if isinstance(task.request, Measurement):
        failed = world.psnr(task.experiment, place) is None
        return None if failed else MEASURED[task.request.by](world, task.experiment, place)
    if isinstance(task.request, Timing):
        return StepTimes(
            {name: (world.step_s(run),) for name, run in task.request.arms}, {"device": "cpu: made up"}
        ).json
    if isinstance(task.request, Trial):
        return rounded(_record(task, world.tried(task.experiment, task.seed - TUNING_SEED), world, None))
    return rounded(_record(task, world.psnr(task.experiment, place), world, place))


def _record(task: Task, psnr: float | None, world: World, seed: int | None) -> Record:
    run = task.experiment
    tests = {} if psnr is None or seed is None else {"first": scores(psnr), "second": scores(psnr - 5)}
    return Record(
        experiment=run.description,
        seed=task.seed,
        psnr=tests,
        input_psnr={} if seed is None else {"first": INPUT_DB, "second": INPUT_DB},
        validation=psnr,
        validation_input=INPUT_DB,
        train_psnr=psnr,
        train_mode_psnr=psnr,
        dead=0.0,
        losses=[],
        spikes=0,
        failed_at=7 if psnr is None else None,
        step_s=0.0,  # claims take times that were measured in turns
        probed={name: [] if seed is None or psnr is None else _looks(name, run, seed, world) for name in run.probes},
        provenance={"date": DATE, "device": "none", "commit": "abc", "packages": {"torch": "0"}},
    )


def scores(mean: float) -> list[float]:
    """Of images that differ much from each other, alike in every run but for a thousandth of a decibel."""
    own = random.Random(mean)
    offsets = [3 * (i - (IMAGES - 1) / 2) for i in range(IMAGES)]
    return [mean + offset + own.gauss(0, 0.001) for offset in offsets]


def _looks(probe: str, run: Experiment, seed: int, world: World) -> list[dict[str, float]]:
    """Of a probe, at four steps; the first half is far from the second."""
    looks: list[dict[str, float]] = []
    for number in range(4):
        early = 10.0 if number < 2 else 1.0
        look: dict[str, float] = {"step": 100.0 * number}
        match probe:
            case "population":
                for what in ("psnr", "worst block"):
                    look |= {what: BASE_DB, f"exact {what}": BASE_DB + early * world.won_back(run, seed, what)}
            case "shift":
                look |= {"relative": early * world.probed(run, seed, "relative"), "cosine": 0.5}
            case "landscape":
                names = ("loss_range", "gradient_change", "smoothness")
                look |= {name: world.probed(run, seed, name) for name in names}
            case "percentiles":
                look |= {"15": -1.0, "50": 0.0, "85": 1.0}
            case "effective_lr":
                look |= {"mean": 0.1}
            case _:
                raise AssertionError(probe)
        looks.append(look)
    return looks


def _contrast(world: World, run: Experiment, seed: int) -> dict[str, Any]:
    return {
        "error": {str(a): 0.01 for a in CONTRASTS},
        "psnr": {str(a): scores(world.at_contrast(run, seed, a)) for a in CONTRASTS},
    }


def _recalibrated(*_: Any) -> dict[str, Any]:
    domains = ("training", "sigma 50", *OTHER_DOMAINS)
    return {name: {"as trained": scores(BASE_DB), "recalibrated": scores(BASE_DB)} for name in domains}


MEASURED: dict[str, Callable[[World, Experiment, int], Any]] = {
    "contrast": _contrast,
    "denoising": lambda world, run, seed: {f"{it:g}": scores(world.at_sigma(run, seed, it)) for it in SIGMAS},
    "invariance": lambda world, *_: {"output": world.deviation(), "gradient": 0.1},
    "recalibrated": _recalibrated,
    "blocks": lambda *_: scores(BASE_DB),
    "folding": lambda world, *_: {"largest difference": world.deviation()},
    "sample": lambda *_: {"before": PICTURE, "after": PICTURE, "clean": PICTURE, "psnr": BASE_DB},
}


def runs_of(claim: str, budget: Budget = SMALL) -> list[Experiment]:
    """What a claim trains to judge, the trials of its search aside, at made-up settings that are all as good."""
    records = records_of(budget=replace(budget, tuning_lengths=()))
    asked = [it for it in state_of(claim, World(), records).answered if not isinstance(it, Trial | Timing)]
    return list(
        {str(run.description): run for it in asked for run in [it.of if isinstance(it, Measurement) else it]}.values()
    )
