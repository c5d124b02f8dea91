"""One training run, from its start or a checkpoint to a weights file and a summary."""

import json
import resource
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import EMAWeightAveraging, LearningRateMonitor, ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger
from pytorch_lightning.utilities import rank_zero_info, rank_zero_only

from restore.benchmark import default_protocol, measure
from restore.checkpoint import Weights, save_weights
from restore.errors import UserError
from restore.images.io import write_atomically
from restore.models import RestorationNetwork
from restore.provenance import provenance
from restore.training.callbacks import DivergenceGuard, LastCheckpoint, ProgressBar, SampleSheet, Throughput
from restore.training.datamodule import PatchData
from restore.training.memory_log import MemoryLog
from restore.training.module import Optimization, RestorationModule

CHECKPOINT_EVERY_N_STEPS = 500


def fit(
    network: RestorationNetwork,
    data: PatchData,
    optim: Optimization,
    output: Path,
    *,
    trainer: Mapping[str, Any],
    resume: str | None = None,
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
            replaces ours.
        resume: `auto` continues from the folder's last checkpoint if there is one; a path from that file.
        config: the text of `config.yaml`.

    Returns:
        What `summary.json` holds; empty on all ranks but the first.

    Raises:
        UserError: the folder holds a run and `resume` is None, data are missing, or the loss diverged.
    """
    checkpoints = output / "checkpoints"
    last = checkpoints / "last.ckpt"
    start = _starting_point(resume, last)
    data.prepare(network)
    assert data.degradation is not None
    protocol = default_protocol(data.val_images, data.degradation, network.channels)
    module = RestorationModule(network, optim, protocol)
    if config:
        rank_zero_only(write_atomically)(output / "config.yaml", config)

    best = ModelCheckpoint(checkpoints, "best", monitor="val/psnr", mode="max", enable_version_counter=False)
    throughput = Throughput()
    settings = {"default_root_dir": output} | {name: value for name, value in trainer.items() if value is not None}
    callbacks = [
        *settings.pop("callbacks", ()),
        *([EMAWeightAveraging(decay=optim.ema_decay)] if optim.ema_decay else []),
        DivergenceGuard(last),
        SampleSheet(output / "samples"),
        LearningRateMonitor("step"),
        MemoryLog(),
        throughput,
        best,
        LastCheckpoint(last, CHECKPOINT_EVERY_N_STEPS),
    ]
    if settings.get("enable_progress_bar", True):
        callbacks.append(ProgressBar())
    if settings.get("logger", True) is True:
        settings["logger"] = [
            CSVLogger(output, name="csv"),
            TensorBoardLogger(output, name="", version="tensorboard"),
        ]
    settings.setdefault("enable_model_summary", False)
    settings.setdefault("log_every_n_steps", min(50, data.steps_per_epoch))
    lightning = Trainer(**settings, callbacks=callbacks)
    lightning.fit(module, datamodule=data, ckpt_path=start, weights_only=True)
    if not lightning.is_global_zero:
        return {}

    chosen = best.best_model_path
    if chosen:
        _load_network(network, Path(chosen))
    network.eval()
    rows = measure(
        {"baseline": None, "restored": network}, data.val_images, data.degradation, protocol, network.channels
    )
    final = {name.removeprefix("val/"): lightning.callback_metrics.get(name) for name in ("val/psnr", "val/ssim")}
    summary = {
        "network": asdict(network.spec),
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "degradation": data.degradation.description,
        "train": {"set": data.train, "images": len(data.train_images.clean)},
        "optim": asdict(optim),
        "seed": data.seed,
        "patch_size": data.patch_size,
        "batch_size": data.batch_size,
        "ranks": lightning.world_size,
        "precision": str(lightning.precision),
        "steps": lightning.global_step,
        "weights": "best" if chosen else "last",
        "best_step": _step_of(Path(chosen)) if chosen else lightning.global_step,
        "last": {name: None if value is None else float(value) for name, value in final.items()},
        "results": [row.summary for row in rows],
        "elapsed_s": throughput.elapsed_s,
        "images_per_s": throughput.steps * data.batch_size * lightning.world_size / max(throughput.elapsed_s, 1e-9),
        "data_wait_share": data.train_loader.waited_s / max(throughput.elapsed_s, 1e-9),
        **_peak_memory(module.device),
        "provenance": provenance(module.device),
    }
    training = {name: value for name, value in summary.items() if name not in ("network", "degradation", "results")}
    weights = Weights(network, data.degradation.description, training, [row.summary for row in rows])
    save_weights(output / "weights.safetensors", weights)
    write_atomically(output / "summary.json", json.dumps(summary, indent=2) + "\n")
    return summary


def _starting_point(resume: str | None, last: Path) -> Path | None:
    if resume is None:
        _refuse_existing(last)
        return None
    if resume == "auto":
        rank_zero_info(f"Resuming from {last}" if last.exists() else f"{last}: nothing to resume from, starting anew")
        return last if last.exists() else None
    if not Path(resume).is_file():
        raise UserError(f"{resume}: no such checkpoint")
    return Path(resume)


@rank_zero_only
def _refuse_existing(last: Path) -> None:
    if last.exists():
        raise UserError(
            f"{last.parent.parent}: holds a run already; --resume auto continues it, --output starts another"
        )


def _load_network(network: RestorationNetwork, checkpoint: Path) -> None:
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
    prefix = "network."
    network.load_state_dict({key.removeprefix(prefix): state[key] for key in state if key.startswith(prefix)})


def _step_of(checkpoint: Path) -> int:
    return int(torch.load(checkpoint, map_location="cpu", weights_only=True)["global_step"])


def _peak_memory(device: torch.device) -> dict[str, float]:
    if device.type == "cuda":
        return {"peak_cuda_allocated_mib": torch.cuda.max_memory_allocated(device) / 2**20}
    return {"peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10}
