"""The images of a run as Lightning asks for them, and whether they are still those that it began with."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import LightningDataModule
from pytorch_lightning.utilities import rank_zero_only

from restore.data.catalog import ImageSet
from restore.data.degradation import Degradation
from restore.data.pairs import PAIRS, PatchBatch, ScaleSampler, make_pair
from restore.data.random import seeded
from restore.data.store import PatchStore, file_state
from restore.errors import UserError, listed
from restore.training.loaders import Batches, TrainLoader, ValidationLoader

LOG = logging.getLogger(__name__)

MAX_IMAGES_NAMED = 8  # images of a batch that are named


class TrainingData(LightningDataModule):
    """What `PatchData.prepare` found for a network: patch stores, validation images, the degradation.

    Args:
        train, val: the sets as the user named them.
        seed, batch_size, patch_size, steps_per_epoch, workers, accept_changes: see `PatchData`.
        degradation: makes pairs of clean images.
        channels, inputs: of the network.
        train_images: what the stores were made of, of which `train_files` were read.
        val_images: validation images, of which `val_files` are read; `val_fingerprint` is of their pixels.
        stores: one for each scale.
        sampler: draws batches from the stores.
        cut_on_device: patches can be cut where the stores are, not only by workers.
    """

    def __init__(
        self,
        *,
        train: str,
        val: str,
        seed: int,
        batch_size: int,
        patch_size: int,
        steps_per_epoch: int,
        workers: int,
        accept_changes: bool,
        degradation: Degradation,
        channels: int,
        inputs: int,
        train_images: ImageSet,
        train_files: Sequence[Path],
        val_images: ImageSet,
        val_files: Sequence[Path],
        val_fingerprint: str,
        stores: Sequence[PatchStore],
        sampler: ScaleSampler,
        cut_on_device: bool,
    ) -> None:
        super().__init__()
        self.train = train
        self.val = val
        self.seed = seed
        self.batch_size = batch_size
        self.patch_size = patch_size
        self.steps_per_epoch = steps_per_epoch
        self.degradation = degradation
        self.train_images = train_images
        self.val_images = val_images
        self._workers = workers
        self._accept_changes = accept_changes
        self._channels = channels
        self._inputs = inputs
        self._stores = stores
        self._sampler = sampler
        self.cut_on_device = cut_on_device
        self._train_states, self._val_states = (
            {path: file_state(path) for path in files} for files in (train_files, val_files)
        )
        self._fingerprints = {"data.train": [store.fingerprint for store in stores], "data.val": [val_fingerprint]}
        self._loader: TrainLoader | None = None

    @property
    def store_bytes(self) -> int:
        """Size of the patch stores."""
        return sum(store.pixels.nbytes for store in self._stores)

    @property
    def waited_s(self) -> float:
        """Seconds that training has waited for batches."""
        return self._loader.waited_s if self._loader else 0.0

    def move_stores(self, device: torch.device) -> None:
        """Keep all training patches on `device`, where they can be cut only if `cut_on_device`."""
        for store in self._stores:
            store.to(device)

    def state_dict(self) -> dict[str, Any]:
        return {"fingerprints": self._fingerprints}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, before in state["fingerprints"].items():
            if (now := self._fingerprints[name]) == before:
                continue
            message = f"{name} ({getattr(self, name[5:])}): not the images that the run began with"
            if not self._accept_changes:
                found = f"(fingerprint {', '.join(now)} instead of {', '.join(before)})"
                raise UserError(f"{message} {found}; use --data.accept_changes true to continue with them")
            rank_zero_only(LOG.warning)(f"{message}: continuing with them")

    def check_unchanged(self) -> None:
        """Look whether the files are still those that the run began with; training continues from its own copy.

        Raises:
            UserError: a validation image or the patch store is not.
        """
        for path, state in self._val_states.items():
            if file_state(path) != state:
                raise UserError(f"{path}: this validation image has changed since the run began")
        if any(store.is_altered() for store in self._stores):
            raise UserError("the patch store was altered while it was in use; the next run rebuilds it")
        altered = [path for path, state in self._train_states.items() if not path.exists() or file_state(path) != state]
        if altered:
            rank_zero_only(LOG.warning)(
                f"{len(altered)} training images have changed or vanished since the run began, the first is "
                f"{altered[0]}; it continues with those it began with, of which it has a copy"
            )
            self._train_states = {}  # said once

    def describe(self, step: int) -> str:
        """Names the batch of a step by what it follows from and the images it was cut from."""
        names = sorted(set(self._sampler.names(step)))
        return f"seed {self.seed}, images {listed(names, MAX_IMAGES_NAMED)}"

    def train_dataloader(self) -> TrainLoader:
        assert self.trainer is not None
        batches = Batches(self._sampler, self.trainer.global_rank, self.trainer.world_size)
        on_cpu = all(store.pixels.device.type == "cpu" for store in self._stores)
        pinned = self.trainer.strategy.root_device.type == "cuda" and on_cpu
        self._loader = TrainLoader(batches, self.steps_per_epoch, self._workers, pinned)
        return self._loader

    def val_dataloader(self) -> ValidationLoader:
        assert self.trainer is not None
        ranks = self.trainer.world_size
        return ValidationLoader(self.val_images, self.degradation, self._channels, self.trainer.global_rank, ranks)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        if isinstance(batch, PatchBatch):
            return batch.to(device)
        pair, counted = batch
        return pair._replace(degraded=pair.degraded.to(device), clean=pair.clean.to(device)), counted

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """On the device: flips, turns and the degradation of a training batch."""
        if not isinstance(batch, PatchBatch):
            return batch
        assert self.trainer is not None
        draws = seeded(self.seed, batch.step, *PAIRS, device=batch.clean.device)
        share = draws.share(self.batch_size, self.trainer.global_rank, self.trainer.world_size)
        return make_pair(batch, self.degradation, share, self._inputs)
