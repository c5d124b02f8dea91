"""Times of training steps, arms in turns: for comparisons at equal time."""

import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from restore.errors import UserError
from restore.files import write_atomically
from restore.provenance import provenance
from restore.studies.data import StudyData
from restore.studies.experiment import Experiment
from restore.studies.trajectory import Trajectory

FILE = "step_times.json"
LEFT_OUT = "measurements on other devices"
WARM_UP_STEPS = 3
ENDLESS = 10**9  # steps, so that none of those timed is in the decay


class Stopped(Exception):  # noqa: N818 (no error)
    """A measurement was interrupted before its end."""


@dataclass(frozen=True)
class StepTimes:
    """What was measured.

    Attributes:
        seconds: by arm, of one step, one value for each round of turns.
        provenance: device, threads, versions, commit, date.
    """

    seconds: Mapping[str, tuple[float, ...]]
    provenance: Mapping[str, Any]

    def of(self, arm: str) -> float:
        """Median over rounds, in seconds."""
        return statistics.median(self.seconds[arm])

    def ratio(self, arm: str, other: str) -> float:
        """How many times as long as the other's a step of an arm takes: median over rounds."""
        pairs = zip(self.seconds[arm], self.seconds[other], strict=True)
        return statistics.median(own / others for own, others in pairs)

    @classmethod
    def joined(cls, times: "Sequence[StepTimes]") -> "StepTimes":
        """The rounds of several measurements of the same arms, but those made on another device than the first, whose
        number `processor` tells."""
        first, device = times[0], times[0].provenance["device"]
        alike = [one for one in times if one.provenance["device"] == device]
        seconds = {arm: tuple(it for one in alike for it in one.seconds[arm]) for arm in first.seconds}
        return cls(seconds, {**first.provenance, LEFT_OUT: len(times) - len(alike)})

    @property
    def json(self) -> dict[str, Any]:
        """As JSON."""
        return {"seconds": self.seconds, "provenance": self.provenance}

    @classmethod
    def of_json(cls, content: Mapping[str, Any]) -> "StepTimes":
        """The inverse of `json`."""
        seconds = {arm: tuple(map(float, values)) for arm, values in content["seconds"].items()}
        return cls(seconds, dict(content["provenance"]))

    def save(self, folder: Path) -> Path:
        """Write `step_times.json`; returns its path."""
        write_atomically(folder / FILE, json.dumps(self.json, indent=2) + "\n")
        return folder / FILE

    @classmethod
    def load(cls, folder: Path) -> "StepTimes | None":
        """Read `step_times.json`; None if there is none.

        Raises:
            UserError: it is damaged.
        """
        path = folder / FILE
        if not path.exists():
            return None
        try:
            return cls.of_json(json.loads(path.read_text()))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{path}: not times of steps, or damaged ({error}); delete it") from error


def processor(times: StepTimes | None) -> str:
    """What steps were timed on, in words; without measured times these are of runs, by processor time."""
    if times is None:
        return "one core"
    device = times.provenance["device"]
    left_out = times.provenance.get(LEFT_OUT)
    others = f" ({left_out} seeds on other devices left out)" if left_out else ""
    return ("one core" if device.startswith("cpu") else f"one {device}") + others


def measure(
    arms: Mapping[str, Experiment],
    data: StudyData,
    device: torch.device,
    *,
    rounds: int = 5,
    turn_s: float = 4.0,
    interrupted: Callable[[], bool] = lambda: False,
) -> StepTimes:
    """Time the training steps of arms, one arm after the other, in rounds: on a CPU by processor time; on a GPU by the
    clock, so nothing else should use the GPU meanwhile.

    Args:
        arms: by name.
        data: the images.
        device: where the steps are taken.
        rounds: how often each arm has its turn.
        turn_s: how long a turn takes at least, in seconds of its steps.
        interrupted: is asked before each step.

    Raises:
        Stopped: interrupted.
        UserError: data are missing or do not fit.
    """
    endless = {name: experiment.of_length(ENDLESS) for name, experiment in arms.items()}
    trained = {name: Trajectory(experiment, data, 0, device) for name, experiment in endless.items()}
    for one in trained.values():
        for _ in range(WARM_UP_STEPS):
            if interrupted():
                raise Stopped
            one.take_step()
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    for _ in range(rounds):
        for name, one in trained.items():
            turn: list[float] = []
            while sum(turn) < turn_s:
                if interrupted():
                    raise Stopped
                turn.append(one.take_step())
            seconds[name].append(statistics.fmean(turn))
    origin = {name: it for name, it in provenance(device).items() if name != "command"}  # which holds paths
    return StepTimes({name: tuple(values) for name, values in seconds.items()}, origin)
