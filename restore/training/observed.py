"""A training run without a run folder: nothing is written, an observer sees every step."""

import logging
from collections.abc import Callable
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor

from restore.benchmark import default_protocol
from restore.data.pairs import Pair
from restore.hardware import Hardware, keep_pages
from restore.models import RestorationNetwork
from restore.optim import Optimization
from restore.training.lightning_internals import known_warnings
from restore.training.module import RestorationModule
from restore.training.patch_data import PatchData

Observer = Callable[[int, Tensor, Pair], bool]


def fit_observed(
    network: RestorationNetwork,
    data: PatchData,
    optim: Optimization,
    steps: int,
    observer: Observer,
    *,
    device: torch.device,
    precision: str = "32-true",
) -> None:
    """Train a network in place.

    Args:
        network: with its initial weights.
        data: training patches; validation images are not used.
        optim: loss, optimiser, schedule.
        steps: of the whole run.
        observer: is called after each step with the number of steps done, the step's loss and its pair, and says
            whether to go on.
        device: where to train.
        precision: Lightning's word for it.
    """
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    prepared = data.prepare(network)
    hardware = Hardware().resolved(device, prepared.store_bytes, network.norm)
    if hardware.keep_pages:
        keep_pages()
    if hardware.store_on_device:
        prepared.move_stores(device)
    protocol = default_protocol(prepared.val_images, prepared.degradation, network.channels)
    module = RestorationModule(network, optim, protocol, hardware)
    with known_warnings():
        trainer = Trainer(
            accelerator=device.type,
            devices=1 if device.index is None else [device.index],
            precision=precision,  # type: ignore[arg-type]
            max_steps=steps,
            callbacks=[_Seen(observer)],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            limit_val_batches=0,
        )
        trainer.fit(module, datamodule=prepared)


class _Seen(Callback):
    def __init__(self, observer: Observer) -> None:
        self._observer = observer

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Pair, batch_idx: int
    ) -> None:
        if not self._observer(trainer.global_step, outputs["loss"].detach(), batch):
            trainer.should_stop = True
