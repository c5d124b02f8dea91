"""What the rounds of the contrast at full size say: effects with their verdicts, steps to a target, the trend."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from restore.studies.contrast import FULL, FULL_SIZE, LARGER, NORMS, SIZES, Arm
from restore.studies.criteria import CONTRAST, TARGETS_DB, Criterion
from restore.studies.curves import change_if_shorter, failures, gain, psnr, steps_to, void
from restore.studies.effects import Effect, difference, scaled
from restore.studies.experiment import Record
from restore.studies.judgement import Part, Verdict, judge
from restore.studies.scaling import Observation, Trend, fit

PAPER_STEPS = 80_000  # of 128 patches, DnCNN's training
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
        equal_time: what the effect (dB) would be if the slower arm had stopped at the processor time of the faster;
            None if that lies outside the lengths on record.
    """

    name: str
    ahead: Sequence[Record]
    other: Sequence[Record]
    equal_time: Effect | None

    @property
    def says(self) -> str:
        """The difference in words."""
        return " less ".join(" ".join(arm) for arm in PAIRS[self.name])

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
    def time(self) -> float:
        """Processor time of a step, times the other arm's."""
        return _step_s(self.ahead) / _step_s(self.other)

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
    def verdict(self) -> Verdict:
        return judge(Part(self.name, self.effect, self.criterion, self.void))

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
            "at equal time (dB)": None if self.equal_time is None else self.equal_time.mean,
            "interval at equal time": None if self.equal_time is None else self.equal_time.interval(),
            "PSNR (dB)": [psnr(runs).mean for runs in both],
            "failed": [failures(runs) for runs in both],
            "dead features (%)": self.dead,
            "spikes": [mean(run.spikes for run in runs) for runs in both],
            "train mode less eval mode (dB)": [_mode_gap(runs) for runs in both],
            "step (s)": [_step_s(runs) for runs in both],
        }


def lengths_of(runs: Runs, *arms: Arm) -> list[int]:
    """Lengths at which all of these arms are complete."""
    return [length for length in FULL.lengths if all((arm, length) in runs for arm in arms)]


def compared(runs: Runs) -> list[Compared]:
    """All pairs in all rounds that are complete."""
    found = []
    for name, (ahead, other) in PAIRS.items():
        for length in lengths_of(runs, ahead, other):
            equal_time = _at_equal_time(runs, ahead, other, length)
            found.append(Compared(name, runs[ahead, length], runs[other, length], equal_time))
    return found


def _at_equal_time(runs: Runs, ahead: Arm, other: Arm, length: int) -> Effect | None:
    time = _step_s(runs[ahead, length]) / _step_s(runs[other, length])
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


def _mode_gap(runs: Sequence[Record]) -> float | None:
    return mean(
        run.train_mode_psnr - run.train_psnr
        for run in runs
        if run.train_mode_psnr is not None and run.train_psnr is not None
    )


@dataclass(frozen=True)
class Target:
    """When DnCNN of a size reaches a PSNR on BSD68.

    Attributes:
        size, norm: of the network.
        psnr: the target (dB).
        passed: how many of the seeds pass it between two lengths on record.
        seeds: how many there are.
        steps, minutes: geometric means over the seeds that pass it, in steps, decay included, and of one core; None
            if none does.
    """

    size: str
    norm: str
    psnr: float
    passed: int
    seeds: int
    steps: float | None
    minutes: float | None


def targets(runs: Runs) -> list[Target]:
    """Of all sizes and norms with two lengths or more."""
    found = []
    for size in SIZES:
        for norm in NORMS:
            arm = (size.name, norm)
            by_length = {length: runs[arm, length] for length in lengths_of(runs, arm)}
            if len(by_length) < 2:
                continue
            step_s = statistics.fmean(run.step_s for one in by_length.values() for run in one)
            for target in TARGETS_DB:
                reached = steps_to(target, by_length)
                passed = [it for it in reached if it is not None]
                steps = statistics.geometric_mean(passed) if passed else None
                minutes = None if steps is None else steps * step_s / 60
                found.append(Target(size.name, norm, target, len(passed), len(reached), steps, minutes))
    return found


def trend(runs: Runs) -> Trend | None:
    """Of batch norm's effect on DnCNN over size and length; None if too few rounds are complete."""
    found = []
    for size in SIZES:
        batch, none = ((size.name, norm) for norm in NORMS)
        for length in lengths_of(runs, batch, none):
            effect = gain(runs[batch, length], runs[none, length])
            found += [Observation(size.depth, size.features, length, value) for value in effect.values]
    return fit(found, held_out=(FULL_SIZE.depth, FULL_SIZE.features), beyond=PAPER_STEPS)
