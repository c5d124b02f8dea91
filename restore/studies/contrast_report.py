"""The page of the contrast at full size: the answer in plain words, tables and figures, the trend, the criteria."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from restore.files import write_atomically
from restore.report import markdown_table
from restore.studies.contrast import FULL, FULL_SIZE, NORMS, OTHER_RATES_LENGTH, SIZES, Contrast
from restore.studies.contrast_figures import figures
from restore.studies.contrast_results import (
    CENTRAL,
    PAIRS,
    Compared,
    Runs,
    Target,
    compared,
    lengths_of,
    mean,
    targets,
    trend,
)
from restore.studies.criteria import CONTRAST
from restore.studies.curves import collapsed_as_failed, failures, gain, psnr
from restore.studies.effects import Effect
from restore.studies.experiment import steps_of
from restore.studies.figures import draw
from restore.studies.requests import StudyRecords
from restore.studies.step_times import StepTimes, processor

TITLE = "Batch norm at full size"
INTRODUCTION = """\
Does batch norm help networks that restore images, as DnCNN's authors say, or harm them, as EDSR's do? Both sides at the
papers' sizes, each with the best of the initial weights and learning rates that the same search tried (rates a factor
of three apart) on images that are in no test set. Every length is a whole run: warm-up, constant rate, decay over a
fifth more; runs at the same rate share their steps before the decay.\
"""
METHOD = """\
Two comparisons are tested, each in its longest complete round: DnCNN with batch norm and without, and EDSR without and
with it; their p-values are corrected together (Holm), not for the shorter rounds, each of which was tested as long as
it was the longest. All others are explored: their intervals are 95 % each, and of many some are wrong. A run that ends
less than 1 dB above its input has collapsed; it counts as failed, is told as such, and enters no mean. Dead features
are 0 at every pixel after their ReLU. Intervals are over images and paired seeds together. Bands in the figures reach
from the lowest to the highest seed: they are no intervals, and narrower.\
"""
SIZES_COMPARED = f"""\
Batch norm minus no norm on BSD68 in dB [95 %], each size at its own best settings; explored but for the last of
{FULL_SIZE.name}. If a seed's network without norm collapses partly, the interval is wide.\
"""
SETTINGS = f"""\
By mean PSNR on the validation images. Learning rates are a factor of three apart. Where a rate is best in the first
seed but not in the mean over three, another one is taken. Rounds longer than
{steps_of(FULL.tuning_lengths[-1]):,} steps try the rate of the round before and lower ones, and no higher one: where
the highest that was tried is taken, a higher one may be better. What a rate between them would give is known only
where other learning rates are listed below.\
"""
OTHER = f"""\
Networks at rates that their search did not choose, {steps_of(OTHER_RATES_LENGTH):,} steps, the seeds of the round;
explored. The difference is to batch norm at the rate of its search. A seed that loses many of its features ends lower
without being counted as failed.\
"""
COLLAPSE_DB = 1.0  # so much below the first seed another lies if it collapses
NOT_YET = "No round at the papers' sizes is complete yet."
NO_TREND = "Too few rounds are complete to fit a trend and to test it on another one."


