"""From effects to verdicts: what a claim's parts say, each by its criterion, all of a report corrected together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from restore.studies.criteria import Criterion
from restore.studies.effects import CONFIDENCE, Effect, holm
from restore.studies.figures import Figure

Verdict = Literal["supported", "refuted", "equal", "undecided", "void"]
EQUIVALENCE = 0.90  # two one-sided tests at 5 %
LEVEL = 1 - CONFIDENCE


@dataclass(frozen=True)
class Part:
    """One comparison that decides.

    Attributes:
        name: of it, within its claim.
        effect: what was measured.
        criterion: what was stated before.
        void: why it says nothing; empty if it does.
        slack: of a ratio that a grid bounds from below: how many times larger it may be. It is refuted only if it would
            be then, too.
        looks: how often it is judged: twice if seeds were added after the first ones had been seen. Its p-value is
            multiplied by that, and `equal` is tested at 5 % divided by that.
    """

    name: str
    effect: Effect
    criterion: Criterion
    void: str = ""
    slack: float = 1.0
    looks: int = 1

    @property
    def p_value(self) -> float | None:
        """That the effect is on the other side of the threshold; 1 within the slack, where it says nothing."""
        threshold = self.criterion.threshold
        nearest = min(max(self.effect.mean, threshold / self.slack), threshold) if self.slack > 1 else threshold
        p = None if self.void else self.effect.p_value(nearest)
        return None if p is None else min(1.0, self.looks * p)


@dataclass(frozen=True)
class Finding:
    """What the experiments say of a claim.

    Attributes:
        parts: the comparisons that decide; the claim is supported if all are.
        sentence: plain words with the numbers.
        figures: to look at.
        table: rows of the same keys, from which it follows.
    """

    parts: Sequence[Part]
    sentence: str
    figures: Sequence[Figure] = ()
    table: Sequence[dict[str, str | float]] = field(default_factory=list)


def judge(part: Part, adjusted_p: float | None = None) -> Verdict:
    """What one comparison says.

    Args:
        part: the comparison.
        adjusted_p: its p-value, corrected for all comparisons of a report. If it is above 5 %, an interval on one side
            of the threshold decides nothing.
    """
    effect, criterion = part.effect, part.criterion
    if part.void:
        return "void"
    interval = effect.interval()
    if interval is None:
        return "undecided"
    if criterion.margin is not None and criterion.direction != "between":
        low, high = effect.interval(1 - (1 - EQUIVALENCE) / part.looks) or interval
        if _within(low, high, criterion.margin, effect.unit):
            return "equal"
    verdict = _beyond(interval, criterion)
    if verdict == "refuted" and _beyond((interval[0], interval[1] * part.slack), criterion) != "refuted":
        return "undecided"
    if effect.stochastic and adjusted_p is not None and adjusted_p > LEVEL:
        return "undecided"
    return verdict


def _beyond(interval: tuple[float, float], criterion: Criterion) -> Verdict:
    low, high = interval
    threshold, upper = criterion.threshold, criterion.upper
    match criterion.direction:
        case "above":
            return "supported" if low > threshold else "refuted" if high < threshold else "undecided"
        case "below":
            return "supported" if high < threshold else "refuted" if low > threshold else "undecided"
        case "between":
            assert upper is not None
            inside, outside = threshold <= low and high <= upper, high < threshold or low > upper
            return "supported" if inside else "refuted" if outside else "undecided"


def _within(low: float, high: float, margin: float, unit: str) -> bool:
    """Whether an interval lies within the margin around no effect: 1 for ratios, else 0."""
    return 1 / (1 + margin) < low and high < 1 + margin if unit == "x" else -margin < low and high < margin


def combined(verdicts: Sequence[Verdict]) -> Verdict:
    """Of a claim with several parts: supported if all are; otherwise the first of these that one part is: void,
    refuted, undecided, equal."""
    order: tuple[Verdict, ...] = ("void", "refuted", "undecided", "equal")
    return next((verdict for verdict in order if verdict in verdicts), "supported")


@dataclass(frozen=True)
class Judgement:
    """The verdict on a claim.

    Attributes:
        verdict: on the claim as it is worded.
        parts: the verdict on each part, by name.
        adjusted_p: of each stochastic part, by name, Holm's p-value over all claims.
    """

    verdict: Verdict
    parts: Mapping[str, Verdict]
    adjusted_p: Mapping[str, float]


def judge_all(findings: Mapping[str, Finding], comparisons: int) -> dict[str, Judgement]:
    """Verdicts on claims, their p-values corrected together (Holm).

    Args:
        findings: by claim.
        comparisons: how many are corrected for: all stochastic ones of all claims, on record or not, so that a verdict
            does not change because a claim is added to the report.
    """
    parts = {f"{claim}/{part.name}": part for claim, finding in findings.items() for part in finding.parts}
    p_values = {name: part.p_value for name, part in parts.items()}
    adjusted = holm({name: p for name, p in p_values.items() if p is not None}, comparisons)
    judgements = {}
    for claim, finding in findings.items():
        verdicts = {part.name: judge(part, adjusted.get(f"{claim}/{part.name}")) for part in finding.parts}
        own = {part.name: adjusted[key] for part in finding.parts if (key := f"{claim}/{part.name}") in adjusted}
        judgements[claim] = Judgement(combined(list(verdicts.values())), verdicts, own)
    return judgements
