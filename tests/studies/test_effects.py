"""Effects, their intervals and p-values, against scipy and against simulations."""

import math

import numpy as np
import pytest
from scipy import stats

from restore.studies.effects import Effect, difference, holm, ratio, seeds_needed

VALUES = (0.31, 0.12, 0.44, -0.05, 0.27)
IMAGES = 6


def alike(values: tuple[float, ...]) -> tuple[tuple[float, ...], ...]:
    """Scores of images that all agree."""
    return tuple((value,) * IMAGES for value in values)


@pytest.mark.parametrize("confidence", [0.90, 0.95])
@pytest.mark.parametrize("values", [VALUES, VALUES[:3], VALUES[:2]], ids=len)
def test_the_interval_is_students_without_images_and_with_images_that_agree(
    values: tuple[float, ...], confidence: float
) -> None:
    student = stats.t.interval(confidence, len(values) - 1, np.mean(values), stats.sem(values))
    assert Effect(values, "dB").interval(confidence) == pytest.approx(student)
    assert Effect(values, "dB", images=alike(values)).interval(confidence) == pytest.approx(
        student, abs=3e-3 * (student[1] - student[0])
    )


def test_images_that_differ_widen_the_interval_as_their_own_mean_varies() -> None:
    scores = np.random.default_rng(0).normal(0, 1, 100)
    low, high = Effect((0.0,) * 3, "dB", images=(tuple(scores - scores.mean()),) * 3).interval() or (0, 0)
    assert (high - low) / 2 == pytest.approx(1.96 * scores.std() / 10, rel=0.05)


@pytest.mark.parametrize(("seed_sd", "image_sd"), [(1.0, 0.0), (1.0, 3.0), (0.1, 3.0)])
def test_intervals_of_few_seeds_and_some_images_hold_the_truth_at_about_their_confidence(
    seed_sd: float, image_sd: float
) -> None:
    random = np.random.default_rng(1)
    held = 0
    for _ in range(400):
        table = random.normal(0, seed_sd, (5, 1)) + random.normal(0, image_sd, 30) + random.normal(0, 0.2, (5, 30))
        low, high = Effect(tuple(table.mean(1)), "dB", images=tuple(map(tuple, table))).interval() or (0, 0)
        held += low < 0 < high
    assert 0.92 < held / 400 < 0.99


def test_ratios_are_averaged_and_bounded_by_their_logarithms() -> None:
    found = ratio([2.0, 8.0, 3.0], [1.0, 2.0, 1.0])
    logarithms = np.log([2.0, 4.0, 3.0])
    assert found.mean == pytest.approx(math.exp(logarithms.mean()))
    low, high = stats.t.interval(0.95, 2, logarithms.mean(), stats.sem(logarithms))
    assert found.interval() == pytest.approx((math.exp(low), math.exp(high)))
    assert found.p_value(1.5) == pytest.approx(stats.ttest_1samp(logarithms, math.log(1.5)).pvalue)


@pytest.mark.parametrize("null", [0.0, 0.5])
def test_p_values_are_those_of_students_test(null: float) -> None:
    expected = stats.ttest_1samp(VALUES, null).pvalue
    assert Effect(VALUES, "dB").p_value(null) == pytest.approx(expected)
    assert Effect(VALUES, "dB", images=alike(VALUES)).p_value(null) == pytest.approx(expected)
    apart = tuple(tuple(value + it for it in (-1.0, 1.0)) for value in VALUES)
    assert (Effect(VALUES, "dB", images=apart).p_value(null) or 0) > expected


def test_one_seed_has_no_interval_and_no_p_value_and_one_image_adds_no_variance() -> None:
    assert Effect((1.0,), "dB").interval() is None
    assert Effect((1.0,), "dB").p_value(0) is None
    one_image = Effect(VALUES, "dB", images=tuple((value,) for value in VALUES))
    assert one_image.p_value(0) == pytest.approx(stats.ttest_1samp(VALUES, 0).pvalue)


