"""One training run, from its start or a checkpoint to a weights file and a summary."""

import json
import logging
import resource
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.callbacks import EMAWeightAveraging, LearningRateMonitor, ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger
from pytorch_lightning.utilities import rank_zero_only

from restore.benchmark import default_protocol, measure
from restore.checkpoint import Weights, save_weights
from restore.errors import UserError
from restore.hardware import Hardware, gains_from_bf16, keep_pages
from restore.images.io import write_atomically
from restore.inference import tiled
from restore.models import RestorationNetwork
from restore.provenance import provenance
from restore.training.callbacks import DivergenceGuard, LastCheckpoint, ProgressBar, SampleSheet, Throughput
from restore.training.datamodule import PatchData
from restore.training.memory_log import MemoryLog
from restore.training.module import Optimization, RestorationModule
from restore.training.warm_start import start_from

LOG = logging.getLogger(__name__)


def fit(
    network: RestorationNetwork,
    data: PatchData,
    optim: Optimization,
    output: Path,
    *,
    trainer: Mapping[str, Any],
    weights: Path | None = None,
    resume: str | None = None,
    hardware: Hardware | None = None,
    checkpoint_every: int = 500,
    config: str = "",
) -> dict[str, Any]:
    """Train a network and leave a run folder behind.

    The folder holds `config.yaml`, `csv/` and `tensorboard/` logs, `checkpoints/last.ckpt` and `best.ckpt` (by
    validation PSNR), `samples/`, and at the end `weights.safetensors` (the best) and `summary.json`.

    Args:
        network: with its initial weights.
        data: training patches and validation images.
        optim: loss, optimiser, schedule.
        output: the run folder.
        trainer: arguments of Lightning's Trainer, e.g. `{"max_steps": 1000}`; callbacks are added to ours, a logger
            replaces ours. `precision` is by default bf16-mixed where the device gains from it.
        weights: a weights file to start from, of the same network or of one for another scale (see `start_from`);
            not read where a run is resumed.
        hardware: how to use the machine; by default as it gains most.
        resume: `auto` continues from the folder's last checkpoint if there is one; a path from that file.
        checkpoint_every: steps between checkpoints to resume from; one is kept, also at the end of each epoch.
        config: the text of `config.yaml`.

    Returns:
        What `summary.json` holds; empty on all ranks but the first.

    Raises:
        UserError: the folder holds a run and `resume` is None, `weights` do not fit, data are missing, `trainer` is
            refused by Lightning, or the loss diverged.
    """
    last = output / "checkpoints" / "last.ckpt"
    start = _starting_point(resume, last)
    if weights and not start:
        start_from(network, weights)
    data.prepare(network)
    assert data.degradation is not None
    protocol = default_protocol(data.val_images, data.degradation, network.channels)
    if config:
        rank_zero_only(write_atomically)(output / "config.yaml", config)

    best = ModelCheckpoint(last.parent, "best", monitor="val/psnr", mode="max", enable_version_counter=False)
    throughput = Throughput()
    callbacks = [
        *([EMAWeightAveraging(decay=optim.ema_decay)] if optim.ema_decay else []),
        DivergenceGuard(last),
        SampleSheet(output / "samples"),
        MemoryLog(),
        throughput,
        best,
        LastCheckpoint(last, checkpoint_every),
    ]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)`", FutureWarning)  # Lightning 2.6's own
        warnings.filterwarnings("ignore", "Checkpoint directory .* exists and is not empty")  # it does on resuming
        lightning = _lightning(trainer, output, callbacks, data.steps_per_epoch)
        device = lightning.strategy.root_device
        hardware = (hardware or Hardware()).resolved(device, data.store_bytes, network.norm)
        rank_zero_only(LOG.info)(f"Training on {hardware.describe(device, str(lightning.precision))}")
        module = RestorationModule(network, optim, protocol, hardware)
        data.store_on_device = bool(hardware.store_on_device)
        if hardware.threads:
            torch.set_num_threads(hardware.threads)
        if hardware.keep_pages:
            keep_pages()
        if start is not None:
            _check_checkpoint(start, module)
        lightning.fit(module, datamodule=data, ckpt_path=start, weights_only=True)
    if not lightning.is_global_zero:
        return {}

    if best.best_model_path:
        kept, step = "best", _load_network(network, Path(best.best_model_path))
    else:
        kept, step = "last", lightning.global_step
    models = {"baseline": None, "restored": tiled(network.to(device).eval())}
    rows = [row.summary for row in measure(models, data.val_images, data.degradation, protocol, network.channels)]
    training = {
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "train": {"set": data.train, "images": len(data.train_images.clean)},
        "optim": asdict(optim),
        "weights_at_start": str(weights) if weights else None,
        "seed": data.seed,
        "patch_size": data.patch_size,
        "batch_size": data.batch_size,
        "ranks": lightning.world_size,
        "precision": str(lightning.precision),
        "hardware": asdict(hardware),
        "steps": lightning.global_step,
        "weights": kept,
        "best_step": step,
        "last": {name: float(value) for name, value in lightning.callback_metrics.items() if name.startswith("val/")},
        "elapsed_s": throughput.elapsed_s,
        "images_per_s": throughput.steps * data.batch_size * lightning.world_size / max(throughput.elapsed_s, 1e-9),
        "data_wait_share": data.train_loader.waited_s / max(throughput.elapsed_s, 1e-9),
        **_peak_memory(device),
        "provenance": provenance(device),
    }
    description = data.degradation.description
    save_weights(output / "weights.safetensors", Weights(network, description, training, rows))
    summary = {"network": asdict(network.spec), "degradation": description, "results": rows, **training}
    write_atomically(output / "summary.json", json.dumps(summary, indent=2) + "\n")
    return summary


def _lightning(settings: Mapping[str, Any], output: Path, ours: list[Callback], steps_per_epoch: int) -> Trainer:
    given = {name: value for name, value in settings.items() if value is not None}
    callbacks = [*given.pop("callbacks", ()), *ours]
    if given.get("enable_progress_bar", True):
        callbacks.append(ProgressBar(every=1 if _device(given).type == "cpu" else 20))
    if given.get("logger", True) is True:
        given["logger"] = [CSVLogger(output, name="csv"), TensorBoardLogger(output, name="", version="tensorboard")]
    if given["logger"]:
        callbacks.append(LearningRateMonitor("step"))
    defaults: dict[str, Any] = {
        "default_root_dir": output,
        "enable_model_summary": False,
        "log_every_n_steps": min(50, steps_per_epoch),
        "precision": "bf16-mixed" if gains_from_bf16(_device(given)) else "32-true",
    }
    try:
        return Trainer(**defaults | given, callbacks=callbacks)
    except (ValueError, TypeError, MisconfigurationException) as error:
        raise UserError(f"trainer: {error}") from error


def _device(settings: Mapping[str, Any]) -> torch.device:
    """The kind of device that Lightning will choose."""
    cuda = settings.get("accelerator", "auto") in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    return torch.device("cuda" if cuda else "cpu")


def _starting_point(resume: str | None, last: Path) -> Path | None:
    if resume is None:
        _refuse_existing(last)
        return None
    if resume == "auto":
        start = f"Resuming from {last}" if last.exists() else f"{last}: nothing to resume from, starting anew"
        rank_zero_only(LOG.info)(start)
        return last if last.exists() else None
    if not Path(resume).is_file():
        raise UserError(f"{resume}: no such checkpoint")
    return Path(resume)


def _check_checkpoint(path: Path, module: RestorationModule) -> None:
    """Raises UserError where a checkpoint is damaged, by its own checksums, or of another network."""
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        state = None if damaged else torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damage makes the readers fail in every way
        raise UserError(f"{path}: not a checkpoint, or damaged ({str(error).partition('. ')[0]})") from error
    if damaged:
        raise UserError(f"{path}: damaged ({damaged} does not match its checksum)")
    if not isinstance(state, dict) or not state.keys() >= {"state_dict", "global_step", "pytorch-lightning_version"}:
        raise UserError(f"{path}: not a checkpoint of a training run")
    expected = {name: tensor.shape for name, tensor in module.state_dict().items()}
    found = {name: tensor.shape for name, tensor in state["state_dict"].items()}
    if different := sorted(name for name in expected | found if expected.get(name) != found.get(name)):
        raise UserError(
            f"{path}: of another network than the one to train: {len(different)} tensors differ, the first is "
            f"{different[0]} ({_shape(found, different[0])} in the file, {_shape(expected, different[0])} expected)"
        )


def _shape(shapes: dict[str, torch.Size], name: str) -> str:
    return "x".join(map(str, shapes[name])) or "one number" if name in shapes else "none"


@rank_zero_only
def _refuse_existing(last: Path) -> None:
    if last.exists():
        raise UserError(
            f"{last.parent.parent}: holds a run already; --resume auto continues it, --output starts another"
        )


def _load_network(network: RestorationNetwork, checkpoint: Path) -> int:
    """Load the network's part of a checkpoint; returns the step it was saved at."""
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    prefix = "network."
    tensors = {name.removeprefix(prefix): t for name, t in state["state_dict"].items() if name.startswith(prefix)}
    network.load_state_dict(tensors)
    return int(state["global_step"])


def _peak_memory(device: torch.device) -> dict[str, float]:
    if device.type == "cuda":
        return {"peak_cuda_allocated_mib": torch.cuda.max_memory_allocated(device) / 2**20}
    return {"peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10}