def write_contrast(records: StudyRecords, found: Contrast, folder: Path) -> list[Path]:
    """Write `contrast.json`, `contrast.md` and `plots/` from the rounds that are complete; returns their paths.

    Args:
        records: the records.
        found: what the campaign has so far.
        folder: where to write.
    """
    runs = {arm: collapsed_as_failed(of_arm) for arm, of_arm in found.runs.items()}
    times = StepTimes.load(folder)
    timed_on = processor(times)
    pairs, reached, fitted = compared(runs, times), targets(runs, times), trend(runs)
    drawn = figures(runs, pairs, times)
    for name, figure in drawn.items():
        write_atomically(folder / "plots" / f"contrast-{name}.png", draw(figure))
    content = {
        "stage": found.stage,
        "criteria": records.criteria,
        "verdicts": [one.row for one in pairs],
        "targets": [asdict(one) for one in reached],
        "trend": None if fitted is None else fitted.summary,
        "tuned": {" ".join(arm): list(one.table) for arm, one in found.tuned.items()},
        "other rates": _other_rates(found, runs),
    }
    written = [folder / "contrast.json", folder / "contrast.md"]
    write_atomically(written[0], json.dumps(content, indent=2) + "\n")
    parts = [
        f"# {TITLE}",
        INTRODUCTION,
        " ".join([_answer(pairs, reached, timed_on), *_collapses(found), *_at_other_rates(_other_rates(found, runs))]),
        *([f"Under way: {found.stage}."] if found.stage else []),
        *(f"![{figure.title}](plots/contrast-{name}.png)" for name, figure in drawn.items()),
        *(["## Every comparison", METHOD, "\n".join(markdown_table(_verdicts(pairs)))] if pairs else []),
        *_section("DnCNN: steps and minutes to a target", _reached(reached, timed_on)),
        *_section("DnCNN of all sizes", _sizes(runs), SIZES_COMPARED),
        "## Beyond these lengths",
        fitted.sentence if fitted else NO_TREND,
        *_section("Settings that the search found", _tuned(found), SETTINGS),
        *_section("Other learning rates", _other_rates(found, runs), OTHER),
        "## Criteria",
        "\n".join(f"- {name}: {it.in_words} ({_noted(records.criteria[name])})" for name, it in CONTRAST.items()),
        _before_data(records, found),
        "## How it was computed",
        _settings(records, times),
    ]
    write_atomically(written[1], "\n\n".join(parts) + "\n")
    return [*written, *(folder / "plots" / f"contrast-{name}.png" for name in drawn)]


def _answer(pairs: Sequence[Compared], reached: Sequence[Target], timed_on: str) -> str:
    """Batch norm's effect in the longest complete rounds, for somebody who has read neither paper."""
    longest = {one.name: one for one in pairs}
    sentences = []
    if one := longest.get("DnCNN"):
        sentences.append(f"**Denoising.** DnCNN-{FULL_SIZE.name} {_outcome(one, 'with', 'without')}.")
        sentences += _sooner(reached, timed_on)
    if one := longest.get("EDSR"):
        sentences.append(f"**Super-resolution.** EDSR-baseline x2 {_outcome(one, 'without', 'with')}.")
    if one := longest.get("EDSR, equal memory"):
        sentences.append(f"At equal memory, spent on more features, it {_outcome(one, 'without', 'with')}.")
    if one := longest.get("WDSR-B, none"):
        sentences.append(f"WDSR-B x2 {_outcome(one, 'without', 'with')}.")
    return " ".join(sentences) or NOT_YET


def _outcome(one: Compared, ahead: str, other: str) -> str:
    arms = f"{ahead} batch norm than {other} it"
    after = f"after {one.steps:,} steps ({_effect(one.effect)} dB on whole test images, {len(one.effect.values)} seeds)"
    match one.verdict:
        case "supported":
            return f"ends higher {arms} {after}"
        case "refuted":
            return f"ends lower {arms} {after}"
        case "equal":
            return f"ends as high with batch norm as without, within {one.criterion.margin:g} dB, {after}"
        case "undecided":
            return f"ends with a difference that is not decided, {ahead} batch norm minus {other} it, {after}"
        case "void":
            return f"says nothing yet {after}: {one.void}"


def _sooner(reached: Sequence[Target], timed_on: str) -> list[str]:
    """How much sooner one norm passes the highest target that both reach with all seeds, one at least between two
    lengths on record."""
    full = {(one.psnr, one.norm): one for one in reached if one.size == FULL_SIZE.name}
    for value in sorted({one.psnr for one in full.values()}, reverse=True):
        both = [full[value, norm] for norm in NORMS if (value, norm) in full]
        all_reach = len(both) == len(NORMS) and all(one.seeds in (one.before, one.passed) for one in both)
        if all_reach and any(one.passed for one in both):
            with_norm, without = (_taken(one, timed_on) for one in both)
            return [f"To {value:g} dB it takes {with_norm} with batch norm, {without} without."]
    return []


