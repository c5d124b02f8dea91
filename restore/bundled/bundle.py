"""A run folder -> a bundled model: measured, in float16, with its card."""

import csv
import shlex
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from restore.benchmark import default_protocol, measure
from restore.bundled.calibration import calibration_of
from restore.bundled.card import card
from restore.bundled.registry import BundledModel, measure_bundled
from restore.checkpoint import Weights, load_weights, save_weights
from restore.choices import InferencePrecision
from restore.data.catalog import find_images
from restore.data.degradation import from_description
from restore.errors import UserError
from restore.files import write_atomically
from restore.inference import accelerate, tiled
from restore.metrics import Row

LARGEST_LOSS_DB = 0.001  # by keeping parameters in float16
_TRIED: tuple[InferencePrecision, ...] = ("int8", "auto")


def make(run: Path, model: BundledModel, root: Path, folder: Path) -> list[Row]:
    """Write `model`'s weights file and card into `folder`.

    Args:
        run: a run folder of `restore.train`.
        model: what its network is to be.
        root: where the model's test sets lie.
        folder: of the files.

    Returns:
        The rows measured, baselines among them.

    Raises:
        UserError: the run's network is another, its parts are missing, or float16 costs more than 0.001 dB.
    """
    trained = load_weights(run / "weights.safetensors")
    rounded = _rounded(replace(trained, training=account(run, trained, model, model.recipe)))
    _check_loss(model, trained, rounded)
    rows = measure_bundled(model, tiled(rounded.network), root)
    done = replace(rounded, results=[row.summary for row in rows])
    save_weights(folder / model.weights.name, done, half=True)
    write_atomically(folder / model.card.name, card(model, done))
    return rows


def make_int8(model: BundledModel, root: Path, folder: Path) -> str:
    """Write `model`'s 8-bit network beside its weights file in `folder`, in place of an older one.

    It is removed again if it costs more than `auto` allows.

    Returns:
        What was made, in words, and whether it was kept.

    Raises:
        UserError: OpenVINO or NNCF is not installed.
    """
    path = folder / model.weights.name
    weights = load_weights(path)
    calibration = replace(calibration_of(path, weights, root), cache=None)
    _remove_int8(path)
    made, taken = (
        accelerate(
            weights.network,
            precision=precision,
            degradation=from_description(weights.degradation),
            calibration=calibration,
        ).description
        for precision in _TRIED
    )
    if made == taken:
        return f"{made}, kept"
    _remove_int8(path)
    return f"{made}, not kept: it costs too much"


def _remove_int8(weights: Path) -> None:
    for file in weights.parent.glob(f"{weights.stem}.int8-*"):
        file.unlink()


def account(run: Path, weights: Weights, model: BundledModel, recipe: str) -> dict[str, Any]:
    """How the weights of a run folder were trained by a recipe for `model`'s network, with their validation's curve.

    Without the paths of the machine that it ran on, the command as one types it.

    Raises:
        UserError: it is another network, or no validation is logged.
    """
    _check_network(model, weights, run)
    training = weights.training
    origin, start = training["provenance"], training["weights_at_start"]
    return {
        **training,
        "provenance": {**origin, "command": _command(origin["command"], recipe)},
        "weights_at_start": start and _short(start),
        "train": {**training["train"], "set": Path(training["train"]["set"]).name},
        "validation": _validation(run, weights),
    }


def _command(arguments: Sequence[str], recipe: str) -> str:
    """The training's command line: the data's root is called DATA, other paths keep their last two parts."""
    words, places = ["restore", "train"], {"--data.root": "DATA", "--output": f"runs/{recipe}"}
    given = arguments[2:] if arguments[1:2] == ["train"] else arguments[1:]  # of `restore train`, of `restore.train`
    split = [word for argument in given for word in _split(argument)]
    for before, word in zip(["", *split], split, strict=False):
        words.append(places.get(before, _short(word)))
    return shlex.join(words)


def _split(argument: str) -> list[str]:
    return argument.split("=", 1) if argument.startswith("--") else [argument]


def _short(word: str) -> str:
    """A path outside the folder that one is in by its last two parts; any other word as it is."""
    return "/".join(Path(word).parts[-2:]) if word.startswith(("/", "../", "~")) else word


def _validation(run: Path, weights: Weights) -> dict[str, Any]:
    """PSNR on the validation set by steps and minutes of training (at the run's mean rate), from the run's logs."""
    steps: dict[int, float] = {}
    for log in sorted(run.glob("csv/version_*/metrics.csv"), key=lambda path: int(path.parent.name.split("_")[1])):
        with log.open(newline="") as file:
            rows = [row for row in csv.DictReader(file) if row.get("val/psnr")]
        steps |= {int(row["step"]) + 1: float(row["val/psnr"]) for row in rows}
    if not steps:
        raise UserError(f"{run / 'csv'}: no validation is logged there")
    training, measured = weights.training, weights.results[0]
    per_minute = 60 * training["images_per_s"] / training["batch_size"]
    curve = [{"step": step, "minutes": step / per_minute, "psnr": psnr} for step, psnr in sorted(steps.items())]
    about = {name: measured[name] for name in ("set", "protocol", "degradation")}
    return {**about, "baseline": measured["psnr"], "curve": curve}


def _check_network(model: BundledModel, weights: Weights, run: Path) -> None:
    network = weights.network
    found = {"network": type(network).__name__, "channels": network.channels, "scale": network.scale}
    expected = {"network": model.network, "channels": model.channels, "scale": model.scale}
    if model.norm:
        found["norm"], expected["norm"] = network.norm, model.norm
    for name in expected:
        if found[name] != expected[name]:
            raise UserError(f"{run}: its {name} is {found[name]}, that of {model.name} {expected[name]}")
    for key in ("provenance", "images_per_s", "weights_at_start"):
        if key not in weights.training:
            raise UserError(f"{run}: weights.safetensors does not say how it was trained ({key} is missing)")


def _rounded(weights: Weights) -> Weights:
    """The weights as they come back from float16."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.safetensors"
        save_weights(path, weights, half=True)
        return load_weights(path)


def _check_loss(model: BundledModel, trained: Weights, rounded: Weights) -> None:
    test = model.tests[-1]
    images = find_images(test.set, "test", Path())
    protocol = default_protocol(images, test.degradation, model.channels)
    models = {"float32": tiled(trained.network), "float16": tiled(rounded.network)}
    exact, kept = (row.psnr for row in measure(models, images, test.degradation, protocol, model.channels))
    if exact - kept > LARGEST_LOSS_DB:
        raise UserError(f"{model.name}: float16 takes {test.set} from {exact:.4f} to {kept:.4f} dB")