def test_what_is_not_stochastic_is_certain_after_one_value() -> None:
    effect = Effect((40.0,), "%", stochastic=False)
    assert effect.interval() == (40, 40)
    assert effect.p_value(35) is None


def test_holm_corrects_a_worked_example() -> None:
    # Sorted: 0.005 x 4, 0.01 x 3, 0.03 x 2, 0.04 x 1, each at least as large as the one before.
    found = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005}, of=4)
    assert found == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02})
    assert holm({"a": 0.6, "b": 0.7}, of=2) == {"a": 1, "b": 1}


def test_a_p_value_that_is_added_raises_no_other() -> None:
    before = {"a": 0.01, "b": 0.04}
    alone = holm(before, of=4)
    assert alone == pytest.approx({"a": 0.04, "b": 0.12})
    for added in (0.001, 0.02, 0.3, 0.9):
        together = holm({**before, "c": added}, of=4)
        assert all(together[name] <= alone[name] for name in before)


# Cohen's d and the sample that a one-sample t-test needs for a power of 80 %, two-sided at 5 % (G*Power).
@pytest.mark.parametrize(("size", "needed"), [(0.2, 199), (0.5, 34), (0.8, 15)])
def test_the_number_of_seeds_is_the_published_sample_size(size: float, needed: int) -> None:
    assert seeds_needed(1.0, size) == needed
    assert seeds_needed(0.3, 0.3 * size) == needed


def test_that_many_seeds_detect_the_effect_in_four_of_five_simulations() -> None:
    draws = np.random.default_rng(0).normal(1.0, 0.9, (2000, seeds_needed(0.9, 1.0) or 0))
    assert (stats.ttest_1samp(draws, 0, axis=1).pvalue < 0.05).mean() == pytest.approx(0.82, abs=0.04)


@pytest.mark.parametrize(("image_error", "enough"), [(0.2, True), (0.5, False)])
def test_seeds_do_not_make_up_for_what_images_differ_by(image_error: float, enough: bool) -> None:
    needed = seeds_needed(0.9, 1.0, image_error)
    assert (needed is not None) == enough
    if needed is not None:
        random = np.random.default_rng(0)
        error = random.normal(0, image_error, (2000, 1))  # of the images that were drawn, in all seeds alike
        draws = random.normal(1.0, 0.9, (2000, needed)) + error
        distance = draws.mean(1) / np.hypot(draws.std(1, ddof=1) / needed**0.5, image_error)
        assert (distance > stats.t.ppf(0.975, needed - 1)).mean() == pytest.approx(0.82, abs=0.04)


def test_differences_pair_seeds_and_images() -> None:
    one = Effect((1.5, 3.5), "dB", images=((1.0, 2.0), (3.0, 4.0)))
    other = Effect((0.5, 2.5), "dB", images=((0.0, 1.0), (1.0, 4.0)))
    found = difference(one, other)
    assert found.values == (1.0, 1.0)
    assert found.images == ((1.0, 1.0), (2.0, 0.0))
    swapped = difference(one, Effect(other.values[::-1], "dB", images=other.images[::-1]))
    assert swapped.values == (-1.0, 3.0)
    assert swapped.interval() != found.interval()


def test_a_seed_that_one_of_two_does_not_have_is_left_out_and_the_others_stay_paired() -> None:
    one = Effect((1.0, 2.0, 4.0), "dB", images=alike((1.0, 2.0, 4.0)), seeds=(0, 1, 3))
    other = Effect((0.5, 0.25, 0.125), "dB", images=alike((0.5, 0.25, 0.125)), seeds=(1, 2, 3))
    found = difference(one, other)
    assert (found.values, found.seeds) == ((1.5, 3.875), (1, 3))
    assert found.images == alike((1.5, 3.875))
    assert math.isnan(difference(one, Effect((1.0,), "dB", seeds=(2,))).mean)
