"""One training run, from its start or a checkpoint to a weights file and a summary."""

import errno
import logging
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from filelock import FileLock, Timeout
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.callbacks import LearningRateMonitor, WeightAveraging
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger
from pytorch_lightning.plugins.io import CheckpointIO
from pytorch_lightning.strategies import ModelParallelStrategy
from pytorch_lightning.utilities import rank_zero_only
from pytorch_lightning.utilities.exceptions import SIGTERMException

from restore.benchmark import default_protocol
from restore.errors import UserError
from restore.files import remove_leftovers
from restore.hardware import Hardware, gains_from_bf16
from restore.models import Norm, RestorationNetwork
from restore.optim import Optimization
from restore.optim.averaging import moving_average
from restore.training.bad_steps import BadSteps, Faults
from restore.training.callbacks import BestCheckpoint, ConfigFile, DataWatch, ProgressBar, SampleSheet, Throughput
from restore.training.checkpoints import (
    LAST,
    CheckpointFiles,
    LastCheckpoint,
    check_fits,
    last_good,
    newest,
    newest_whole,
    read_checkpoint,
)
from restore.training.conclusion import Trained, conclude
from restore.training.datamodule import TrainingData
from restore.training.lightning_internals import NoProfiler, known_warnings, without_idle_hooks
from restore.training.memory_log import MemoryLog
from restore.training.module import RestorationModule
from restore.training.patch_data import PatchData
from restore.training.settings import WEIGHTS, deciding_settings, resumed
from restore.training.stops import StopSignals, TimeLimit
from restore.training.warm_start import start_from

LOG = logging.getLogger(__name__)

EXIT_CODE_OF_SIGNAL = 128  # and a signal's number: exit code of a run that the signal ended
LOCK = ".lock"
FILES = "config.yaml", "summary.json", "weights.safetensors", f"checkpoints/{LAST}", "checkpoints/best.ckpt"
DISK_FULL_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}  # what the loggers' files can run into
TRIAL_PIXELS = 16  # height and width of an image that a network is tried with, times `multiple_of`
LONGEST_WAIT_S = 10  # for a lock: workers outlive a killed run by up to 5 s


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
    """Train a network and write a run folder.

    The folder holds `config.yaml`, `csv/` and `tensorboard/` logs, `checkpoints/last.ckpt`, the one before in
    `previous.ckpt` and `best.ckpt` (by validation PSNR), `samples/`, and at the end `weights.safetensors` (the best)
    and `summary.json`.

    Args:
        network: with its initial weights.
        data: training patches and validation images.
        optim: loss, optimizer, schedule.
        output: the run folder.
        trainer: arguments of Lightning's Trainer, e.g. `{"max_steps": 1000}`; callbacks are added to ours, a logger
            replaces ours. `precision` is by default bf16-mixed if the device gains from it.
        weights: a weights file to start from, of the same network or of one for another scale (see `start_from`);
            not read if a run is resumed, for which it need not be named again.
        hardware: how to use the machine; by default as it gains most.
        resume: a checkpoint to continue from; `auto`: the folder's newest that is not damaged, if there is one. All
            settings that decide the outcome must be those that the run began with (see `deciding_settings`).
        faults: what to do about steps that would spoil the weights.
        checkpoint_every: steps between checkpoints, which each epoch's end and a signal that stops the run save, too.
        config: the text of `config.yaml`, which is written when training begins.

    Returns:
        What `summary.json` holds; empty on all ranks but the first.

    Raises:
        UserError: the folder holds a run and `resume` is None, or another process trains into it; `weights` do not
            fit; weights of the network were never initialized, or its output has another shape than it says; data are
            missing; data or settings are others than those of the run that is resumed; `trainer` is refused by
            Lightning; the loss diverged; nothing more can be written.
        SystemExit: with code 143, 130 or 129, after SIGTERM, SIGINT (Ctrl+C) or SIGHUP (a closed terminal).
    """
    _check_epochs(trainer)
    _check_validation(trainer.get("val_check_interval"), data.steps_per_epoch)
    _check_precision(trainer.get("precision"))
    stops = StopSignals()
    with _lock(output), _threads_restored(), _report_interruptions(output, stops):
        rank_zero_only(remove_leftovers)(output / name for name in FILES)
        start = _starting_point(resume, output / "checkpoints" / LAST)
        if weights and not start:
            start_from(network, weights)
        if not start:
            _check_initialized(network)
        _check_output(network)
        prepared = data.prepare(network)
        ours = _callbacks(prepared, optim, output, faults or Faults(), checkpoint_every)
        files = [ConfigFile(output / "config.yaml", config)] if config else []
        with known_warnings():
            lightning = _lightning(trainer, output, [*ours.all, *files, stops], data.steps_per_epoch)
            if optim.ema_decay and isinstance(lightning.strategy, ModelParallelStrategy):
                raise UserError("optim.ema_decay needs whole weights, but the strategy fsdp shards them; use ddp")
            _check_processes(lightning, data.batch_size, network.norm if trainer.get("sync_batchnorm") else None)
            settings = deciding_settings(network, data, prepared.degradation, optim, lightning, weights)
            trained = _train(network, prepared, optim, lightning, hardware or Hardware(), ours, settings, start)
        return conclude(trained, output) if lightning.is_global_zero else {}


