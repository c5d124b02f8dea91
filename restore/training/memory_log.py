"""Forecasts the memory of a run before its first step, and logs what it uses every epoch."""

import logging

import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from restore.choices import StepPrecision
from restore.hardware import free_memory, peak_memory
from restore.optim import state_tensors
from restore.profiling import Step, forecast, largest
from restore.training.datamodule import TrainingData
from restore.training.lightning_internals import is_last_batch
from restore.training.module import RestorationModule

LOG = logging.getLogger(__name__)

GIB = 2**30
MIB = 2**20


class MemoryLog(Callback):
    """Says at the start what the forecast is and whether it fits; logs the peak of each epoch by category.

    Logged in MiB: `memory/peak` (CUDA's allocated peak of the epoch; on a CPU the process's resident peak so far),
    of which `memory/parameters`, `memory/gradients`, `memory/optimizer`, and in `memory/rest` all else: activations,
    temporaries, batches and, on a CPU, the program itself.

    Attributes:
        peak: of all epochs that this process has trained, in bytes; None if the system does not tell.
    """

    def __init__(self) -> None:
        self.peak: int | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        try:
            LOG.info(_message(_step_of(trainer, pl_module), free_memory(pl_module.device), trainer.world_size))
        except Exception as error:  # anything a network or an optimizer of the user's does without data
            reason = str(error).partition("\n")[0] or type(error).__name__
            LOG.info(f"the memory of this run cannot be forecast ({reason})")

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._note_peak(pl_module)
        if pl_module.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(pl_module.device)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._note_peak(pl_module)

    def _note_peak(self, module: LightningModule) -> None:
        peaks = [peak for peak in (self.peak, peak_memory(module.device)) if peak is not None]
        self.peak = max(peaks, default=None)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        if not is_last_batch(trainer):
            return
        parameters = list(pl_module.parameters())
        held = {
            "parameters": sum(tensor.nbytes for tensor in (*parameters, *pl_module.buffers())),
            "gradients": sum(parameter.grad.nbytes for parameter in parameters if parameter.grad is not None),
            "optimizer": sum(tensor.nbytes for tensor in state_tensors(trainer.optimizers[0])),
        }
        if peak := peak_memory(pl_module.device):
            held |= {"rest": peak - sum(held.values()), "peak": peak}
        for name, size in held.items():
            pl_module.log(f"memory/{name}", size / MIB, on_step=False, on_epoch=True, reduce_fx="max", sync_dist=True)


def _step_of(trainer: Trainer, module: LightningModule) -> Step:
    assert isinstance(module, RestorationModule)
    data = trainer.datamodule  # type: ignore[attr-defined]
    assert isinstance(data, TrainingData)
    precisions: dict[str, StepPrecision] = {"bf16-mixed": "bf16-mixed", "16-mixed": "fp16-mixed"}
    return Step(
        module.network.spec,
        data.settings.batch_size // trainer.world_size,
        data.settings.patch_size,
        module.optim.loss,
        module.optim.optimizer,
        precisions.get(str(trainer.precision), "fp32"),
        channels_last=module.channels_last,
        optimizer_args=module.optim.optimizer_args,
    )


def _message(step: Step, free: int | None, ranks: int) -> str:
    memory = forecast(step).memory
    assert memory is not None
    message = f"this run needs about {_words(memory.peak)}"
    if free is None:
        return message
    message += f"; the device has {_words(free)} free"
    if memory.peak > free:
        batch = largest(step, "batch", free) * ranks
        message += f": batch {batch} fits" if batch else ": not even batch 1 fits"
    return message


def _words(size: int) -> str:
    return f"{size / GIB:.1f} GiB" if size >= GIB else f"{size / MIB:.1f} MiB"
