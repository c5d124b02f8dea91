"""The report: first the ledger, a line for each claim, then each claim with its numbers and pictures."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from restore.images.io import write_atomically
from restore.page import Figure, Section, Table, data_uri, write_page
from restore.studies.claim import CLAIMS, Claim
from restore.studies.figures import draw
from restore.studies.judgement import Finding
from restore.studies.laboratory import Archive

TITLE = "What batch norm does to restoration networks"
MARKS = {"supported": "✔ supported", "refuted": "✘ refuted", "inconclusive": "? inconclusive"}


def write_report(archive: Archive, findings: Mapping[str, Finding], folder: Path) -> list[Path]:
    """Write `verdicts.json`, `report.md` with `plots/`, and `report.html`; returns their paths."""
    claims = {name: CLAIMS[name] for name in sorted(findings, key=lambda name: CLAIMS[name].number)}
    plots: dict[str, list[tuple[str, bytes]]] = {}
    for name in claims:
        pictures = [draw(figure) for figure in findings[name].figures]
        plots[name] = [(f"plots/{name}-{i + 1}.png", picture) for i, picture in enumerate(pictures)]
    for name in claims:
        for path, picture in plots[name]:
            write_atomically(folder / path, picture)
    written = [folder / file for file in ("verdicts.json", "report.md", "report.html")]
    verdicts = {"verdicts": [_entry(claim, findings[name], archive) for name, claim in claims.items()]}
    write_atomically(written[0], json.dumps(verdicts, indent=2) + "\n")
    write_atomically(written[1], _markdown(archive, claims, findings, plots))
    _write_page(written[2], archive, claims, findings, plots)
    return written


def _entry(claim: Claim, finding: Finding, archive: Archive) -> dict[str, Any]:
    return {
        "claim": claim.name,
        "number": claim.number,
        "title": claim.title,
        "verdict": finding.verdict,
        "effect": finding.effect.mean,
        "unit": finding.effect.unit,
        "interval": finding.effect.interval,
        "seeds": len(finding.effect.values),
        "budget": archive.budget.name,
        "device": _device(archive),
        "stochastic": finding.effect.stochastic,
        "sentence": finding.sentence,
    }


def ledger(findings: Mapping[str, Finding]) -> list[dict[str, str]]:
    """One row for each claim, in words."""
    rows = []
    for name in sorted(findings, key=lambda name: CLAIMS[name].number):
        finding = findings[name]
        seeds = str(len(finding.effect.values)) if finding.effect.stochastic else "exact"
        rows.append(
            {
                "": str(CLAIMS[name].number),
                "claim": CLAIMS[name].title,
                "verdict": MARKS[finding.verdict],
                "effect [95 %]": str(finding.effect),
                "seeds": seeds,
                "what was seen": finding.sentence,
            }
        )
    return rows


def _settings(archive: Archive) -> dict[str, object]:
    budget, bench = archive.budget, archive.bench
    first: dict[str, Any] = next((it["provenance"] for it in _records(archive)), {})
    return {
        "budget": budget.name,
        "seeds": archive.seeds,
        "device": _device(archive),
        "training images": bench.train,
        "test": f"centres ({bench.crop}x{bench.crop}) of the first {bench.crops} images of {bench.test}; "
        "PSNR and SSIM of 8-bit images, all channels, no shave",
        "DnCNN": f"depth {budget.depth}, {budget.features} features, gray, sigma 25, {budget.batch} patches of "
        f"{budget.patch}x{budget.patch} a step, {budget.steps} steps, Adam 3e-3 with a cosine",
        "EDSR": f"x2, {budget.blocks} blocks, {budget.sr_features} features, {budget.batch} patches of "
        f"{budget.sr_patch}x{budget.sr_patch} a step, {budget.steps} steps, Adam 1e-3 with a cosine, L1",
        "wide EDSR": f"{budget.wide_features} features, {budget.wide_batch} patches of "
        f"{budget.wide_patch}x{budget.wide_patch}, {budget.wide_steps} steps",
        "versions": first.get("packages", {}),
        "commits": ", ".join(sorted({str(it["provenance"]["commit"]) for it in _records(archive)})),
    }


def _records(archive: Archive) -> list[dict[str, Any]]:
    return [it for it in archive.results.values() if isinstance(it, dict) and "provenance" in it]


def _device(archive: Archive) -> str:
    return ", ".join(sorted({it["provenance"]["device"] for it in _records(archive)})) or archive.bench.device


def _command(archive: Archive, name: str) -> str:
    bench = archive.bench
    data = f" --data.train {bench.train} --data.test {bench.test} --data.root DATA" if bench.train != "photos" else ""
    return f"python -m restore.study run {name} --budget {archive.budget.name} --seeds {archive.seeds}{data}"


def _markdown(
    archive: Archive,
    claims: Mapping[str, Claim],
    findings: Mapping[str, Finding],
    plots: Mapping[str, list[tuple[str, bytes]]],
) -> str:
    lines = [f"# {TITLE}", "", *_markdown_table(ledger(findings)), ""]
    lines += [
        "Effects are means over seeds with their 95 % confidence intervals; a verdict needs the whole interval",
        "",
    ]
    lines[-2] = lines[-2] + " on one side of the claim's threshold. Settings:"
    lines += [f"- {name}: {_words(value)}" for name, value in _settings(archive).items()]
    for name, claim in claims.items():
        finding = findings[name]
        lines += ["", f"## {claim.number}. {claim.title}", "", f"**{finding.verdict}**: {finding.sentence}", ""]
        lines += [claim.about, ""]
        lines += [f"![{figure.title}]({path})" for figure, (path, _) in zip(finding.figures, plots[name], strict=True)]
        if finding.table:
            lines += ["", *_markdown_table([{k: _cell(v) for k, v in row.items()} for row in finding.table])]
        lines += ["", f"`{_command(archive, name)}`"]
    return "\n".join(lines) + "\n"


def _markdown_table(rows: list[dict[str, str]]) -> list[str]:
    if not rows:
        return []
    return [
        "| " + " | ".join(rows[0]) + " |",
        "|" + "---|" * len(rows[0]),
        *("| " + " | ".join(value.replace("|", "\\|") for value in row.values()) + " |" for row in rows),
    ]


def _write_page(
    path: Path,
    archive: Archive,
    claims: Mapping[str, Claim],
    findings: Mapping[str, Finding],
    plots: Mapping[str, list[tuple[str, bytes]]],
) -> None:
    sections: list[Section] = [Table("The ledger", ledger(findings))]
    for name, claim in claims.items():
        finding = findings[name]
        title = f"{claim.number}. {claim.title}"
        about = f"{finding.verdict.capitalize()}: {finding.sentence} To repeat: {_command(archive, name)}"
        rows = finding.table or [{"verdict": finding.verdict, "effect": str(finding.effect)}]
        sections.append(Table(title, rows, f"{about} — {claim.about}"))
        sections += [
            Figure(figure.title, data_uri(picture, "image/png"))
            for figure, (_, picture) in zip(finding.figures, plots[name], strict=True)
        ]
    write_page(path, TITLE, sections, _settings(archive), f"{len(claims)} claims")


def _cell(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:.2f}" if isinstance(value, float) else str(value)


def _words(value: object) -> str:
    return ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else str(value)