def _taken(one: Target, timed_on: str) -> str:
    if one.before:
        return f"fewer than {one.first:,} steps"
    return f"{one.steps:,.0f} steps ({one.minutes:,.0f} minutes of {timed_on})"


def _section(title: str, rows: Sequence[Mapping[str, str]], words: str = "") -> list[str]:
    return [f"## {title}", *([words] if words else []), "\n".join(markdown_table(rows))] if rows else []


def _verdicts(pairs: Sequence[Compared]) -> list[dict[str, str]]:
    rows = []
    for one in pairs:
        both = one.ahead, one.other
        rows.append({
            "comparison": one.says,
            "steps": f"{one.steps:,}",
            "effect [95 %], dB": _effect(one.effect),
            "seeds": str(len(one.effect.values)),
            "verdict": one.verdict + ("" if one.tested else ", explored"),
            "p (Holm)": "" if one.adjusted_p is None else f"{one.adjusted_p:.2g}",
            "time of a step": f"{one.time:.2f}x",
            "effect at equal time, dB": "" if one.equal_time is None else _effect(one.equal_time),
            "PSNR, dB": " / ".join(f"{psnr(runs).mean:.2f}" for runs in both),
            "dead features, %": " / ".join("" if it is None else f"{it:.1f}" for it in one.dead),
            "failed": " / ".join(failures(runs) for runs in both),
        })  # fmt: skip
    return rows


def _reached(reached: Sequence[Target], timed_on: str) -> list[dict[str, str]]:
    return [
        {
            "network": f"{one.size} {one.norm}",
            "target, dB": f"{one.psnr:g}",
            "reached": _when(one),
            "steps": "" if one.steps is None else f"{one.steps:,.0f}",
            f"minutes of {timed_on}": "" if one.minutes is None else f"{one.minutes:,.0f}",
        }
        for one in reached
    ]


def _when(one: Target) -> str:
    """Between which runs the seeds reach a target."""
    missed = one.seeds - one.before - one.passed
    counts = {
        f"before {one.first:,} steps": one.before,
        "between two lengths": one.passed,
        f"not in {one.last:,} steps": missed,
    }
    return ", ".join(f"{words}: {count} of {one.seeds}" for words, count in counts.items() if count)


def _sizes(runs: Runs) -> list[dict[str, str]]:
    """Batch norm's effect on DnCNN, a row for each size, a column for each length of any."""
    effects = {
        size.name: {length: _effect(gain(*(runs[(size.name, norm), length] for norm in NORMS))) for length in lengths}
        for size in SIZES
        if (lengths := lengths_of(runs, *((size.name, norm) for norm in NORMS)))
    }
    columns = [length for length in FULL.lengths if any(length in found for found in effects.values())]
    return [
        {"network": size} | {f"{steps_of(length):,} steps": found.get(length, "") for length in columns}
        for size, found in effects.items()
    ]


def _tuned(found: Contrast) -> list[dict[str, str]]:
    """For each arm and length what was taken, and how far behind the next best setting was."""
    rows = []
    for arm, one in found.tuned.items():
        for length, experiment in one.by_length.items():
            if length not in FULL.lengths:
                continue
            tried = [row for row in one.table if row["steps"] == length]
            seeds = max(row.get("seeds", 1) for row in tried)
            ended = [row for row in tried if row.get("seeds", 1) == seeds and row["validation PSNR (dB)"] is not None]
            scores = sorted((row["validation PSNR (dB)"] for row in ended), reverse=True)
            liked = _liked_by_first_seed(tried, experiment.rate)
            rows.append({
                "arm": " ".join(arm),
                "steps": f"{steps_of(length):,}",
                "init": str(experiment.network.arguments.get("init", "torch")),
                "learning rate": f"{experiment.rate:g}",
                "tried": ", ".join(f"{rate:g}" for rate in sorted({row["learning rate"] for row in tried})),
                "ahead of the next best by, dB": f"{scores[0] - scores[1]:.3f}" if len(scores) > 1 else "",
                "seeds": str(seeds),
                "but best in the first seed": liked.in_words if liked else "",
            })  # fmt: skip
    return rows