def _check_initialized(network: RestorationNetwork) -> None:
    """Raises UserError if there are weights that nothing has filled."""
    for name, parameter in network.named_parameters():
        if parameter.isnan().any():
            raise UserError(
                f"{type(network).__name__}: {name} was never initialized: call "
                "restore.models.init.initialize(self, ...) at the end of __init__"
            )


@torch.no_grad()
def _check_output(network: RestorationNetwork) -> None:
    """Raises UserError if a network lacks `channels`, or its output is not (N, channels, scale * H, scale * W)."""
    if not hasattr(network, "channels"):
        raise UserError(
            f"{type(network).__name__}: the attribute channels is missing, 1 (gray) or 3 (RGB): make it an argument of "
            "__init__ or set it in the class"
        )
    size = TRIAL_PIXELS * network.multiple_of
    degraded = next(network.parameters()).new_zeros(1, network.inputs, size, size)
    was_training = network.training
    network.eval()
    for scale in network.all_scales:
        expected = (1, network.channels, scale * size, scale * size)
        restored: object = network.at(scale)(degraded)
        found = tuple(restored.shape) if isinstance(restored, torch.Tensor) else f"a {type(restored).__name__}"
        if found != expected:
            raise UserError(
                f"{type(network).__name__}: for an input of {tuple(degraded.shape)} expected a tensor of {expected} "
                f"(channels {network.channels}, scale {scale}), found {found}"
            )
    network.train(was_training)


def _check_epochs(trainer: Mapping[str, Any]) -> None:
    """Raises UserError for Lightning's other ways to say how many batches an epoch has, which do not know the step."""
    if trainer.get("reload_dataloaders_every_n_epochs"):
        raise UserError("trainer.reload_dataloaders_every_n_epochs does not apply: each epoch has batches of its own")
    for name in ("limit_train_batches", "overfit_batches"):
        if trainer.get(name) not in (None, 0.0 if name == "overfit_batches" else None):
            raise UserError(
                f"trainer.{name} does not apply: an epoch has data.steps_per_epoch batches; data.images trains on few "
                "images"
            )


def _check_validation(interval: object, batches: int) -> None:
    """Raises UserError if validations do not come at the same batches of each epoch, its last one among them."""
    if not isinstance(interval, int | float) or interval == 0:
        return
    between = interval if isinstance(interval, int) else int(interval * batches)
    if between < 1 or batches % between:
        raise UserError(
            f"trainer.val_check_interval {interval} must divide an epoch, which has {batches} batches "
            "(data.steps_per_epoch), so that the last one is validated, too"
        )


