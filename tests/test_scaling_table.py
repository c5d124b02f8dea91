"""The cost model against arithmetic."""

import sys
from pathlib import Path

import pytest

from restore import recipes

sys.path.append(str(Path(__file__).parents[1] / "scripts"))
import scaling


def test_a_step_is_shared_has_a_least_time_and_then_exchanges_gradients() -> None:
    gpu = scaling.Devices(rate=1e12, launch_s=0.1, bandwidth=1e9)
    assert gpu.step_s(2e12, 1e9, count=1) == 2.0
    assert gpu.step_s(2e12, 1e9, count=2) == pytest.approx(1 + 1)
    assert gpu.step_s(2e12, 1e9, count=4) == pytest.approx(0.5 + 1.5)
    assert gpu.step_s(2e12, 0.0, count=64) == 0.1


def test_more_devices_than_patches_take_a_larger_batch_for_fewer_steps_of_the_same_patches() -> None:
    recipe = recipes.read(recipes.find("srresnet_x4"))
    gpu = scaling.Devices(rate=1e15, launch_s=0.01, bandwidth=1e12)
    one, many = (scaling._row(recipe, gpu, count, price=3) for count in (1, 64))
    assert (one["batch"], one["steps"]) == ("16", "300,000")
    assert (many["batch"], many["steps"]) == ("64", "75,000")
    assert float(one["hours"]) == pytest.approx(300_000 * 0.01 / 3600, abs=0.05)
    assert float(one["price"]) == pytest.approx(3 * 300_000 * 0.01 / 3600, abs=0.5)
