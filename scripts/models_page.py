"""Write docs/results/models.md and its pictures from the bundled models: python scripts/models_page.py [--page FILE.md]

Figures are those in the weights files. Pictures are made here, of photographs that need no download. What the paper's
recipe made of a network, as a run folder given by --beside shows, is kept beside the pictures.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from restore import bundled, cli
from restore.benchmark import ScoredImage, default_protocol, measure
from restore.bundled import BundledModel
from restore.bundled.bundle import account
from restore.bundled.card import MARKERS, results_table, trained_on
from restore.checkpoint import Weights, load_weights
from restore.data.catalog import find_images
from restore.data.pairs import ImagePair
from restore.errors import UserError
from restore.images.io import write_atomically
from restore.inference import tiled
from restore.report import Panel, comparison, contact_sheet, plot_lines

SHOWN = ("camera", "chelsea", "rocket")
SIDE = 256  # pixels of each picture
TITLE = """# Bundled models

Trained by this project's recipes; `python scripts/bundle.py` measured them and wrote their cards, and
`python scripts/models_page.py` wrote this page. Published are the papers' networks, for EDSR-baseline the same network
trained on DIV2K.
"""
EXAMPLES = """examples:
  python scripts/models_page.py
  python scripts/models_page.py --beside dncnn-gray-25 runs/dncnn_gray_25
"""


def main() -> int:
    parser = cli.ArgumentParser("", "Write the page of the bundled models.", EXAMPLES)
    parser.prog = "python scripts/models_page.py"
    parser.add_argument("--page", type=Path, default=Path("docs/results/models.md"), help="default: %(default)s")
    parser.add_argument("--folder", type=Path, default=bundled.FOLDER, help="of the models (default: the package's)")
    parser.add_argument(
        "--beside", nargs=2, metavar=("MODEL", "RUN"), help="a run folder of the recipe that a model's paper gives"
    )
    args = parser.parse_args()
    found = {model: args.folder / model.weights.name for model in bundled.MODELS.values()}
    models = {model: load_weights(path) for model, path in found.items() if path.is_file()}
    if not models:
        raise UserError(f"{args.folder}: no bundled model is there")
    pictures = args.page.with_suffix("")
    if args.beside:
        model = bundled.find(args.beside[0])
        _keep_papers(model, models[model], Path(args.beside[1]), pictures)
    table = results_table([(model, trained_on(weights), weights.results) for model, weights in models.items()])
    parts = [TITLE, f"{MARKERS[0]}\n{table}{MARKERS[1]}\n", _training(models, pictures)]
    for model, weights in models.items():
        _sheet(model, weights, pictures / f"{model.name}.jpg")
        parts.append(f"## {model.name}\n\n{_caption(model)}\n\n![{model.task}]({pictures.name}/{model.name}.jpg)\n")
    write_atomically(args.page, "\n".join(parts))
    print(f"written: {args.page}, {pictures}")
    return 0


def _training(models: dict[BundledModel, Weights], pictures: Path) -> str:
    """What each training took beside the paper's recipe, and how the validation went."""
    lines = [
        "## Training\n",
        "| model | patches | the paper's recipe | share | minutes | validated on | PSNR at the end |",
        "|---|---|---|---|---|---|---|",
    ]
    by_steps, by_minutes = {}, {}
    for model, weights in models.items():
        training, validation = weights.training, weights.training["validation"]
        patches, of_paper = training["steps"] * training["batch_size"], _patches(model.paper_recipe)
        last = validation["curve"][-1]
        lines.append(
            f"| `{model.name}` | {patches:,} | {of_paper:,} | {patches / of_paper:.2%} | {last['minutes']:.0f} "
            f"| {validation['set']}, {validation['degradation']} | {last['psnr']:.2f} dB |"
        )
        by_steps[model.name] = _gains(validation, "step")
        by_minutes[model.name] = _gains(validation, "minutes")
    beside = []
    for model in models:
        if (kept := _papers_file(model, pictures)).is_file():
            papers = json.loads(kept.read_text())
            by_steps[f"{model.name}, the paper's recipe"] = _gains(papers["validation"], "step")
            by_minutes[f"{model.name}, the paper's recipe"] = _gains(papers["validation"], "minutes")
            beside.append(_beside(model, models[model].training, papers))
    plot_lines(pictures / "steps.png", by_steps, "steps", "PSNR gained over the input, dB")
    plot_lines(pictures / "minutes.png", by_minutes, "minutes of training", "PSNR gained over the input, dB")
    curves = "".join(f"![PSNR by {name}]({pictures.name}/{name}.png)\n" for name in ("steps", "minutes"))
    how = (
        "Minutes are at the run's mean rate, validation left out; of a machine that others share, so steps and patches "
        "compare better. Patches are counted, whatever their size."
    )
    return "\n".join([*lines, "", how, "", curves, *beside])