def _check_precision(precision: object) -> None:
    """Raises UserError for weights in another precision than float32, in which patches and noise are made."""
    if str(precision).endswith("-true") and precision != "32-true":
        raise UserError(f"trainer.precision {precision}: weights stay in float32; use 32-true, bf16-mixed or 16-mixed")


class _Callbacks(NamedTuple):
    """All callbacks of ours, and those that are asked when a run has ended."""

    all: tuple[Callback, ...]
    best: BestCheckpoint
    bad_steps: BadSteps
    throughput: Throughput
    memory: MemoryLog


def _callbacks(
    data: TrainingData, optim: Optimization, output: Path, faults: Faults, checkpoint_every: int
) -> _Callbacks:
    last = output / "checkpoints" / LAST
    best = BestCheckpoint(last.parent / "best.ckpt")
    bad_steps = BadSteps(faults, last, checkpoint_every, data.describe)
    throughput, memory = Throughput(), MemoryLog()
    average = [WeightAveraging(multi_avg_fn=moving_average(optim.ema_decay))] if optim.ema_decay else []
    beside = DataWatch(data), SampleSheet(output / "samples"), memory, throughput
    everything = *average, bad_steps, *beside, best, LastCheckpoint(last, checkpoint_every)
    return _Callbacks(everything, best, bad_steps, throughput, memory)


def _train(
    network: RestorationNetwork,
    data: TrainingData,
    optim: Optimization,
    trainer: Trainer,
    hardware: Hardware,
    ours: _Callbacks,
    settings: dict[str, Any],
    start: Path | None,
) -> Trained:
    """Train, from a checkpoint if there is one."""
    device = trainer.strategy.root_device
    if not data.cut_on_device:
        hardware = replace(hardware, store_on_device=False)
    hardware = hardware.resolved(device, data.store_bytes, network.norm)
    rank_zero_only(LOG.info)(f"Training on {hardware.describe(device, str(trainer.precision))}")
    if unused := ", ".join(f"optim.{name}" for name in optim.unused):
        rank_zero_only(LOG.info)(f"Not used by {optim.optimizer} and the schedule {optim.schedule}: {unused}")
    if hardware.store_on_device:
        data.move_stores(device)
    if hardware.threads:
        torch.set_num_threads(hardware.threads)
    protocol = default_protocol(data.val.images, data.degradation, network.channels)
    before = None
    if start is not None:
        before, settings = _compared(start, network, settings)
    module = RestorationModule(network, optim, protocol, hardware, settings)
    module.train()  # a network that was loaded is in eval mode
    trainer.fit(module, datamodule=data, ckpt_path=start, weights_only=True)
    if trainer.global_step == before:
        of = f" of {before}" if trainer.max_steps == before else ""
        rank_zero_only(LOG.info)(f"already finished: {before}{of} steps; nothing was trained")
    seen = ours.best, ours.bad_steps, ours.throughput, ours.memory
    return Trained(module.whole_network(), data, optim, hardware, trainer, settings[WEIGHTS], *seen)


