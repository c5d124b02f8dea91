"""The settings that decide what comes out of a run: kept in its checkpoints, and compared when it is resumed."""

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pytorch_lightning import Trainer
from pytorch_lightning.utilities import rank_zero_only

from restore.checkpoint import as_options
from restore.data.degradation import Degradation
from restore.errors import UserError, listed
from restore.models import RestorationNetwork
from restore.optim import Optimization
from restore.training.patch_data import PatchData

LOG = logging.getLogger(__name__)

OF_THE_DATA = ("batch_size", "patch_size", "steps_per_epoch", "sizes", "transforms")
OF_THE_TRAINER = (  # how steps are made of batches, and when validations say which weights are kept
    "accumulate_grad_batches",
    "gradient_clip_val",
    "gradient_clip_algorithm",
    "check_val_every_n_epoch",
)
SHARES_OR_NUMBERS = ("limit_val_batches", "val_check_interval")  # 1.0 or 1
OF_THE_MACHINE = ("trainer.precision",)  # may be others where a run is resumed
WEIGHTS = "weights"  # that the run began with
MOST_NAMED = 4


def deciding_settings(
    network: RestorationNetwork,
    data: PatchData,
    degradation: Degradation,
    optim: Optimization,
    trainer: Trainer,
    weights: Path | None,
) -> dict[str, Any]:
    """The settings that decide the outcome of a run, by their names on the command line, as plain values.

    Not among them are the length of the run, of which the schedule knows whether it matters; the images, which have
    fingerprints; and what belongs to the machine, such as devices, threads and workers.

    Args:
        network, data, optim, weights: see `fit`.
        degradation: of the data.
        trainer: made of the arguments of `fit`.
    """
    spec = network.spec
    arguments = {name: value for name, value in spec.arguments.items() if name != "recompute"}  # which changes nothing
    settings = {
        "seed": data.seed,
        WEIGHTS: str(weights) if weights else None,
        **as_options("model", {"class_path": spec.name, "init_args": arguments}),
        **{f"data.{name}": getattr(data, name) or None for name in OF_THE_DATA},
        **as_options("data.degradation", degradation.description),
        **{f"optim.{name}": value for name, value in asdict(optim).items()},
        **{f"trainer.{name}": getattr(trainer, name) for name in OF_THE_TRAINER},
        **{f"trainer.{name}": str(getattr(trainer, name)) for name in SHARES_OR_NUMBERS},
        "trainer.precision": trainer.precision,
    }
    return dict(json.loads(json.dumps(settings, default=str)))


def resumed(path: Path, checkpoint: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a run that is resumed, which are those that it began with.

    Args:
        path: of the checkpoint, for messages.
        checkpoint: with its settings; one of an earlier version has none, and nothing is compared.
        settings: that were asked for. Weights to start from need not be named again.

    Raises:
        UserError: one is another than the checkpoint's.
    """
    before = checkpoint.get("settings")
    before = before if isinstance(before, dict) else {}
    asked = dict(settings)
    if asked[WEIGHTS] is None:
        asked[WEIGHTS] = before.get(WEIGHTS)
    different = {name: asked[name] for name in asked.keys() & before.keys() if asked[name] != before[name]}
    for name in OF_THE_MACHINE:
        if name in different:
            rank_zero_only(LOG.warning)(f"{name} was {before[name]} so far, and is {different.pop(name)} from here on")
    if different:
        words = (f"{name} {_words(before[name])} (asked for: {_words(different[name])})" for name in sorted(different))
        raise UserError(
            f"{path}: the run was made with {listed(words, MOST_NAMED)}; resume it with the settings it had, or start "
            "another run from its weights (--weights, --output)"
        )
    return asked


def _words(value: Any) -> str:
    return "none" if value is None else value if isinstance(value, str) else json.dumps(value)