def _keep_papers(model: BundledModel, ours: Weights, run: Path, pictures: Path) -> None:
    papers = account(run, load_weights(run / "weights.safetensors"), model, model.paper_recipe)
    theirs, own = (f"{of['validation']['set']}, {of['validation']['degradation']}" for of in (papers, ours.training))
    if theirs != own:
        raise UserError(f"{run}: was validated on {theirs}, {model.name} on {own}")
    write_atomically(_papers_file(model, pictures), json.dumps(papers, indent=1) + "\n")


def _papers_file(model: BundledModel, pictures: Path) -> Path:
    return pictures / f"{model.paper_recipe}.json"


def _beside(model: BundledModel, ours: dict[str, Any], papers: dict[str, Any]) -> str:
    """The beginning of the paper's recipe beside as many patches of ours."""
    last, origin, curve = papers["validation"]["curve"][-1], papers["provenance"], ours["validation"]["curve"]
    patches = last["step"] * papers["batch_size"]
    by_patches = {point["step"] * ours["batch_size"]: point["psnr"] for point in curve}
    until = max((number for number in by_patches if number <= patches), default=min(by_patches))
    sentences = (
        f"`{model.name}` by the paper's recipe: {last['psnr']:.2f} dB on {papers['validation']['set']} after "
        f"{patches:,} patches ({last['step']:,} steps) at {papers['images_per_s']:.0f} a second.",
        f"Ours has {by_patches[until]:.2f} dB after {until:,} at {ours['images_per_s']:.0f} a second, "
        f"{curve[-1]['psnr']:.2f} dB at its end.",
        f"One run each: `{origin['command']}` ({origin['device']}, {origin['threads']} threads, {papers['precision']}, "
        f"seed {papers['seed']}, commit `{origin['commit']}`).",
    )
    return " ".join(sentences) + "\n"


def _gains(validation: dict[str, Any], along: str) -> list[tuple[float, float]]:
    return [(point[along], point["psnr"] - validation["baseline"]) for point in validation["curve"]]


def _patches(recipe: str) -> int:
    """How many patches a recipe trains on."""
    settings = yaml.safe_load((cli.CONFIGS / f"{recipe}.yaml").read_text())
    data, trainer = settings["data"], settings["trainer"]
    steps = trainer.get("max_steps") or trainer["max_epochs"] * data["steps_per_epoch"]
    return int(steps * data["batch_size"])


def _sheet(model: BundledModel, weights: Weights, path: Path) -> None:
    """Input, result and truth of a few photographs, at full resolution."""
    rows: list[Sequence[Panel]] = []

    def show(pair: ImagePair, outcomes: dict[str, ScoredImage]) -> None:
        if pair.name in SHOWN:
            rows.append(comparison(pair, outcomes))

    degradation = model.tests[-1].degradation
    images = find_images("photos", "test", Path())
    models = {"noisy" if model.scale == 1 else "bicubic": None, "restored": tiled(weights.network)}
    measure(models, images, degradation, default_protocol(images, degradation, model.channels), model.channels, show)
    contact_sheet(path, rows, SIDE)


def _caption(model: BundledModel) -> str:
    card = f"[card](../../restore/bundled/{model.card.name})"
    return f"{model.task[0].upper()}{model.task[1:]} ({card}). {model.tests[-1].degradation.label}, restored, truth:"


if __name__ == "__main__":
    cli.run(main)
