"""One training run, from its start or a checkpoint to a weights file and a summary."""

import errno
import json
import logging
import resource
import signal
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.callbacks import EMAWeightAveraging, LearningRateMonitor
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger
from pytorch_lightning.plugins.io import CheckpointIO
from pytorch_lightning.strategies import ModelParallelStrategy
from pytorch_lightning.utilities import rank_zero_only
from pytorch_lightning.utilities.exceptions import SIGTERMException

from restore.benchmark import default_protocol, measure
from restore.checkpoint import Weights, save_weights
from restore.errors import UserError
from restore.hardware import Hardware, gains_from_bf16, keep_pages
from restore.images.io import write_atomically
from restore.inference import tiled
from restore.models import RestorationNetwork
from restore.provenance import provenance
from restore.training.bad_steps import BadSteps, Faults
from restore.training.callbacks import BestCheckpoint, DataWatch, ProgressBar, SampleSheet, Throughput
from restore.training.checkpoints import (
    LAST,
    CheckpointFiles,
    LastCheckpoint,
    check_fits,
    last_good,
    newest_whole,
    read_checkpoint,
)
from restore.training.datamodule import PatchData
from restore.training.memory_log import MemoryLog
from restore.training.module import Optimization, RestorationModule
from restore.training.stops import StopSignals, TimeLimit
from restore.training.warm_start import start_from

LOG = logging.getLogger(__name__)

STOPPED = 128  # and a signal's number: exit code of a run that the signal ended
LOCK = ".lock"
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}  # what the loggers' files can run into
LONGEST_WAIT_S = 10  # for a lock: workers outlive a killed run by up to 5 s


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Holds the folder's lock, which the end of the process frees however it comes; leaves no empty folder behind."""
    made = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / LOCK, timeout=LONGEST_WAIT_S)
        lock.acquire()
    except Timeout as error:
        raise UserError(f"{folder}: another run is writing there; --output starts one elsewhere") from error
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror})") from error
    try:
        yield
    finally:
        (folder / LOCK).unlink(missing_ok=True)
        if made and folder.exists() and not any(folder.iterdir()):
            folder.rmdir()
        lock.release()


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
    faults: Faults | None = None,
    checkpoint_every: int = 500,
    config: str = "",
) -> dict[str, Any]:
    """Train a network and leave a run folder behind.

    The folder holds `config.yaml`, `csv/` and `tensorboard/` logs, `checkpoints/last.ckpt`, the one before in
    `previous.ckpt` and `best.ckpt` (by validation PSNR), `samples/`, and at the end `weights.safetensors` (the best)
    and `summary.json`.

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
        resume: `auto` continues from the folder's newest checkpoint that is not damaged, if there is one; a path from
            that file.
        faults: what to do about steps that would spoil the weights.
        checkpoint_every: steps between checkpoints to resume from; also saved at the end of each epoch, and when
            a signal stops the run.
        config: the text of `config.yaml`.

    Returns:
        What `summary.json` holds; empty on all ranks but the first.

    Raises:
        UserError: the folder holds a run and `resume` is None, or another process trains into it; `weights` do not
            fit; data are missing, or others than those of the run that is resumed; `trainer` is refused by Lightning;
            the loss diverged; nothing more can be written.
        SystemExit: with code 143, 130 or 129, after SIGTERM, SIGINT (Ctrl+C) or SIGHUP (a closed terminal).
    """
    stops = StopSignals()
    first = getattr(rank_zero_only, "rank", 0) == 0
    with _lock(output) if first else nullcontext(), _ending_well(output, stops):
        return _fit(
            network,
            data,
            optim,
            output,
            trainer,
            weights,
            resume,
            hardware or Hardware(),
            faults or Faults(),
            checkpoint_every,
            config,
            stops,
        )