def _collapses(found: Contrast) -> list[str]:
    """Of the arms that are tested, learning rates that were best in the search's first seed and collapse in another."""
    central = {arm for name in CENTRAL for arm in PAIRS[name]}
    sentences = []
    for arm, one in found.tuned.items():
        for length, experiment in one.by_length.items() if arm in central else ():
            liked = _liked_by_first_seed([row for row in one.table if row["steps"] == length], experiment.rate)
            if liked and liked.lowest is not None and liked.first - liked.lowest > COLLAPSE_DB:
                sentences.append(
                    f"In the search {' '.join(arm)} has {liked.first:.2f} dB (validation images) with a learning rate "
                    f"of {liked.rate:g} after {steps_of(length):,} steps, but {liked.elsewhere}; so "
                    f"{experiment.rate:g} is compared."
                )
    return sentences


def _other_rates(found: Contrast, runs: Runs) -> list[dict[str, str]]:
    """Where the arms end at the learning rate that was chosen and at others; nothing before there are others."""
    rows = []
    for pair in (PAIRS[name] for name in CENTRAL):
        others = {key: collapsed_as_failed(its) for key, its in found.other_rates.items() if key[0] in pair}
        if not others:
            continue
        chosen = {arm: found.tuned[arm].by_length[OTHER_RATES_LENGTH].rate for arm in pair}
        ended = {(arm, rate): runs[arm, OTHER_RATES_LENGTH] for arm, rate in chosen.items()} | others
        reference = next((arm, rate) for arm, rate in chosen.items() if arm[1] == "batch")
        for (arm, rate), its in sorted(ended.items()):
            validation = mean(run.validation for run in its if run.psnr)
            difference = None if validation is None or (arm, rate) == reference else gain(its, ended[reference])
            rows.append({
                "arm": " ".join(arm),
                "learning rate": f"{rate:g}{' (searched)' if rate == chosen[arm] else ''}",
                "validation PSNR, dB": "" if validation is None else f"{validation:.2f}",
                "PSNR, dB": "" if validation is None else f"{psnr(its).mean:.2f}",
                "difference [95 %], dB": "" if difference is None else _effect(difference),
                "by seed, dB": "" if difference is None else ", ".join(f"{it:+.2f}" for it in difference.values),
                "dead features by seed, %": ", ".join("" if it.dead is None else f"{it.dead:.1f}" for it in its),
                "failed": failures(its),
                "device": ", ".join(sorted({str(run.provenance["device"]) for run in its})),
            })  # fmt: skip
    return rows


