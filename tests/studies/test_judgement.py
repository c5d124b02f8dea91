"""Verdicts: from intervals and criteria to words."""

from dataclasses import replace

import pytest

from restore.studies.criteria import Criterion
from restore.studies.effects import Effect
from restore.studies.judgement import Finding, Part, Verdict, combined, judge, judge_all

ABOVE = Criterion("a difference", "dB", "above", 0.0, 0.05)
ABOVE_HALF = Criterion("a difference", "dB", "above", 0.5)
BELOW = Criterion("a ratio", "x", "below", 1.0, 0.1)
BETWEEN = Criterion("a saving", "%", "between", 35.0, upper=45.0)


def around(mean: float, spread: float, unit: str = "dB") -> Effect:
    """Five seeds; the 95 % interval is 1.96 times `spread` to both sides."""
    return Effect(tuple(mean + spread * it for it in (-2.0, -1.0, 0.0, 1.0, 2.0)), unit)


def verdict(effect: Effect, criterion: Criterion, void: str = "") -> Verdict:
    return judge(Part("part", effect, criterion, void))


@pytest.mark.parametrize(
    ("effect", "criterion", "expected"),
    [
        (around(0.3, 0.1), ABOVE, "supported"),
        (around(-0.3, 0.1), ABOVE, "refuted"),
        (around(0.0, 0.01), ABOVE, "equal"),
        (around(0.03, 0.005), ABOVE, "equal"),  # more than nothing, but less than matters
        (around(0.1, 0.1), ABOVE, "undecided"),
        (around(0.6, 0.01), ABOVE_HALF, "supported"),
        (around(0.0, 0.01), ABOVE_HALF, "refuted"),
        (around(0.5, 0.01), ABOVE_HALF, "undecided"),
        (around(0.5, 0.05, "x"), BELOW, "supported"),
        (around(2.0, 0.1, "x"), BELOW, "refuted"),
        (around(1.0, 0.02, "x"), BELOW, "equal"),
        (around(1.0, 0.2, "x"), BELOW, "undecided"),
        (around(40.0, 1.0, "%"), BETWEEN, "supported"),
        (around(20.0, 1.0, "%"), BETWEEN, "refuted"),
        (around(60.0, 1.0, "%"), BETWEEN, "refuted"),
        (around(36.0, 1.0, "%"), BETWEEN, "undecided"),
        (around(44.0, 1.0, "%"), BETWEEN, "undecided"),
    ],
)
def test_a_verdict_follows_from_the_interval_and_the_criterion(
    effect: Effect, criterion: Criterion, expected: Verdict
) -> None:
    assert verdict(effect, criterion) == expected


@pytest.mark.parametrize(("mean", "slack", "expected"), [
    (1.0, 1.0, "refuted"), (1.0, 3.0, "refuted"), (1.0, 6.0, "undecided"), (3.0, 2.0, "undecided"),
    (6.0, 1.0, "supported"), (6.0, 3.0, "supported"),
])  # fmt: skip
def test_a_ratio_that_may_be_larger_is_refuted_only_if_it_would_be_then(
    mean: float, slack: float, expected: Verdict
) -> None:
    criterion = Criterion("a ratio", "x", "above", 5.0)
    part = Part("part", Effect((mean, 1.01 * mean, 1.02 * mean), "x"), criterion, slack=slack)
    assert judge(part) == expected
    larger = Effect(tuple(slack * value for value in part.effect.values), "x")
    if 5.0 / slack < mean < 5.0:
        assert part.p_value == pytest.approx(1.0)  # neither smaller nor larger is excluded
    else:
        assert part.p_value == pytest.approx((part.effect if mean > 5 else larger).p_value(5.0))


def test_what_is_judged_twice_needs_twice_the_evidence() -> None:
    part = Part("part", around(0.3, 0.1), ABOVE)
    again = replace(part, looks=2)
    assert again.p_value == pytest.approx(2 * (part.p_value or 0))
    once = part.p_value or 0
    assert judge_all({"one": Finding([part], "")}, round(0.04 / once))["one"].verdict == "supported"
    assert judge_all({"one": Finding([again], "")}, round(0.04 / once))["one"].verdict == "undecided"
    reach = Effect((-2.0, -1.0, 0.0, 1.0, 2.0), "dB").interval(0.95) or (0, 0)
    for times, expected in ((0.99, "equal"), (1.01, "undecided")):
        assert judge(Part("part", around(0.0, times * 0.05 / reach[1]), ABOVE, looks=2)) == expected


