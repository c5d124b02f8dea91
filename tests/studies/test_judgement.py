"""Effects, intervals and verdicts."""

import numpy as np
import pytest
from scipy import stats

from restore.studies.judgement import Effect, all_of, difference, is_above, is_below, ratio


def test_the_interval_is_that_of_scipys_one_sample_t_test() -> None:
    values = (0.3, 0.5, 0.1, 0.45)
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert Effect(values, "dB").interval == pytest.approx((expected.low, expected.high))


def test_the_interval_of_ratios_is_that_of_their_logarithms() -> None:
    ratios = (0.25, 0.5, 2.0)
    expected = stats.ttest_1samp(np.log(ratios), 0).confidence_interval(0.95)
    assert Effect(ratios, "x").interval == pytest.approx((np.exp(expected.low), np.exp(expected.high)))
    assert Effect(ratios, "x").mean == pytest.approx(0.25 ** (1 / 3))


def test_one_seed_never_gives_a_verdict() -> None:
    assert Effect((100.0,), "dB").interval is None
    assert is_above(Effect((100.0,), "dB"), 0) == "inconclusive"


def test_what_is_certain_needs_no_second_seed() -> None:
    certain = Effect((39.9,), "%", stochastic=False)
    assert is_above(certain, 35) == "supported"
    assert is_above(certain, 45) == "refuted"


@pytest.mark.parametrize(
    ("values", "verdict"),
    [((1.0, 1.1, 0.9), "supported"), ((-1.0, -1.1, -0.9), "refuted"), ((1.0, -1.0, 0.2), "inconclusive")],
)
def test_a_verdict_needs_the_whole_interval_on_one_side(values: tuple[float, ...], verdict: str) -> None:
    assert is_above(Effect(values, "dB"), 0) == verdict
    assert is_below(Effect(tuple(-value for value in values), "dB"), 0) == verdict


def test_a_claim_of_several_parts_falls_with_one_of_them() -> None:
    assert all_of("supported", "supported") == "supported"
    assert all_of("supported", "inconclusive") == "inconclusive"
    assert all_of("supported", "inconclusive", "refuted") == "refuted"


def test_differences_and_ratios_are_taken_seed_by_seed() -> None:
    assert difference([3.0, 5.0], [1.0, 1.0], "dB").values == (2.0, 4.0)
    assert ratio([3.0, 5.0], [1.0, 2.0]).values == (3.0, 2.5)