def _fit(
    network: RestorationNetwork,
    data: PatchData,
    optim: Optimization,
    output: Path,
    trainer: Mapping[str, Any],
    weights: Path | None,
    resume: str | None,
    hardware: Hardware,
    faults: Faults,
    checkpoint_every: int,
    config: str,
    stops: StopSignals,
) -> dict[str, Any]:
    """`fit`, in a folder that is locked and with signals caught."""
    last = output / "checkpoints" / LAST
    start = _starting_point(resume, last)
    if weights and not start:
        start_from(network, weights)
    data.prepare(network)
    assert data.degradation is not None
    protocol = default_protocol(data.val_images, data.degradation, network.channels)
    if config:
        rank_zero_only(write_atomically)(output / "config.yaml", config)

    best = BestCheckpoint(last.parent / "best.ckpt")
    throughput = Throughput()
    bad_steps = BadSteps(faults, last, checkpoint_every, data.describe)
    callbacks = [
        *([EMAWeightAveraging(decay=optim.ema_decay)] if optim.ema_decay else []),
        bad_steps,
        DataWatch(data),
        SampleSheet(output / "samples"),
        MemoryLog(),
        throughput,
        best,
        LastCheckpoint(last, checkpoint_every),
        stops,
    ]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)`", FutureWarning)  # Lightning 2.6's own
        warnings.filterwarnings("ignore", "Checkpoint directory .* exists and is not empty")  # it does on resuming
        warnings.filterwarnings(
            "ignore", "You're using the WeightAveraging callback with a model that"
        )  # not with FSDP
        lightning = _lightning(trainer, output, callbacks, data.steps_per_epoch)
        device = lightning.strategy.root_device
        _check_processes(lightning, data.batch_size, bool(trainer.get("sync_batchnorm")))
        hardware = hardware.resolved(device, data.store_bytes, network.norm)
        rank_zero_only(LOG.info)(f"Training on {hardware.describe(device, str(lightning.precision))}")
        module = RestorationModule(network, optim, protocol, hardware)
        data.store_on_device = bool(hardware.store_on_device)
        if hardware.threads:
            torch.set_num_threads(hardware.threads)
        if hardware.keep_pages:
            keep_pages()
        if start is not None:
            check_fits(start, read_checkpoint(start), module)
        lightning.fit(module, datamodule=data, ckpt_path=start, weights_only=True)
    network = module.whole_network()
    if not lightning.is_global_zero:
        return {}

    kept, step = "last", lightning.global_step
    if best.best_model_path:
        try:
            kept, step = "best", _load_network(network, Path(best.best_model_path))
        except UserError as error:
            LOG.warning(f"{error}; keeping the last weights instead")
    data.check_unchanged()
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
        "bad_steps": bad_steps.counts,
        "last": {name: float(value) for name, value in lightning.callback_metrics.items() if name.startswith("val/")},
        "elapsed_s": throughput.elapsed_s,
        "images_per_s": throughput.steps * data.batch_size / max(throughput.elapsed_s, 1e-9),
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
    theirs = given.pop("callbacks", ())
    limit = given.pop("max_time", None)
    callbacks = [*([theirs] if isinstance(theirs, Callback) else theirs), *ours]
    if given.get("strategy") == "fsdp":  # PyTorch's second, which is for CPUs too; checkpoints are whole
        given["strategy"] = ModelParallelStrategy(save_distributed_checkpoint=False)
    if given.get("enable_progress_bar", True):
        callbacks.append(ProgressBar(every=1 if _device(given).type == "cpu" else 20))
    if given.get("logger", True) is True:
        given["logger"] = [CSVLogger(output, name="csv"), TensorBoardLogger(output, name="", version="tensorboard")]
    if given["logger"]:
        callbacks.append(LearningRateMonitor("step"))
    plugins = given.pop("plugins", None) or []
    plugins = list(plugins) if isinstance(plugins, list | tuple) else [plugins]
    if not any(isinstance(plugin, CheckpointIO) for plugin in plugins):
        plugins.append(CheckpointFiles())
    defaults: dict[str, Any] = {
        "default_root_dir": output,
        "plugins": plugins,
        "enable_model_summary": False,
        "log_every_n_steps": min(50, steps_per_epoch),
        "precision": "bf16-mixed" if gains_from_bf16(_device(given)) else "32-true",
    }
    try:
        if limit:
            callbacks.append(TimeLimit(limit))
        return Trainer(**defaults | given, callbacks=callbacks)
    except (ValueError, TypeError, MisconfigurationException) as error:
        raise UserError(f"trainer: {error}") from error


def _check_processes(trainer: Trainer, batch_size: int, sync_batchnorm: bool) -> None:
    """Raises UserError where the processes cannot share a batch equally or synchronise batch norm."""
    ranks = trainer.world_size
    if batch_size % ranks:
        fitting = [size for size in (batch_size // ranks * ranks, -(-batch_size // ranks) * ranks) if size]
        raise UserError(
            f"data.batch_size is for all processes together: {ranks} cannot share {batch_size} patches equally, "
            f"but {' or '.join(map(str, fitting))}"
        )
    if sync_batchnorm and ranks > 1 and trainer.strategy.root_device.type == "cpu":
        raise UserError(
            "trainer.sync_batchnorm: PyTorch has it on GPUs only; CPU processes have statistics of their own"
        )


def _device(settings: Mapping[str, Any]) -> torch.device:
    """The kind of device that Lightning will choose."""
    cuda = settings.get("accelerator", "auto") in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    return torch.device("cuda" if cuda else "cpu")


@contextmanager
def _ending_well(output: Path, stops: StopSignals) -> Iterator[None]:
    """What stops a run from outside, in one line each."""
    try:
        with stops:
            yield
    except SIGTERMException:
        number = stops.received or signal.SIGTERM
        good = last_good(output / "checkpoints")
        rank_zero_only(LOG.info)(f"stopped by {number.name}; {good}; --resume auto continues")
        raise SystemExit(STOPPED + number) from None
    except OSError as error:
        inside = error.filename is not None and Path(error.filename).is_relative_to(output.absolute())
        if error.errno not in FULL and not (inside and error.errno == errno.ENOENT):  # someone deleted the folder
            raise
        raise UserError(f"{error.filename or output}: {error.strerror}; {last_good(output / 'checkpoints')}") from error


def _starting_point(resume: str | None, last: Path) -> Path | None:
    if resume is None:
        _refuse_existing(last)
        return None
    if resume == "auto":
        start = newest_whole(last.parent)
        words = f"Resuming from {start}" if start else f"{last}: nothing to resume from, starting anew"
        rank_zero_only(LOG.info)(words)
        return start
    if not Path(resume).is_file():
        raise UserError(f"{resume}: no such checkpoint")
    return Path(resume)


@rank_zero_only
def _refuse_existing(last: Path) -> None:
    if last.exists():
        raise UserError(
            f"{last.parent.parent}: holds a run already; --resume auto continues it, --output starts another"
        )


def _load_network(network: RestorationNetwork, checkpoint: Path) -> int:
    """Load the network's part of a checkpoint; returns the step it was saved at."""
    state = read_checkpoint(checkpoint)
    prefix = "network."
    tensors = {name.removeprefix(prefix): t for name, t in state["state_dict"].items() if name.startswith(prefix)}
    network.load_state_dict(tensors)
    return int(state["global_step"])


def _peak_memory(device: torch.device) -> dict[str, float]:
    if device.type == "cuda":
        return {"peak_cuda_allocated_mib": torch.cuda.max_memory_allocated(device) / 2**20}
    return {"peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10}
