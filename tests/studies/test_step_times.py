"""Times of training steps, arms in turns."""

from pathlib import Path

import pytest

from restore.errors import UserError
from restore.studies.budget import BUDGETS
from restore.studies.data import StudyData
from restore.studies.step_times import FILE, StepTimes, measure


def test_each_arm_has_a_time_for_each_round(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESTORE_CACHE", str(tmp_path / "cache"))
    budget = BUDGETS["smoke"]
    larger = budget.denoising(norm="none").with_network(depth=12, features=32)
    arms = {"small": budget.denoising(norm="none"), "large": larger}
    times = measure(arms, StudyData("photos", tmp_path), rounds=3, turn_s=0.05)
    assert {name: len(seconds) for name, seconds in times.seconds.items()} == {"small": 3, "large": 3}
    assert times.ratio("large", "small") > 2
    assert times.ratio("small", "large") == pytest.approx(1 / times.ratio("large", "small"))
    times.save(tmp_path)
    assert StepTimes.load(tmp_path) == times


def test_ratios_are_of_turns_in_the_same_round() -> None:
    times = StepTimes({"a": (1.0, 10.0, 2.0), "b": (2.0, 20.0, 4.0)}, {})  # the machine was busy in the second
    assert times.ratio("a", "b") == 0.5
    assert times.of("a") == 2.0


@pytest.mark.parametrize("content", ["", "[]", '{"seconds": {"a": ["x"]}, "provenance": {}}', '{"seconds": {}}'])
def test_a_damaged_file_is_named(content: str, tmp_path: Path) -> None:
    assert StepTimes.load(tmp_path) is None
    (tmp_path / FILE).write_text(content)
    with pytest.raises(UserError, match=r"step_times\.json: not times of steps, or damaged"):
        StepTimes.load(tmp_path)