def _at_other_rates(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """The networks at other learning rates, a sentence each; nothing before there are others."""
    sentences = []
    for network in (PAIRS[name][0][0] for name in CENTRAL):
        ends = []
        for norm, words in (("none", "without batch norm"), ("batch", "with it")):
            others = [
                f"{row['difference [95 %], dB']} dB with {row['learning rate']} ({row['failed']} runs failed)"
                for row in rows
                if row["arm"] == f"{network} {norm}"
                and "searched" not in row["learning rate"]
                and row["difference [95 %], dB"]
            ]
            ends += [f"{words} {' and '.join(others)}"] if others else []
        beginning = f"Explored, not tested, are other learning rates of {network}, relative to batch norm at its own"
        sentences += [f"{beginning}: {'; '.join(ends)}."] if ends else []
    return sentences


@dataclass(frozen=True)
class _Liked:
    """A learning rate that is best in the search's first seed only.

    Attributes:
        rate: of it.
        first: validation PSNR (dB) in that seed.
        by_seed: in all seeds (dB; None: the run failed); empty if it was not repeated.
    """

    rate: float
    first: float
    by_seed: Sequence[float | None]

    @property
    def lowest(self) -> float | None:
        """Over seeds, -inf if a run failed; None if it was not repeated."""
        return min((-math.inf if it is None else it for it in self.by_seed), default=None)

    @property
    def elsewhere(self) -> str:
        """What it reaches with the worst seed, in words."""
        if self.lowest is None:
            return "not repeated with other seeds"
        return f"with another seed {self.lowest:.2f}" if math.isfinite(self.lowest) else "with another seed it fails"

    @property
    def in_words(self) -> str:
        return f"{self.rate:g}: {self.first:.2f} dB, {self.elsewhere}"


def _liked_by_first_seed(tried: Sequence[Mapping[str, Any]], chosen: float) -> _Liked | None:
    """What was best with the search's first seed if more seeds have chosen another learning rate."""

    def first(row: Mapping[str, Any]) -> float:
        score = row["by seed (dB)"][0] if "by seed (dB)" in row else row["validation PSNR (dB)"]
        return -math.inf if score is None else float(score)

    best = max(tried, key=first)
    if best["learning rate"] == chosen:
        return None
    same = "learning rate", "init"
    repeated = [row for row in tried if "by seed (dB)" in row and all(row[key] == best[key] for key in same)]
    return _Liked(best["learning rate"], first(best), repeated[0]["by seed (dB)"] if repeated else ())


def _before_data(records: StudyRecords, found: Contrast) -> str:
    """Whether the criteria are those that were noted, and are older than all runs that are judged."""
    changed = [name for name, it in CONTRAST.items() if records.criteria[name]["hash"] != it.hash]
    first = min((run.provenance["date"] for runs in found.runs.values() for run in runs), default=None)
    late = [name for name in CONTRAST if first is not None and records.criteria[name]["since"] > first]
    said = [f"not those that were noted: {', '.join(changed)}"] if changed else []
    said += [f"noted after the first run that is judged ({first}): {', '.join(late)}"] if late else []
    return f"Of these, {'; '.join(said)}." if said else "All were noted before the first run that is judged."


def _settings(records: StudyRecords, times: StepTimes | None) -> str:
    found = records.runs
    devices, commits = ({str(run["provenance"][key]) for run in found} for key in ("device", "commit"))
    versions = {f"{run['provenance']['packages']['torch']} ({run['provenance']['device']})" for run in found}
    timed = (
        f"measured in turns, {times.provenance['device']}, commit {times.provenance['commit']}"
        if times
        else "processor time of the runs, on a machine that did other work beside them"
    )
    lines = {
        "device": ", ".join(sorted(devices)) or "none",
        "PyTorch": ", ".join(sorted(versions)) or "none",
        "denoising": f"batches of {FULL.batch} patches of {FULL.patch}x{FULL.patch}, {FULL.precision}, scores on BSD68",
        "super-resolution": f"batches of {FULL.sr_batch} patches of {FULL.sr_patch}x{FULL.sr_patch} before they are "
        f"enlarged, {FULL.precision}, scores on B100 (`sr-y`)",
        "seeds": f"{records.seeds}; of the search: one, the best two settings with three",
        "time of a step": timed,
        "runs": str(len(found)),
        "commits": ", ".join(sorted(commits)) or "none",
    }
    return "\n".join(f"- {name}: {words}" for name, words in lines.items())


def _effect(effect: Effect) -> str:
    interval = effect.interval()
    return f"{effect.mean:+.3f}" + ("" if interval is None else f" [{interval[0]:+.3f}, {interval[1]:+.3f}]")


def _noted(criterion: Mapping[str, str]) -> str:
    return f"hash {criterion['hash']}, commit {criterion['commit']}, {criterion['since']}"
