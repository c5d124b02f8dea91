"""The trend of an effect over size and length."""

import math
from itertools import product

import numpy as np
import pytest

from restore.studies.scaling import Observation, fit

SIZES = [(10, 16), (12, 32), (17, 32), (17, 64)]
LENGTHS = [750, 1500, 3000, 6000]


def made_up(noise: float, surprise: float = 0.0) -> list[Observation]:
    """Effects of a known trend; in the longest round of the deciding size another one."""
    random = np.random.default_rng(0)
    found = []
    for (depth, features), length, _ in product(SIZES, LENGTHS, range(3)):
        effect = 0.1 + 0.05 * math.log2(length / 750) - 0.03 * math.log2(features / 64) + random.normal(0, noise)
        effect += surprise if (depth, features, length) == (17, 64, 6000) else 0
        found.append(Observation(depth, features, length, effect))
    return found


def test_the_trend_finds_the_coefficients_that_made_the_effects() -> None:
    trend = fit(made_up(1e-6), (17, 64), 24_000)
    assert trend is not None
    _, by_steps, by_features, by_depth = trend.coefficients
    assert (by_steps, by_features, by_depth) == pytest.approx((0.05, -0.03, 0.0), abs=1e-4)
    low, high = trend.extrapolated
    assert low <= 0.1 + 0.05 * math.log2(24_000 / 750) <= high
    assert trend.holds
    assert "For 24,000 steps" in trend.sentence
    assert "weak test" not in trend.sentence


def test_a_round_that_is_inside_an_interval_with_no_effect_at_all_proves_little() -> None:
    trend = fit(made_up(0.3), (17, 64), 24_000)
    assert trend is not None
    assert trend.predicted[0] <= 0 <= trend.predicted[1]
    assert trend.holds
    assert "inside; no effect at all would be inside, too, so this is a weak test." in trend.sentence


def test_more_than_two_doublings_beyond_the_longest_round_it_says_nothing() -> None:
    trend = fit(made_up(0.005), (17, 64), 80_000)
    assert trend is not None
    assert trend.beyond == 12_000
    assert "80,000 steps, of batches four times as large, are 3.7 doublings beyond the longest round" in trend.sentence


def test_a_round_that_breaks_the_trend_is_noticed_and_ends_the_extrapolation() -> None:
    trend = fit(made_up(0.005, surprise=0.3), (17, 64), 80_000)
    assert trend is not None
    assert not trend.holds
    assert "cannot say anything of longer runs" in trend.sentence


def test_the_longest_round_is_not_seen_by_the_fit_that_predicts_it() -> None:
    plain, surprised = (fit(made_up(0.005, surprise), (17, 64), 80_000) for surprise in (0.0, 0.3))
    assert plain is not None
    assert surprised is not None
    assert plain.predicted == surprised.predicted


@pytest.mark.parametrize("misfit", [0.0, 0.05])
def test_intervals_cover_the_held_out_round_about_as_often_as_they_say(misfit: float) -> None:
    """Also if rounds lie off the plane, all seeds alike."""
    covered = 0
    for seed in range(200):
        random = np.random.default_rng(seed)
        rounds = [
            (depth, features, length, 0.05 * math.log2(length) + random.normal(0, misfit))
            for (depth, features), length in product(SIZES, LENGTHS)
        ]
        observations = [
            Observation(depth, features, length, effect + random.normal(0, 0.02))
            for (depth, features, length, effect), _ in product(rounds, range(3))
        ]
        trend = fit(observations, (17, 64), 80_000)
        assert trend is not None
        covered += trend.holds
    assert 180 <= covered <= 199


def test_too_few_rounds_or_sizes_give_no_trend() -> None:
    observations = made_up(0.01)
    assert fit([it for it in observations if it.steps <= 3000], (17, 64), 80_000) is None
    assert fit([it for it in observations if it.features == 64], (17, 64), 80_000) is None
