"""What the rounds of the contrast at full size say: effects with their verdicts, steps to a target, the trend."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from restore.studies.contrast import FULL, FULL_SIZE, LARGER, NORMS, SIZES, Arm
from restore.studies.criteria import CONTRAST, TARGETS_DB, Criterion
from restore.studies.curves import change_if_shorter, failures, gain, psnr, reached_before, steps_to, void
from restore.studies.effects import Effect, difference, holm, scaled
from restore.studies.experiment import Record, mode_gaps
from restore.studies.judgement import Part, Verdict, judge
from restore.studies.scaling import Observation, Trend, fit
from restore.studies.step_times import StepTimes

PAPER_STEPS = 80_000  # of 128 patches, DnCNN's training
CENTRAL = ("DnCNN", "EDSR")  # the comparisons that are tested, in their longest rounds; all others are explored
# What each criterion compares: the arm that should be ahead by it, and the other.
PAIRS: dict[str, tuple[Arm, Arm]] = {
    "DnCNN": ((FULL_SIZE.name, "batch"), (FULL_SIZE.name, "none")),
    "EDSR": (("EDSR", "none"), ("EDSR", "batch")),
    "EDSR, gain 0": (("EDSR", "none"), ("EDSR", "batch, gain 0")),
    "EDSR, equal memory": (("EDSR", LARGER), ("EDSR", "batch")),
    "SRResNet": (("EDSR", "none"), ("SRResNet", "batch")),
    "WDSR-B, weight": (("WDSR-B", "weight"), ("WDSR-B", "batch")),
    "WDSR-B, none": (("WDSR-B", "none"), ("WDSR-B", "batch")),
}

Runs = Mapping[tuple[Arm, int], Sequence[Record]]


@dataclass(frozen=True)
class Compared:
    """One pair of arms in one round.

    Attributes:
        name: of the criterion.
        ahead, other: their runs, one a seed.
        time: of a step, times the other arm's.
        equal_time: what the effect (dB) would be if the slower arm had stopped at the time of the faster; None if that
            lies outside the lengths on record.
        tested: whether it is one of the comparisons that are tested; all others are explored.
        adjusted_p: of a tested one, Holm's over all that are tested.
    """

    name: str
    ahead: Sequence[Record]
    other: Sequence[Record]
    time: float
    equal_time: Effect | None
    tested: bool = False
    adjusted_p: float | None = None

    @property
    def says(self) -> str:
        """The difference in words."""
        return " minus ".join(" ".join(arm) for arm in PAIRS[self.name])

    @property
    def criterion(self) -> Criterion:
        return CONTRAST[self.name]

    @property
    def steps(self) -> int:
        """Decay included."""
        return self.ahead[0].steps

    @property
    def effect(self) -> Effect:
        """At equal steps."""
        return gain(self.ahead, self.other)

    @property
    def dead(self) -> list[float | None]:
        """Share (%) of dead features of each arm; None if it was not measured."""
        return [mean(run.dead for run in runs) for runs in (self.ahead, self.other)]

    @property
    def void(self) -> str:
        """Why it says nothing; empty if it does."""
        ahead, other = (" ".join(arm) for arm in PAIRS[self.name])
        return void(**{ahead: self.ahead, other: self.other})

    @property
    def part(self) -> Part:
        return Part(self.name, self.effect, self.criterion, self.void)

    @property
    def verdict(self) -> Verdict:
        return judge(self.part, self.adjusted_p)

    @property
    def row(self) -> dict[str, object]:
        """As JSON."""
        both = self.ahead, self.other
        return {
            "comparison": self.name,
            "says": self.says,
            "steps": self.steps,
            "effect (dB)": self.effect.mean,
            "interval": self.effect.interval(),
            "seeds": len(self.effect.values),
            "verdict": self.verdict,
            "void": self.void,
            "tested": self.tested,
            "p": self.part.p_value,
            "p_holm": self.adjusted_p,
            "time of a step": self.time,
            "at equal time (dB)": None if self.equal_time is None else self.equal_time.mean,
            "interval at equal time": None if self.equal_time is None else self.equal_time.interval(),
            "PSNR (dB)": [psnr(runs).mean for runs in both],
            "failed": [failures(runs) for runs in both],
            "dead features (%)": self.dead,
            "spikes": [mean(run.spikes for run in runs) for runs in both],
            "train mode less eval mode (dB)": [mean(mode_gaps(runs)) for runs in both],
        }


def lengths_of(runs: Runs, *arms: Arm) -> list[int]:
    """Lengths at which all of these arms are complete."""
    return [length for length in FULL.lengths if all((arm, length) in runs for arm in arms)]


def compared(runs: Runs, times: StepTimes | None = None) -> list[Compared]:
    """All pairs in all rounds that are complete, p-values of those that are tested corrected (Holm).

    Args:
        runs: by arm and length, one record a seed.
        times: of steps, measured in turns; None: the processor time of the runs is taken.
    """
    found = []
    for name, (ahead, other) in PAIRS.items():
        lengths = lengths_of(runs, ahead, other)
        for length in lengths:
            time = _time(runs, times, ahead, other, length)
            equal_time = _at_equal_time(runs, ahead, other, length, time)
            tested = name in CENTRAL and length == lengths[-1]
            found.append(Compared(name, runs[ahead, length], runs[other, length], time, equal_time, tested))
    p_values = {one.name: p for one in found if one.tested and (p := one.part.p_value) is not None}
    adjusted = holm(p_values, of=len(CENTRAL))
    return [replace(one, adjusted_p=adjusted.get(one.name)) if one.tested else one for one in found]


def _time(runs: Runs, times: StepTimes | None, ahead: Arm, other: Arm, length: int) -> float:
    if times is not None:
        return times.ratio(" ".join(ahead), " ".join(other))
    return _step_s(runs[ahead, length]) / _step_s(runs[other, length])


def _at_equal_time(runs: Runs, ahead: Arm, other: Arm, length: int, time: float) -> Effect | None:
    slower, sign = (other, 1) if time < 1 else (ahead, -1)
    shorter = [one for one in lengths_of(runs, slower) if one < length]
    share = min(time, 1 / time)
    if not shorter or share < runs[slower, shorter[-1]][0].steps / runs[slower, length][0].steps:
        return None
    change = change_if_shorter(runs[slower, shorter[-1]], runs[slower, length], share)
    return difference(gain(runs[ahead, length], runs[other, length]), scaled(change, sign))


def mean(values: Iterable[float | None]) -> float | None:
    """Of those that were measured."""
    known = [float(value) for value in values if value is not None]
    return statistics.fmean(known) if known else None


def _step_s(runs: Sequence[Record]) -> float:
    return statistics.fmean(run.step_s for run in runs)


@dataclass(frozen=True)
class Target:
    """When DnCNN of a size reaches a PSNR on BSD68.

    Attributes:
        size, norm: of the network.
        psnr: the target (dB).
        first, last: steps of the shortest and of the longest runs on record, decay included.
        before: how many of the seeds are above it in the shortest runs already.
        passed: how many pass it between two lengths on record.
        seeds: how many there are; those that are left are below it in the longest runs.
        steps, minutes: geometric means over the seeds that pass it, in steps, decay included, and of what `times` was
            measured on; None if none does.
    """

    size: str
    norm: str
    psnr: float
    first: int
    last: int
    before: int
    passed: int
    seeds: int
    steps: float | None
    minutes: float | None


def targets(runs: Runs, times: StepTimes | None = None) -> list[Target]:
    """Of all sizes and norms with two lengths or more; for the arguments see `compared`."""
    found = []
    for size in SIZES:
        for norm in NORMS:
            arm = (size.name, norm)
            by_length = {length: runs[arm, length] for length in lengths_of(runs, arm)}
            if len(by_length) < 2:
                continue
            step_s = step_time(by_length.values(), times, arm)
            first, last = (by_length[it][0].steps for it in (min(by_length), max(by_length)))
            for target in TARGETS_DB:
                reached = steps_to(target, by_length)
                passed = [it for it in reached if it is not None]
                steps = statistics.geometric_mean(passed) if passed else None
                minutes = None if steps is None else steps * step_s / 60
                before = reached_before(target, by_length)
                found.append(
                    Target(
                        size.name, norm, target, first, last, before, len(passed), len(reached), steps, minutes
                    )
                )  # fmt: skip
    return found


def step_time(rounds: Iterable[Sequence[Record]], times: StepTimes | None, arm: Arm) -> float:
    """Seconds of an arm's step: measured in turns, or the processor time of its runs."""
    if times is not None:
        return times.of(" ".join(arm))
    return statistics.fmean(run.step_s for one in rounds for run in one)


def trend(runs: Runs) -> Trend | None:
    """Of batch norm's effect on DnCNN over size and length; None if too few rounds are complete."""
    found = []
    for size in SIZES:
        batch, none = ((size.name, norm) for norm in NORMS)
        for length in lengths_of(runs, batch, none):
            both = runs[batch, length], runs[none, length]
            if void(batch=both[0], none=both[1]):
                continue
            steps = both[0][0].steps
            values = [value for value in gain(*both).values if math.isfinite(value)]
            found += [Observation(size.depth, size.features, steps, value) for value in values]
    return fit(found, held_out=(FULL_SIZE.depth, FULL_SIZE.features), asked=PAPER_STEPS)
