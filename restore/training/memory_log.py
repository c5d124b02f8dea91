"""How much memory a run needs, said before its first step, and what it holds, logged every epoch."""

import logging

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor

from restore.choices import StepPrecision
from restore.hardware import free_memory, peak_memory
from restore.profiling import Step, forecast, largest
from restore.training.datamodule import PatchData
from restore.training.module import RestorationModule

LOG = logging.getLogger(__name__)

GIB = 2**30
MIB = 2**20


class MemoryLog(Callback):
    """Says at the start what the forecast is and whether it fits; logs the peak of each epoch by category.

    Logged in MiB: `memory/peak` (CUDA's allocated peak of the epoch; on a CPU the process's resident peak so far),
    of which `memory/parameters`, `memory/gradients`, `memory/optimizer`, and in `memory/rest` all else: activations,
    temporaries, batches and, on a CPU, the program itself.
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        step = _step_of(trainer, pl_module)
        memory = forecast(step).memory
        assert memory is not None
        need, free = memory.peak, free_memory(pl_module.device)
        message = f"this run needs about {_words(need)}"
        if free is not None:
            message += f"; the device has {_words(free)} free"
            if need > free:
                batch = largest(step, "batch", free) * trainer.world_size
                message += f": batch {batch} fits" if batch else ": not even batch 1 fits"
        LOG.info(message)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if pl_module.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(pl_module.device)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        if not trainer.fit_loop.epoch_loop.batch_progress.is_last_batch:
            return
        parameters = list(pl_module.parameters())
        states = (value for state in trainer.optimizers[0].state.values() for value in state.values())
        held = {
            "parameters": sum(tensor.nbytes for tensor in (*parameters, *pl_module.buffers())),
            "gradients": sum(parameter.grad.nbytes for parameter in parameters if parameter.grad is not None),
            "optimizer": sum(value.nbytes for value in states if isinstance(value, Tensor)),
        }
        if peak := _peak(pl_module.device):
            held |= {"rest": peak - sum(held.values()), "peak": peak}
        for name, size in held.items():
            pl_module.log(f"memory/{name}", size / MIB, on_step=False, on_epoch=True)


def _step_of(trainer: Trainer, module: LightningModule) -> Step:
    assert isinstance(module, RestorationModule)
    data = trainer.datamodule  # type: ignore[attr-defined]
    assert isinstance(data, PatchData)
    precisions: dict[str, StepPrecision] = {"bf16-mixed": "bf16-mixed", "16-mixed": "fp16-mixed"}
    return Step(
        module.network.spec,
        data.batch_size // trainer.world_size,
        data.patch_size,
        module.optim.loss,
        module.optim.optimizer,
        precisions.get(str(trainer.precision), "fp32"),
    )


def _words(size: int) -> str:
    return f"{size / GIB:.1f} GiB" if size >= GIB else f"{size / MIB:.1f} MiB"


def _peak(device: torch.device) -> int | None:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return peak_memory()
