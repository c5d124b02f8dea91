"""Times of training steps, arms in turns."""

from itertools import groupby
from pathlib import Path

import pytest
import torch

from restore.errors import UserError
from restore.studies.budget import BUDGETS
from restore.studies.data import StudyData
from restore.studies.step_times import FILE, StepTimes, measure, processor
from restore.studies.trajectory import Trajectory


def test_arms_take_turns_and_each_has_a_time_for_each_round(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESTORE_CACHE", str(tmp_path / "cache"))
    took: list[int] = []
    take = Trajectory.take_step

    def noted(trajectory: Trajectory) -> float:
        assert trajectory._experiment.rate_factor(10**6) == 1.0  # never in the decay
        took.append(trajectory.network.features)
        return take(trajectory)

    monkeypatch.setattr(Trajectory, "take_step", noted)
    base = BUDGETS["smoke"].denoising(norm="none")
    arms = {"narrow": base.with_network(features=4), "wide": base.with_network(features=8)}
    times = measure(arms, StudyData("photos", tmp_path), torch.device("cpu"), rounds=3, turn_s=1e-6)
    assert "command" not in times.provenance  # a committed file names no paths
    assert [features for features, _ in groupby(took)] == [4, 8] * 4  # warm-up, and three rounds
    assert {name: len(seconds) for name, seconds in times.seconds.items()} == {"narrow": 3, "wide": 3}
    assert min(min(seconds) for seconds in times.seconds.values()) > 0
    times.save(tmp_path)
    assert StepTimes.load(tmp_path) == times


def test_a_time_is_the_mean_of_the_steps_of_a_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESTORE_CACHE", str(tmp_path / "cache"))
    took = iter([9.0] * 3 + [0.25, 0.75, 0.5] * 2)  # warm-up, then two turns of a second at least
    monkeypatch.setattr(Trajectory, "take_step", lambda _: next(took))
    arms = {"one": BUDGETS["smoke"].denoising(norm="none")}
    times = measure(arms, StudyData("photos", tmp_path), torch.device("cpu"), rounds=2, turn_s=1.1)
    assert times.seconds == {"one": (0.5, 0.5)}


def test_ratios_are_of_turns_in_the_same_round() -> None:
    times = StepTimes({"a": (1.0, 10.0, 2.0), "b": (2.0, 20.0, 4.0)}, {})  # the machine was busy in the second
    assert times.ratio("a", "b") == 0.5
    assert times.of("a") == 2.0


def test_measurements_of_the_same_arms_are_joined() -> None:
    cpu, gpu = {"device": "cpu"}, {"device": "gpu"}
    once, again = StepTimes({"a": (1.0,), "b": (2.0,)}, cpu), StepTimes({"a": (3.0,), "b": (9.0,)}, cpu)
    elsewhere = StepTimes({"a": (0.1,), "b": (0.3,)}, gpu)
    joined = StepTimes.joined([once, elsewhere, again])
    assert joined.seconds == {"a": (1.0, 3.0), "b": (2.0, 9.0)}
    assert processor(joined) == "one core (1 seeds on other devices left out)"
    assert processor(StepTimes.joined([once, again])) == "one core"


@pytest.mark.parametrize("content", ["", "[]", '{"seconds": {"a": ["x"]}, "provenance": {}}', '{"seconds": {}}'])
def test_a_damaged_file_is_named(content: str, tmp_path: Path) -> None:
    assert StepTimes.load(tmp_path) is None
    (tmp_path / FILE).write_text(content)
    with pytest.raises(UserError, match=r"step_times\.json: not times of steps, or damaged"):
        StepTimes.load(tmp_path)
