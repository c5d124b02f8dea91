"""Write docs/results/models.md and its pictures from the bundled models: python scripts/models_page.py [--page FILE.md]

Figures are those in the weights files. Pictures are made here, of photographs that need no download.
"""

from collections.abc import Sequence
from pathlib import Path

from restore import bundled, cli, recipes
from restore.benchmark import ScoredImage, default_protocol, measure
from restore.bundled import BundledModel
from restore.bundled.card import MARKERS, results_table, trained_on
from restore.checkpoint import Weights, load_weights
from restore.data.catalog import find_images
from restore.data.pairs import ImagePair
from restore.errors import UserError
from restore.files import write_atomically
from restore.inference import tiled
from restore.report import Panel, comparison, contact_sheet, plot_lines

SHOWN = ("camera", "chelsea", "rocket")
SIDE = 256  # pixels of each picture
TITLE = """# Bundled models

Trained by this project's recipes; `python scripts/bundle.py` measured them and wrote their cards, and
`python scripts/models_page.py` wrote this page. Published are the papers' networks, for EDSR-baseline the same network
trained on DIV2K (x2 and x4). `photos` are four photographs of scikit-image.
"""
EXAMPLES = """examples:
  python scripts/models_page.py
"""


def main() -> int:
    parser = cli.ArgumentParser("", "Write the page of the bundled models.", EXAMPLES)
    parser.prog = "python scripts/models_page.py"
    parser.add_argument("--page", type=Path, default=Path("docs/results/models.md"), help="default: %(default)s")
    parser.add_argument("--folder", type=Path, default=bundled.FOLDER, help="of the models (default: the package's)")
    args = parser.parse_args()
    found = {model: args.folder / model.weights.name for model in bundled.MODELS.values()}
    models = {model: load_weights(path) for model, path in found.items() if path.is_file()}
    if not models:
        raise UserError(f"{args.folder}: no bundled model is there")
    pictures = args.page.with_suffix("")
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
        "The x3 and x4 networks began with an x2 network, whose patches are not counted,",
        "and were chosen by `photos`, which is no test of theirs.\n",
        "| model | patches | the paper's recipe | share | minutes | validated on | PSNR at the end |",
        "|---|---|---|---|---|---|---|",
    ]
    by_steps = {}
    for model, weights in models.items():
        training, validation = weights.training, weights.training["validation"]
        patches, of_paper = training["steps"] * training["batch_size"], _patches(model.paper_recipe)
        last = validation["curve"][-1]
        lines.append(
            f"| `{model.name}` | {patches:,} | {of_paper:,} | {patches / of_paper:.2%} "
            f"| {last['minutes']:.0f}, {trained_on(weights)} "
            f"| {validation['set']}, {validation['degradation'].replace(' | ', ' or ')} | {last['psnr']:.2f} dB |"
        )
        by_steps[model.name] = [
            (point["step"], point["psnr"] - validation["baseline"]) for point in validation["curve"]
        ]
    plot_lines(pictures / "steps.png", by_steps, "steps", "PSNR gained over the input, dB")
    how = (
        "Minutes are at the run's mean rate, validation left out, of a device that other programs used as well, so "
        "steps and patches compare better. Patches are counted, whatever their size."
    )
    return "\n".join([*lines, "", how, "", f"![PSNR by steps]({pictures.name}/steps.png)\n"])


def _patches(recipe: str) -> int:
    """How many patches a recipe trains on."""
    settings = recipes.read(recipes.find(recipe))
    data, trainer = settings["data"], settings["trainer"]
    steps = trainer.get("max_steps") or trainer["max_epochs"] * data["steps_per_epoch"]
    return int(steps * data["batch_size"])


def _sheet(model: BundledModel, weights: Weights, path: Path) -> None:
    """Input, result and truth of a few photographs, at full resolution."""
    rows: list[Sequence[Panel]] = []

    def show(pair: ImagePair, outcomes: dict[str, ScoredImage]) -> None:
        if pair.name in SHOWN:
            rows.append(comparison(pair, outcomes, SIDE))

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
