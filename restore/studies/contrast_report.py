"""The report of the contrast at full size: batch norm's effect over size and length, and what it says of "
"longer training."""

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from restore.images.io import write_atomically
from restore.report import markdown_table
from restore.studies.contrast import FULL, FULL_SIZE, NORMS, SIZES, Arm, Contrast
from restore.studies.criteria import CONTRAST, DENOISING_MARGIN_DB, TARGETS_DB, Criterion
from restore.studies.curves import failures, gain, psnr, steps_to, void
from restore.studies.experiment import Record
from restore.studies.figures import Curves, Figure, Forest, draw
from restore.studies.judgement import Part, judge
from restore.studies.requests import StudyRecords
from restore.studies.scaling import Observation, Trend, fit

TITLE = "Batch norm at full size"
PAPER_STEPS = 80_000  # of 128 patches, DnCNN's training
# What each criterion compares: the arm that should be ahead by it, and the other.
PAIRS: dict[str, tuple[Arm, Arm]] = {
    "DnCNN": ((FULL_SIZE.name, "batch"), (FULL_SIZE.name, "none")),
    "EDSR": (("EDSR", "none"), ("EDSR", "batch")),
    "EDSR, gain 0": (("EDSR", "none"), ("EDSR", "batch, gain 0")),
    "SRResNet": (("EDSR", "none"), ("SRResNet", "batch")),
    "WDSR-B, weight": (("WDSR-B", "weight"), ("WDSR-B", "batch")),
    "WDSR-B, none": (("WDSR-B", "none"), ("WDSR-B", "batch")),
}

Runs = Mapping[tuple[Arm, int], Sequence[Record]]


def write_contrast(records: StudyRecords, found: Contrast, folder: Path) -> list[Path]:
    """Write `contrast.json`, `contrast.md` and `plots/` from the rounds that are complete; returns their paths.

    Args:
        records: the records.
        found: what the campaign has so far.
        folder: where to write.
    """
    runs: Runs = found.runs
    trend = _trend(runs)
    figures: dict[str, Figure] = {
        "effect": _effect_figure(runs),
        "ends": _ends_figure(runs),
        "minutes": _minutes_figure(runs),
        "forest": _forest(runs),
    }
    for name, figure in figures.items():
        write_atomically(folder / "plots" / f"contrast-{name}.png", draw(figure))
    rows = _verdicts(runs)
    content = {
        "stage": found.stage,
        "criteria": records.criteria,
        "verdicts": rows,
        "targets": _targets(runs),
        "trend": None if trend is None else trend.summary,
        "tuned": {" ".join(arm): list(one.table) for arm, one in found.tuned.items()},
    }
    written = [folder / "contrast.json", folder / "contrast.md"]
    write_atomically(written[0], json.dumps(content, indent=2) + "\n")
    write_atomically(written[1], _markdown(records, found, rows, trend))
    return [*written, *(folder / "plots" / f"contrast-{name}.png" for name in figures)]


def _lengths(runs: Runs, *arms: Arm) -> list[int]:
    """Lengths at which all of these arms are complete."""
    return [length for length in FULL.lengths if all((arm, length) in runs for arm in arms)]


def _verdicts(runs: Runs) -> list[dict[str, Any]]:
    rows = []
    for name, (ahead, other) in PAIRS.items():
        for length in _lengths(runs, ahead, other):
            a, b = runs[ahead, length], runs[other, length]
            effect = gain(a, b)
            reason = void(**{" ".join(ahead): a, " ".join(other): b})
            part = Part(name, effect, CONTRAST[name], reason)
            rows.append(
                {
                    "comparison": name,
                    "says": " ".join(ahead) + " less " + " ".join(other),
                    "steps": a[0].steps,
                    "effect (dB)": effect.mean,
                    "interval": effect.interval(),
                    "seeds": len(effect.values),
                    "verdict": judge(part),
                    "void": reason,
                    "PSNR (dB)": [psnr(a).mean, psnr(b).mean],
                    "failed": [failures(a), failures(b)],
                    "dead features (%)": [_mean(run.dead for run in a), _mean(run.dead for run in b)],
                    "spikes": [_mean(run.spikes for run in a), _mean(run.spikes for run in b)],
                    "train mode less eval mode (dB)": [_mode_gap(a), _mode_gap(b)],
                    "step (s)": [_mean(run.step_s for run in a), _mean(run.step_s for run in b)],
                }
            )
    return rows


def _mean(values: Any) -> float | None:
    known = [float(value) for value in values if value is not None]
    return statistics.fmean(known) if known else None


def _mode_gap(runs: Sequence[Record]) -> float | None:
    return _mean(
        run.train_mode_psnr - run.train_psnr
        for run in runs
        if run.train_mode_psnr is not None and run.train_psnr is not None
    )


def _targets(runs: Runs) -> list[dict[str, Any]]:
    """Steps and minutes of one core to each PSNR on BSD68, by size and norm; None: not between the lengths "
    "on record."""
    rows = []
    for size in SIZES:
        for norm in NORMS:
            arm = (size.name, norm)
            by_length = {length: runs[arm, length] for length in _lengths(runs, arm)}
            if len(by_length) < 2:
                continue
            step_s = statistics.fmean(run.step_s for found in by_length.values() for run in found)
            for target in TARGETS_DB:
                steps = steps_to(target, by_length)
                reached = [it for it in steps if it is not None]
                rows.append(
                    {
                        "size": size.name,
                        "norm": norm,
                        "target (dB)": target,
                        "seeds that pass it": f"{len(reached)} of {len(steps)}",
                        "steps": statistics.geometric_mean(reached) if reached else None,
                        "core minutes": statistics.geometric_mean(reached) * step_s / 60 if reached else None,
                    }
                )
    return rows


