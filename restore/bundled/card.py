"""What is printed of bundled models: cards and the table of results, from what their files say."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from restore.bundled.registry import BundledModel, Test
from restore.checkpoint import Weights
from restore.errors import UserError
from restore.files import write_atomically

MARKERS = "<!-- bundled models: begin -->", "<!-- bundled models: end -->"
LICENSE = {
    "BSDS500": "BSDS500 is for research use",
    "Train400": "Train400 is made of BSDS500, which is for research use",
}


def results_table(models: Iterable[tuple[BundledModel, str, Sequence[Mapping[str, Any]]]]) -> str:
    """Markdown of measured rows.

    Args:
        models: of each the kind of device it was trained on, and its rows' summaries, the baseline's before its own.
    """
    lines = [
        "| model | device | test set | protocol | input | PSNR of the input | PSNR | SSIM | published |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for model, device, rows in models:
        own = [row for row in rows if row["model"] == model.name]
        baselines = [row for row in rows if row["model"] != model.name]
        for row, baseline in zip(own, baselines, strict=True):
            cells = [
                f"`{model.name}`",
                device,
                row["set"],
                f"`{row['protocol']}`",
                row["degradation"],
                f"{baseline['psnr']:.2f}",
                f"**{row['psnr']:.2f}**",
                f"{row['ssim']:.4f}",
                _published(model, row),
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def trained_on(weights: Weights) -> str:
    """The kind of device that a network was trained on: CPU or GPU."""
    return "CPU" if weights.training["provenance"]["device"].startswith("cpu") else "GPU"


def card(model: BundledModel, weights: Weights) -> str:
    """Markdown of all that the weights file says of its training and its results."""
    training, origin = weights.training, weights.training["provenance"]
    start, optim = training["weights_at_start"], training["optim"]
    data = training["train"]["set"]
    arguments = weights.network.spec.arguments
    sizes = {"depth", "blocks", "features"} | ({"downscale"} if arguments.get("downscale", 1) > 1 else set())
    network = ", ".join(f"{word} {value}" for word, value in arguments.items() if word in sizes)
    facts = {
        "task": model.task,
        "network": f"{model.network}, {network}, norm {weights.network.norm}, {training['parameters']:,} parameters",
        "data": f"{data}, {training['train']['images']} images",
        "recipe": f"`configs/{model.recipe}.yaml`",
        "command": f"`{origin['command']}`",
        **({"started from": f"`{start}`"} if start else {}),
        "optimization": f"{optim['loss']}, {optim['optimizer']}, {optim['schedule']}, lr {optim['lr']:g}, "
        f"batches of {training['batch_size']} patches of {training['patch_size']}x{training['patch_size']}, "
        f"{training['steps']:,} steps, {training['precision']}, seed {training['seed']}",
        "kept": f"the weights of step {training['best_step']:,}, the best on {training['validation']['set']}",
        "trained on": trained_on(weights),
        "device": f"{origin['device']}, {origin['threads']} threads",
        "training time": f"{training['validation']['curve'][-1]['minutes']:.0f} minutes, validation left out",
        "commit": f"`{origin['commit']}`, {origin['date'][:10]}",
        "versions": ", ".join(f"{name} {number}" for name, number in origin["packages"].items()),
        "stored": "parameters in float16, running statistics in float32; loaded to float32",
        "license": f"research and education, like its images; {LICENSE.get(data, 'see their source')}",
    }
    lines = [f"# {model.name}", "", "| | |", "|---|---|", *(f"| {name} | {text} |" for name, text in facts.items())]
    table = results_table([(model, trained_on(weights), weights.results)])
    how = (
        "PSNR in dB, SSIM; means over the images, measured on this file in float32. Published are the paper's network, "
        "or for EDSR-baseline the same network trained on DIV2K."
    )
    return "\n".join([*lines, "", table, how]) + "\n"


def write_between_markers(path: Path, text: str) -> None:
    """Replace what stands between the markers in a Markdown file.

    Raises:
        UserError: as `around_markers`.
    """
    before, after = around_markers(path)
    write_atomically(path, f"{before}{MARKERS[0]}\n{text}{MARKERS[1]}{after}")


def around_markers(path: Path) -> tuple[str, str]:
    """What stands before and after the markers in a Markdown file.

    Raises:
        UserError: the file is not there or has no such markers.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    before, found, rest = path.read_text().partition(MARKERS[0])
    _, ended, after = rest.partition(MARKERS[1])
    if not (found and ended):
        raise UserError(f"{path}: expected the lines {MARKERS[0]} and {MARKERS[1]}, found none")
    return before, after


def _published(model: BundledModel, row: Mapping[str, Any]) -> str:
    (test,) = (test for test in model.tests if _is_of(test, row))
    return "" if test.published is None else f"{test.published:.2f}"


def _is_of(test: Test, row: Mapping[str, Any]) -> bool:
    return (test.set, test.degradation.label) == (row["set"], row["degradation"])
