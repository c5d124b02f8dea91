"""The page of the contrast at full size: the answer in plain words, tables and figures, the trend, the criteria."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from restore.images.io import write_atomically
from restore.report import markdown_table
from restore.studies.contrast import FULL_SIZE, NORMS, Contrast
from restore.studies.contrast_figures import figures
from restore.studies.contrast_results import Compared, Target, compared, targets, trend
from restore.studies.criteria import CONTRAST, Criterion
from restore.studies.curves import failures, psnr
from restore.studies.effects import Effect
from restore.studies.figures import draw
from restore.studies.requests import StudyRecords

TITLE = "Batch norm at full size"
INTRODUCTION = """\
Does batch norm help networks that restore images, as DnCNN's authors say, or harm them, as EDSR's do? Both sides at the
papers' sizes, each with the initial weights and the learning rate that suit it best, found by the same search on images
that are in no test set. Every length is a whole run: warm-up, constant rate, decay over a fifth more.\
"""
NOT_YET = "No round at the papers' sizes is complete yet."
NO_TREND = "Too few rounds are complete to fit a trend and to test it on another one."


def write_contrast(records: StudyRecords, found: Contrast, folder: Path) -> list[Path]:
    """Write `contrast.json`, `contrast.md` and `plots/` from the rounds that are complete; returns their paths.

    Args:
        records: the records.
        found: what the campaign has so far.
        folder: where to write.
    """
    pairs, reached, fitted = compared(found.runs), targets(found.runs), trend(found.runs)
    drawn = figures(found.runs, pairs)
    for name, figure in drawn.items():
        write_atomically(folder / "plots" / f"contrast-{name}.png", draw(figure))
    content = {
        "stage": found.stage,
        "criteria": records.criteria,
        "verdicts": [one.row for one in pairs],
        "targets": [asdict(one) for one in reached],
        "trend": None if fitted is None else fitted.summary,
        "tuned": {" ".join(arm): list(one.table) for arm, one in found.tuned.items()},
    }
    written = [folder / "contrast.json", folder / "contrast.md"]
    write_atomically(written[0], json.dumps(content, indent=2) + "\n")
    parts = [
        f"# {TITLE}",
        INTRODUCTION,
        _answer(pairs, reached),
        f"Under way: {found.stage}.",
        *(f"![{figure.title}](plots/contrast-{name}.png)" for name, figure in drawn.items()),
        *_section("Every comparison", _verdicts(pairs)),
        *_section("DnCNN: steps and minutes to a target", _reached(reached)),
        "## Beyond these lengths",
        fitted.sentence if fitted else NO_TREND,
        *_section("Settings that the search found", _tuned(found)),
        "## Criteria, stated before the first run",
        "\n".join(f"- {name}: {_criterion(it, records.criteria[name])}" for name, it in CONTRAST.items()),
    ]
    write_atomically(written[1], "\n\n".join(parts) + "\n")
    return [*written, *(folder / "plots" / f"contrast-{name}.png" for name in drawn)]


def _answer(pairs: Sequence[Compared], reached: Sequence[Target]) -> str:
    """Batch norm's effect in the longest complete rounds, for somebody who has read neither paper."""
    longest = {one.name: one for one in pairs}
    sentences = []
    if one := longest.get("DnCNN"):
        sentences.append(f"**Denoising.** DnCNN-{FULL_SIZE.name} {_outcome(one, 'with', 'without')}.")
        sentences += _sooner(reached)
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
            return f"ends with a difference that is not decided, {ahead} batch norm less {other} it, {after}"
        case "void":
            return f"says nothing yet {after}: {one.void}"


def _sooner(reached: Sequence[Target]) -> list[str]:
    """How much sooner one norm passes the highest target that both pass with all seeds."""
    passed = {(one.psnr, one.norm): one for one in reached if one.size == FULL_SIZE.name and one.passed == one.seeds}
    both = [value for value, norm in passed if norm == NORMS[0] and (value, NORMS[1]) in passed]
    if not both:
        return []
    batch, none = (passed[max(both), norm] for norm in NORMS)
    return [
        f"To {max(both):g} dB it takes {batch.steps:,.0f} steps ({batch.minutes:,.0f} minutes of one core) with batch "
        f"norm, {none.steps:,.0f} ({none.minutes:,.0f}) without."
    ]


def _section(title: str, rows: Sequence[Mapping[str, str]]) -> list[str]:
    return [f"## {title}", "\n".join(markdown_table(rows))] if rows else []


def _verdicts(pairs: Sequence[Compared]) -> list[dict[str, str]]:
    rows = []
    for one in pairs:
        both = one.ahead, one.other
        rows.append({
            "comparison": one.says,
            "steps": f"{one.steps:,}",
            "effect [95 %], dB": _effect(one.effect),
            "seeds": str(len(one.effect.values)),
            "verdict": one.verdict,
            "time of a step": f"{one.time:.2f}x",
            "effect at equal time, dB": "" if one.equal_time is None else _effect(one.equal_time),
            "PSNR, dB": " / ".join(f"{psnr(runs).mean:.2f}" for runs in both),
            "dead features, %": " / ".join("" if it is None else f"{it:.1f}" for it in one.dead),
            "failed": " / ".join(failures(runs) for runs in both),
        })  # fmt: skip
    return rows


def _reached(reached: Sequence[Target]) -> list[dict[str, str]]:
    return [
        {
            "network": f"{one.size} {one.norm}",
            "target, dB": f"{one.psnr:g}",
            "seeds that pass it": f"{one.passed} of {one.seeds}",
            "steps": "" if one.steps is None else f"{one.steps:,.0f}",
            "minutes of one core": "" if one.minutes is None else f"{one.minutes:,.0f}",
        }
        for one in reached
    ]


def _tuned(found: Contrast) -> list[dict[str, str]]:
    return [
        {
            "arm": " ".join(arm),
            "init": str(one.best.network.arguments.get("init", "torch")),
            "learning rate": f"{one.best.rate:g}",
        }
        for arm, one in found.tuned.items()
    ]


def _effect(effect: Effect) -> str:
    interval = effect.interval()
    return f"{effect.mean:+.3f}" + ("" if interval is None else f" [{interval[0]:+.3f}, {interval[1]:+.3f}]")


def _criterion(criterion: Criterion, noted: Mapping[str, str]) -> str:
    return (
        f"{criterion.estimand}; {criterion.direction} {criterion.threshold:g}, equal within {criterion.margin:g} dB "
        f"(hash {noted['hash']}, commit {noted['commit']}, {noted['since']})"
    )