def _observations(runs: Runs) -> list[Observation]:
    found = []
    for size in SIZES:
        batch, none = ((size.name, norm) for norm in NORMS)
        for length in _lengths(runs, batch, none):
            effect = gain(runs[batch, length], runs[none, length])
            found += [Observation(size.depth, size.features, length, value) for value in effect.values]
    return found


def _trend(runs: Runs) -> Trend | None:
    return fit(_observations(runs), held_out=(FULL_SIZE.depth, FULL_SIZE.features), beyond=PAPER_STEPS)


def _effect_figure(runs: Runs) -> Curves:
    lines: dict[str, list[tuple[float, Sequence[float]]]] = {}
    for size in SIZES:
        batch, none = ((size.name, norm) for norm in NORMS)
        points: list[tuple[float, Sequence[float]]] = [
            (runs[batch, length][0].steps, gain(runs[batch, length], runs[none, length]).values)
            for length in _lengths(runs, batch, none)
        ]
        if points:
            lines[f"DnCNN {size.name}"] = points
    return Curves(
        "Batch norm less no norm, BSD68, sigma 25", "steps of 32 patches, decay included", "dB", lines, log_x=True,
        margin=DENOISING_MARGIN_DB,
    )  # fmt: skip


def _ends_figure(runs: Runs) -> Curves:
    lines = {
        f"{name}, {arm}": [
            (runs[(name, arm), length][0].steps, psnr(runs[(name, arm), length]).values)
            for length in _lengths(runs, (name, arm))
        ]
        for name, arm in dict.fromkeys(arm for arm, _ in runs)
        if name == FULL_SIZE.name
    }
    return Curves(
        "DnCNN-17x64: ends of runs, BSD68", "steps of 32 patches, decay included", "PSNR (dB)", lines, log_x=True
    )


def _minutes_figure(runs: Runs) -> Curves:
    lines = {}
    for size in SIZES:
        for norm in NORMS:
            arm = (size.name, norm)
            points = [
                (
                    _mean(run.step_s for run in runs[arm, length]) or 0.0,
                    runs[arm, length][0].steps,
                    psnr(runs[arm, length]).values,
                )
                for length in _lengths(runs, arm)
            ]
            lines[f"{size.name}, {norm}"] = [(step_s * steps / 60, values) for step_s, steps, values in points]
    kept = {name: points for name, points in lines.items() if points}
    return Curves("PSNR over the time of one core", "minutes", "PSNR on BSD68 (dB)", kept, log_x=True)


def _forest(runs: Runs) -> Forest:
    rows = []
    for ahead, other in PAIRS.values():
        if lengths := _lengths(runs, ahead, other):
            effect = gain(runs[ahead, lengths[-1]], runs[other, lengths[-1]])
            low, high = effect.interval() or (effect.mean, effect.mean)
            steps = runs[ahead, lengths[-1]][0].steps
            rows.append((f"{' '.join(ahead)} less {' '.join(other)}, {steps} steps", effect.mean, low, high))
    return Forest("All contrasts at full size, longest complete round", "dB, 95 % interval", rows, DENOISING_MARGIN_DB)


def _markdown(records: StudyRecords, found: Contrast, rows: Sequence[Mapping[str, Any]], trend: Trend | None) -> str:
    tuned = [
        {
            "arm": " ".join(arm),
            "init": str(one.best.network.arguments.get("init", "torch")),
            "learning rate": f"{one.best.rate:g}",
        }
        for arm, one in found.tuned.items()
    ]
    verdicts = [
        {
            "comparison": str(row["says"]),
            "steps": str(row["steps"]),
            "effect [95 %], dB": f"{row['effect (dB)']:+.3f} {_interval(row['interval'])}",
            "seeds": str(row["seeds"]),
            "verdict": str(row["verdict"]),
            "PSNR (dB)": " / ".join(f"{value:.2f}" for value in row["PSNR (dB)"]),
            "dead features (%)": " / ".join("" if it is None else f"{it:.1f}" for it in row["dead features (%)"]),
            "failed": " / ".join(row["failed"]),
        }
        for row in rows
    ]
    criteria = {f"{row['comparison']}": CONTRAST[row["comparison"]] for row in rows}
    lines = [
        f"# {TITLE}",
        "",
        "Both sides of the dispute at the papers' sizes, each with the initial weights and the learning rate "
        "that suit it",
        "best, found by the same search on images that are in no test set. Every length is a whole run: "
        "warm-up, constant",
        f"rate, decay over a fifth more. Under way: {found.stage}.",
        "",
        *markdown_table(verdicts),
        "",
        "![Batch norm's effect over steps](plots/contrast-effect.png)",
        "![All contrasts](plots/contrast-forest.png)",
        "![Ends of runs](plots/contrast-ends.png)",
        "![PSNR over minutes](plots/contrast-minutes.png)",
        "",
        "## Beyond these lengths",
        "",
        trend.sentence if trend else "Too few rounds are complete to fit a trend and to test it on another one.",
        "",
        "## Settings that the search found",
        "",
        *markdown_table(tuned),
        "",
        "## Criteria, stated before the first run",
        "",
        *(f"- {name}: {_criterion(it)} ({_noted(records.criteria[name])})" for name, it in criteria.items()),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _noted(entry: Mapping[str, str]) -> str:
    return f"hash {entry['hash']}, commit {entry['commit']}, {entry['since']}"


def _interval(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else f"[{interval[0]:+.3f}, {interval[1]:+.3f}]"


def _criterion(criterion: Criterion) -> str:
    return f"{criterion.estimand}; {criterion.direction} {criterion.threshold:g}, equal within {criterion.margin:g} dB"
