"""The end of a training run: the best weights, measured, as a weights file and a summary."""

import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pytorch_lightning import Trainer

from restore.benchmark import default_protocol, measure
from restore.checkpoint import Weights, save_weights, tensors_of_run
from restore.errors import UserError
from restore.files import write_atomically
from restore.hardware import Hardware
from restore.inference import tiled
from restore.models import RestorationNetwork
from restore.optim import Optimization
from restore.provenance import provenance
from restore.training.bad_steps import BadSteps
from restore.training.callbacks import BestCheckpoint, Throughput
from restore.training.checkpoints import read_checkpoint
from restore.training.datamodule import TrainingData
from restore.training.memory_log import MemoryLog

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Trained:
    """A run that has ended.

    Attributes:
        network: with its last weights.
        data, optim, hardware: what it was trained with.
        trainer: that has trained it.
        weights_at_start: the file that it began with.
        best, bad_steps, throughput, memory: what they have seen.
    """

    network: RestorationNetwork
    data: TrainingData
    optim: Optimization
    hardware: Hardware
    trainer: Trainer
    weights_at_start: str | None
    best: BestCheckpoint
    bad_steps: BadSteps
    throughput: Throughput
    memory: MemoryLog


def conclude(run: Trained, output: Path) -> dict[str, Any]:
    """Measure the best weights, or the last if there are none, and write `weights.safetensors` and `summary.json`.

    Returns:
        What `summary.json` holds.

    Raises:
        UserError: the validation images have changed, or a file cannot be written.
    """
    network, data, device = run.network, run.data, run.trainer.strategy.root_device
    kept, step = "last", run.trainer.global_step
    if run.best.best_model_path:
        try:
            kept, step = "best", _load_network(network, Path(run.best.best_model_path))
        except UserError as error:
            LOG.warning(f"{error}; keeping the last weights instead")
    data.check_unchanged()
    models = {"baseline": None, "restored": tiled(network.to(device).eval())}
    protocol = default_protocol(data.val.images, data.degradation, network.channels)
    rows = [row.summary for row in measure(models, data.val.images, data.degradation, protocol, network.channels)]
    training = {
        **_settings(run),
        "weights_at_start": run.weights_at_start,
        "weights": kept,
        "best_step": step,
        **_progress(run),
        "provenance": provenance(device),
    }
    description = data.degradation.description
    save_weights(output / "weights.safetensors", Weights(network, description, training, rows))
    summary = {"network": asdict(network.spec), "degradation": description, "results": rows, **training}
    write_atomically(output / "summary.json", json.dumps(summary, indent=2) + "\n")
    return summary


def _settings(run: Trained) -> dict[str, Any]:
    data = run.data
    return {
        "parameters": sum(parameter.numel() for parameter in run.network.parameters()),
        "train": {"set": data.train.name, "images": len(data.train.images.clean)},
        "optim": asdict(run.optim),
        "seed": data.settings.seed,
        "patch_size": data.settings.patch_size,
        "batch_size": data.settings.batch_size,
        "ranks": run.trainer.world_size,
        "precision": str(run.trainer.precision),
        "hardware": asdict(run.hardware),
    }


def _progress(run: Trained) -> dict[str, Any]:
    metrics, elapsed_s = run.trainer.callback_metrics, max(run.throughput.elapsed_s, 1e-9)
    return {
        "steps": run.trainer.global_step,
        "bad_steps": run.bad_steps.counts,
        "last": {name: float(value) for name, value in metrics.items() if name.startswith("val/")},
        "elapsed_s": run.throughput.elapsed_s,
        "images_per_s": run.throughput.steps * run.data.settings.batch_size / elapsed_s,
        "data_wait_share": run.data.waited_s / elapsed_s,
        **_peak_memory(run),
    }


def _load_network(network: RestorationNetwork, checkpoint: Path) -> int:
    """Load the network's part of a checkpoint; returns the step it was saved at."""
    state = read_checkpoint(checkpoint)
    network.load_state_dict(tensors_of_run(state["state_dict"]))
    return int(state["global_step"])


def _peak_memory(run: Trained) -> dict[str, float]:
    name = "peak_cuda_allocated_mib" if run.trainer.strategy.root_device.type == "cuda" else "peak_rss_mib"
    return {} if run.memory.peak is None else {name: run.memory.peak / 2**20}
