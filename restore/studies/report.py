"""The report: first a line for each claim, then each claim with its numbers and pictures."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from restore.files import write_atomically
from restore.page import Figure, Section, Table, data_uri, write_page
from restore.report import markdown_table
from restore.studies.claim import CLAIMS, Claim
from restore.studies.effects import short
from restore.studies.experiment import Experiment
from restore.studies.figures import draw
from restore.studies.judgement import Finding, Judgement, Part, judge_all
from restore.studies.requests import Request, StudyRecords, Timing, Trial
from restore.studies.stages import StudyState

TITLE = "What batch norm does to restoration networks"
MARKS = {
    "supported": "✔ supported",
    "refuted": "✘ refuted",
    "equal": "= equal",
    "undecided": "? undecided",
    "void": "∅ void",
}
METHOD = """\
Runs are paired by seed. Intervals are 95 %: over images and seeds together (two-way bootstrap, of seeds by Student's \
distribution); of ratios, worst cases, means over several arms, arms of which a run failed, and what is measured in \
mid-training on the four validation photographs (claims 10 and 20), over seeds alone (Student's). Bands and whiskers \
in plots reach from the lowest to the highest seed: they are no intervals. `equal`: the 90 % interval lies within the \
margin around no effect that was stated before (two one-sided tests, at 5 % for each comparison). `undecided` also if \
Holm's correction over the comparisons of all claims, on record or not, leaves a p-value above 5 %. `void`: an arm \
ends less than 1 dB above its input, or most of its runs fail. Where a claim has more seeds than the budget's, their \
number follows from the spread between the first ones (`restore study plan`); since it was judged with these before, \
its p-values are doubled, and `equal` is tested at 2.5 %. A claim is supported if all of its parts are, and refuted if \
one is and none is void. `failed`: the loss, or a restored image, was not finite; runs that end less than 1 dB above \
their input are counted beside these. Times of steps are measured in turns, three rounds for each seed, \
on a CPU by its processor time, on a GPU by the clock while nothing else is trained.\
"""


@dataclass(frozen=True)
class Entry:
    """A claim in the report.

    Attributes:
        claim: what is claimed.
        finding: what was seen.
        judgement: the verdict.
        used: what it rests on.
        seeds: of each run.
        plots: file names and PNG of its figures.
    """

    claim: Claim
    finding: Finding
    judgement: Judgement
    used: Sequence[Request]
    seeds: int
    plots: Sequence[tuple[str, bytes]]


def write_report(records: StudyRecords, states: Mapping[str, StudyState[Finding]], folder: Path) -> list[Path]:
    """Write `verdicts.json`, `report.md` with `plots/`, and `report.html`; returns their paths.

    Args:
        records: the records.
        states: of each claim that has its finding.
        folder: where to write.
    """
    entries = _entries(states, records.budget.seeds)
    for entry in entries:
        for path, picture in entry.plots:
            write_atomically(folder / path, picture)
    written = [folder / file for file in ("verdicts.json", "report.md", "report.html")]
    verdicts = {"verdicts": [_verdict(entry, records) for entry in entries]}
    write_atomically(written[0], json.dumps(verdicts, indent=2) + "\n")
    write_atomically(written[1], _markdown(records, entries))
    _write_page(written[2], records, entries)
    return written


def _entries(states: Mapping[str, StudyState[Finding]], first_seeds: int) -> list[Entry]:
    findings = {
        name: _looked_at(it.outcome, 2 if it.seeds > first_seeds else 1)
        for name, it in states.items()
        if it.outcome is not None
    }
    criteria = [criterion for claim in CLAIMS.values() for criterion in claim.criteria.values()]
    judgements = judge_all(findings, comparisons=sum(criterion.stochastic for criterion in criteria))
    return [
        Entry(
            CLAIMS[name],
            finding,
            judgements[name],
            states[name].answered,
            states[name].seeds,
            [(f"plots/{name}-{i + 1}.png", draw(figure)) for i, figure in enumerate(finding.figures)],
        )
        for name, finding in sorted(findings.items(), key=lambda it: CLAIMS[it[0]].number)
    ]


def _looked_at(finding: Finding, looks: int) -> Finding:
    return replace(finding, parts=[replace(part, looks=looks) for part in finding.parts])


def overview(states: Mapping[str, StudyState[Finding]], records: StudyRecords) -> list[dict[str, str]]:
    """One row for each claim, for the terminal."""
    return [_row(entry, records) for entry in _entries(states, records.budget.seeds)]


def _row(entry: Entry, records: StudyRecords) -> dict[str, str]:
    first = entry.finding.parts[0]
    return {
        "": str(entry.claim.number),
        "claim": entry.claim.title,
        "verdict": MARKS[entry.judgement.verdict],
        "networks and steps": extent(entry.used),
        "effect [95 %]": str(first.effect),
        "seeds": str(len(first.effect.values)) if first.effect.stochastic else "exact",
        "criterion before data": "yes" if _criterion_before_data(entry, records) else "no",
    }


def extent(used: Sequence[Request]) -> str:
    """The sizes and lengths that a finding rests on: `DnCNN 10x16, 900 steps`."""
    found: dict[str, set[int]] = {}
    for request in used:
        if isinstance(request, Trial | Timing):
            continue
        experiment = request if isinstance(request, Experiment) else request.of
        arguments = experiment.network.arguments
        depth = arguments.get("depth") or arguments.get("blocks")
        name = experiment.network.name.replace("DnCNNVariant", "DnCNN")
        found.setdefault(f"{name} {depth}x{arguments['features']}", set()).add(experiment.steps)
    return "; ".join(f"{name}, {_range(steps)} steps" for name, steps in found.items()) or "forecast"


def _range(steps: set[int]) -> str:
    return f"{min(steps)}" if len(steps) == 1 else f"{min(steps)} to {max(steps)}"


def _criterion_before_data(entry: Entry, records: StudyRecords) -> bool:
    """Whether each criterion is the one that was noted, and was noted before the first run that it judges."""
    judged = [it for it in entry.used if not isinstance(it, Trial | Timing)]
    runs = [it if isinstance(it, Experiment) else it.of for it in judged]
    tasks = [task for run in runs for task in records.with_seeds(entry.seeds).tasks(run)]
    dates = [records.results[task.key(records.data)]["provenance"]["date"] for task in tasks]
    for name, criterion in entry.claim.criteria.items():
        noted = records.criteria.get(f"{entry.claim.name}/{name}")
        if noted is None or noted["hash"] != criterion.hash or any(date < noted["since"] for date in dates):
            return False
    return True


def _verdict(entry: Entry, records: StudyRecords) -> dict[str, Any]:
    first = entry.finding.parts[0].effect
    return {
        "claim": entry.claim.name,
        "number": entry.claim.number,
        "title": entry.claim.title,
        "verdict": entry.judgement.verdict,
        "effect": first.mean,
        "unit": first.unit,
        "interval": first.interval(),
        "seeds": len(first.values),
        "budget": records.budget.name,
        "extent": extent(entry.used),
        "device": _device(records),
        "stochastic": first.stochastic,
        "criterion_before_data": _criterion_before_data(entry, records),
        "parts": [_part(it, entry.judgement) for it in entry.finding.parts],
        "sentence": entry.finding.sentence,
    }


def _part(part: Part, judgement: Judgement) -> dict[str, Any]:
    return {
        "name": part.name,
        "verdict": judgement.parts[part.name],
        "effect": part.effect.mean,
        "unit": part.effect.unit,
        "interval": part.effect.interval(),
        "values": part.effect.values,
        "p": part.p_value,
        "p_holm": judgement.adjusted_p.get(part.name),
        "criterion": part.criterion.in_words,
        "void": part.void,
    }


def _parts_table(entry: Entry) -> list[dict[str, str]]:
    return [
        {
            "part": part.name,
            "criterion": part.criterion.in_words,
            "effect [95 %]": str(part.effect),
            "p (Holm)": _p(entry.judgement.adjusted_p.get(part.name)),
            "verdict": MARKS[entry.judgement.parts[part.name]] + (f": {part.void}" if part.void else ""),
        }
        for part in entry.finding.parts
    ]


def _p(value: float | None) -> str:
    return "" if value is None else "< 0.001" if value < 0.001 else short(value)


def _settings(records: StudyRecords, entries: Sequence[Entry]) -> dict[str, object]:
    budget, runs = records.budget, records.runs
    return {
        "budget": budget.name,
        "seeds": _seeds(entries, budget.first_seed),
        "device": _device(records),
        "images": f"{records.data.collection} (see `python -m restore.study run --help`); whole test images under "
        "denoise-gray and sr-y",
        "training": f"batches of {budget.batch} patches of {budget.patch}x{budget.patch} (super-resolution: "
        f"{budget.sr_batch} of {budget.sr_patch}x{budget.sr_patch}), {budget.precision}; learning rate: warm-up of 100 "
        "steps, constant, decay over a fifth more",
        "search": f"runs of {', '.join(map(str, budget.tuning_lengths))} steps and of the length judged, by validation "
        "PSNR; the best two with three seeds"
        if budget.tuning_lengths
        else "none",
        "runs": len(runs),
        "failed runs": sum(it["failed_at"] is not None for it in runs),
        "versions": _versions([it["provenance"] for it in runs]),
        "commits": ", ".join(sorted({str(it["provenance"]["commit"]) for it in runs})),
        **({"notes": " ".join(records.notes)} if records.notes else {}),
    }


def _versions(provenances: Sequence[Mapping[str, Any]]) -> str:
    devices: dict[str, set[str]] = {}
    for it in provenances:
        packages = ", ".join(f"{name} {version}" for name, version in it["packages"].items())
        devices.setdefault(packages, set()).add(it["device"])
    return "; ".join(f"{packages} ({', '.join(sorted(found))})" for packages, found in sorted(devices.items()))


def _seeds(entries: Sequence[Entry], first: int) -> str:
    """How many the runs have, and of which claims they are more."""
    fewest = min(entry.seeds for entry in entries)
    more = [f"{entry.seeds} of claim {entry.claim.number}" for entry in entries if entry.seeds > fewest]
    return f"{fewest}, from {first}" + (f"; {', '.join(more)}" if more else "")


def _device(records: StudyRecords) -> str:
    return ", ".join(sorted({it["provenance"]["device"] for it in records.runs})) or "none"


def _command(records: StudyRecords, entry: Entry) -> str:
    data = "" if records.data.collection == "photos" else f" --data {records.data.collection} --data.root DATA"
    return f"python -m restore.study run {entry.claim.name} --budget {records.budget.name} --seeds {entry.seeds}{data}"


def _markdown(records: StudyRecords, entries: Sequence[Entry]) -> str:
    lines = [f"# {TITLE}", "", *markdown_table([_row(entry, records) for entry in entries]), "", METHOD, ""]
    lines += [f"- {name}: {_words(value)}" for name, value in _settings(records, entries).items()]
    for entry in entries:
        claim, finding = entry.claim, entry.finding
        lines += ["", f"## {claim.number}. {claim.title}", ""]
        lines += [f"**{entry.judgement.verdict}** ({extent(entry.used)}): {finding.sentence}", "", claim.about, ""]
        lines += markdown_table(_parts_table(entry))
        pictures = zip(finding.figures, entry.plots, strict=True)
        lines += ["", *(f"![{figure.title}]({path})" for figure, (path, _) in pictures)]
        if finding.table:
            lines += ["", *markdown_table([{k: _cell(v) for k, v in row.items()} for row in finding.table])]
        lines += ["", f"`{_command(records, entry)}`"]
    return "\n".join(lines) + "\n"


def _write_page(path: Path, records: StudyRecords, entries: Sequence[Entry]) -> None:
    sections: list[Section] = [Table("All claims", [_row(entry, records) for entry in entries], METHOD)]
    for entry in entries:
        title = f"{entry.claim.number}. {entry.claim.title}"
        about = f"{entry.judgement.verdict.capitalize()} ({extent(entry.used)}): {entry.finding.sentence}"
        repeat = f"To repeat: {_command(records, entry)}"
        sections.append(Table(title, _parts_table(entry), f"{about} {repeat} — {entry.claim.about}"))
        if entry.finding.table:
            sections.append(Table(f"{title}: numbers", entry.finding.table))
        sections += [
            Figure(figure.title, data_uri(picture, "image/png"))
            for figure, (_, picture) in zip(entry.finding.figures, entry.plots, strict=True)
        ]
    write_page(path, TITLE, sections, _settings(records, entries), f"{len(entries)} claims")


def _cell(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:.2f}" if isinstance(value, float) else str(value)


def _words(value: object) -> str:
    return ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else str(value)
