"""Reading learning curves."""

from typing import Any

import pytest

from restore.studies.curves import best_of, final, reached
from restore.studies.experiment import Record


def record(psnr: list[float], **changes: Any) -> Record:
    steps = [10 * (i + 1) for i in range(len(psnr))]
    fields: dict[str, Any] = {
        "experiment": {}, "seed": 0, "steps": steps, "psnr": psnr, "ssim": psnr, "losses": [], "train_psnr": 0.0,
        "train_mode_psnr": 0.0, "diverged_at": None, "spikes": 0, "step_s": 1.0, "watched": {}, "provenance": {},
    }  # fmt: skip
    return Record(**fields | changes)


def test_a_target_between_two_evaluations_is_reached_on_the_line_between_them() -> None:
    assert reached([record([20.0, 24.0, 25.0])], [23.0]) == pytest.approx([17.5])


def test_a_target_reached_at_the_first_evaluation_takes_all_of_its_steps() -> None:
    assert reached([record([20.0, 24.0])], [19.0]) == [10.0]


def test_a_target_never_reached_takes_the_whole_run() -> None:
    assert reached([record([20.0, 24.0])], [30.0]) == [20.0]


def test_the_best_setting_ends_highest_in_the_mean_over_seeds() -> None:
    runs = {"a": [record([30.0]), record([20.0])], "b": [record([26.0]), record([26.0])]}
    assert best_of(runs) == "b"
    assert final(runs["a"]) == [30.0, 20.0]