def _compared(start: Path, network: RestorationNetwork, settings: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """The steps of a checkpoint, which must be of such a network and settings, and the settings of its run."""
    state = read_checkpoint(start)
    check_fits(start, state, network)
    return int(state["global_step"]), resumed(start, state, settings)


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Only one process, with the ranks that belong to it, trains into a folder at a time.

    The first rank holds the folder's lock, which the end of the process frees however it comes. No empty folder stays.
    """
    if getattr(rank_zero_only, "rank", 0) != 0:
        yield
        return
    made = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / LOCK, timeout=LONGEST_WAIT_S)
        lock.acquire()
    except Timeout as error:
        raise UserError(f"{folder}: another run is writing there; choose another --output") from error
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror})") from error
    try:
        yield
    finally:
        (folder / LOCK).unlink(missing_ok=True)
        if made and folder.exists() and not any(folder.iterdir()):
            folder.rmdir()
        lock.release()


def _lightning(settings: Mapping[str, Any], output: Path, ours: list[Callback], steps_per_epoch: int) -> Trainer:
    given = {name: value for name, value in settings.items() if value is not None}
    theirs = given.pop("callbacks", ())
    limit = given.pop("max_time", None)
    callbacks = [*([theirs] if isinstance(theirs, Callback) else theirs), *ours]
    if given.get("strategy") == "fsdp":  # PyTorch's second, which is for CPUs too; checkpoints are whole
        given["strategy"] = ModelParallelStrategy(save_distributed_checkpoint=False)
    if given.get("enable_progress_bar", True):
        callbacks.append(ProgressBar())
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
        "profiler": NoProfiler(),
        "log_every_n_steps": min(50, steps_per_epoch),
        "precision": "bf16-mixed" if gains_from_bf16(_device(given)) else "32-true",
    }
    try:
        if limit:
            callbacks.append(TimeLimit(limit))
        return Trainer(**defaults | given, callbacks=[without_idle_hooks(callback) for callback in callbacks])
    except (ValueError, TypeError, MisconfigurationException) as error:
        raise UserError(f"trainer: {error}") from error


def _check_processes(trainer: Trainer, batch_size: int, synchronized: Norm | None) -> None:
    """Raises UserError if the processes cannot share a batch equally or synchronize the network's norm."""
    ranks = trainer.world_size
    if batch_size % ranks:
        fitting = [size for size in (batch_size // ranks * ranks, -(-batch_size // ranks) * ranks) if size]
        raise UserError(
            f"data.batch_size is the total over all processes: {ranks} cannot share {batch_size} patches equally, "
            f"but {' or '.join(map(str, fitting))} would work"
        )
    if synchronized == "adadm" and ranks > 1:
        raise UserError(
            "trainer.sync_batchnorm: PyTorch would replace the norm adadm by plain batch norm; leave it out"
        )
    if synchronized and ranks > 1 and trainer.strategy.root_device.type == "cpu":
        raise UserError(
            "trainer.sync_batchnorm: PyTorch supports it on GPUs only; on CPUs each process has its own statistics"
        )


def _device(settings: Mapping[str, Any]) -> torch.device:
    """The kind of device that Lightning will choose."""
    cuda = settings.get("accelerator", "auto") in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    return torch.device("cuda" if cuda else "cpu")


@contextmanager
def _threads_restored() -> Iterator[None]:
    """Gives the caller back as many threads of PyTorch as there were."""
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def _report_interruptions(output: Path, stops: StopSignals) -> Iterator[None]:
    """Reports interruptions of a run in one line each."""
    try:
        with stops:
            yield
    except SIGTERMException:
        number = stops.received or signal.SIGTERM
        good = last_good(output / "checkpoints")
        then = "--resume auto continues" if newest(output / "checkpoints") else "the same command starts again"
        rank_zero_only(LOG.info)(f"stopped by {number.name}; {good}; {then}")
        raise SystemExit(EXIT_CODE_OF_SIGNAL + number) from None
    except OSError as error:
        inside = error.filename is not None and Path(error.filename).is_relative_to(output.absolute())
        if error.errno not in DISK_FULL_ERRORS and not (
            inside and error.errno == errno.ENOENT
        ):  # someone deleted the folder
            raise
        raise UserError(f"{error.filename or output}: {error.strerror}; {last_good(output / 'checkpoints')}") from error


def _starting_point(resume: str | None, last: Path) -> Path | None:
    if resume is None:
        _refuse_existing(last)
        return None
    if resume == "auto":
        start = newest_whole(last.parent)
        words = f"Resuming from {start}" if start else f"{last}: nothing to resume from; starting from step 0"
        rank_zero_only(LOG.info)(words)
        return start
    path = Path(resume).expanduser()
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint")
    if path.resolve().parent != last.parent.resolve():
        words = f"Resuming from {path}; {last.parent} keeps the best weights of validations from here on only"
        rank_zero_only(LOG.info)(words)
    return path


@rank_zero_only
def _refuse_existing(last: Path) -> None:
    if last.exists():
        raise UserError(
            f"{last.parent.parent}: already contains a run; --resume auto continues it, --output starts another"
        )