def test_equal_is_what_lies_within_the_margin_with_its_whole_90_percent_interval() -> None:
    reach = Effect((-2.0, -1.0, 0.0, 1.0, 2.0), "dB").interval(0.90) or (0, 0)
    assert verdict(around(0.0, 0.99 * 0.05 / reach[1]), ABOVE) == "equal"
    assert verdict(around(0.0, 1.01 * 0.05 / reach[1]), ABOVE) == "undecided"


def test_the_margin_lies_around_no_effect_wherever_the_threshold_is() -> None:
    criterion = Criterion("a loss", "dB", "above", 0.1, 0.05)
    assert verdict(around(0.0, 0.001), criterion) == "equal"
    assert verdict(around(0.07, 0.001), criterion) == "refuted"
    assert verdict(around(-0.2, 0.001), criterion) == "refuted"


@pytest.mark.parametrize("value", [40.0, 20.0])
def test_what_is_certain_needs_one_value(value: float) -> None:
    expected = "supported" if value == 40 else "refuted"
    assert verdict(Effect((value,), "%", stochastic=False), BETWEEN) == expected


@pytest.mark.parametrize("criterion", [ABOVE, ABOVE_HALF, BETWEEN])
@pytest.mark.parametrize("value", [-100.0, 0.0, 40.0, 100.0])
def test_one_seed_never_decides(value: float, criterion: Criterion) -> None:
    assert verdict(Effect((value,), criterion.unit), criterion) == "undecided"


@pytest.mark.parametrize("effect", [around(0.3, 0.01), around(-0.3, 0.01), around(0.0, 0.001)])
def test_void_wins_over_any_effect(effect: Effect) -> None:
    assert verdict(effect, ABOVE, "batch was never trained") == "void"


@pytest.mark.parametrize(("mean", "alone"), [(0.3, "supported"), (-0.3, "refuted")])
def test_holms_correction_over_a_report_leaves_undecided_what_one_comparison_would_decide(
    mean: float, alone: Verdict
) -> None:
    part = Part("part", around(mean, 0.1), ABOVE)
    assert judge_all({"alone": Finding([part], "")}, 1)["alone"].verdict == alone
    others = {f"other {i}": Finding([Part("part", around(0.0, 1.0), ABOVE)], "") for i in range(9)}
    for findings in ({"one": Finding([part], ""), **others}, {"one": Finding([part], "")}):  # on record or not
        among = judge_all(findings, 10)["one"]
        assert among.verdict == "undecided"
        assert among.adjusted_p["part"] == pytest.approx(10 * (part.p_value or 0))


def test_void_and_certain_parts_do_not_count_in_holms_correction() -> None:
    part = Part("part", around(0.3, 0.1), ABOVE)
    void = [Part(f"void {i}", around(0.3, 0.1), ABOVE, "void") for i in range(9)]
    certain = [Part(f"certain {i}", Effect((40.0,), "%", stochastic=False), BETWEEN) for i in range(9)]
    found = judge_all({"one": Finding([part], ""), "others": Finding([*void, *certain], "")}, 1)
    assert found["one"].adjusted_p["part"] == part.p_value
    assert found["others"].adjusted_p == {}


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        (["supported", "supported"], "supported"),
        (["supported", "equal"], "equal"),
        (["equal", "undecided", "supported"], "undecided"),
        (["undecided", "refuted", "equal", "supported"], "refuted"),
        (["refuted", "undecided", "equal", "supported", "void"], "void"),
    ],
)
def test_a_claim_is_supported_if_all_of_its_parts_are(verdicts: list[Verdict], expected: Verdict) -> None:
    assert combined(verdicts) == expected
    assert combined(verdicts[::-1]) == expected
