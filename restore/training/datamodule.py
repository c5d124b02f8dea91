"""The images of a run as Lightning asks for them, and whether they are still those that it began with."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

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

if TYPE_CHECKING:
    from restore.training.patch_data import PatchData

LOG = logging.getLogger(__name__)

MAX_IMAGES_NAMED = 8  # images of a batch that are named


class Source(NamedTuple):
    """Images that a run is trained or validated on.

    Attributes:
        name: of the set, as the user gave it.
        images: the set.
        files: which files of it are read.
        fingerprints: of their pixels.
    """

    name: str
    images: ImageSet
    files: Sequence[Path]
    fingerprints: list[str]


class TrainingData(LightningDataModule):
    """What `PatchData.prepare` found for a network: images, patch stores, the degradation.

    Args:
        settings: what was asked for.
        degradation: makes pairs of clean images.
        channels, inputs: of the network.
        train: what the stores were made of.
        val: validation images.
        stores: one for each scale.
        sampler: draws batches from the stores.

    Attributes:
        cut_on_device: patches can be cut where the stores are, not only by workers.
    """

    def __init__(
        self,
        settings: "PatchData",
        degradation: Degradation,
        channels: int,
        inputs: int,
        train: Source,
        val: Source,
        stores: Sequence[PatchStore],
        sampler: ScaleSampler,
    ) -> None:
        super().__init__()
        self.settings = settings
        self.degradation = degradation
        self.train = train
        self.val = val
        self.cut_on_device = not (settings.workers or settings.transforms)
        self._channels = channels
        self._inputs = inputs
        self._stores = stores
        self._sampler = sampler
        self._train_states, self._val_states = (
            {path: file_state(path) for path in source.files} for source in (train, val)
        )
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
        return {"fingerprints": {"data.train": self.train.fingerprints, "data.val": self.val.fingerprints}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for key, source in (("data.train", self.train), ("data.val", self.val)):
            before, now = state["fingerprints"][key], source.fingerprints
            if now == before:
                continue
            message = f"{key} ({source.name}): not the images that the run began with"
            if not self.settings.accept_changes:
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
        return f"seed {self.settings.seed}, images {listed(names, MAX_IMAGES_NAMED)}"

    def train_dataloader(self) -> TrainLoader:
        assert self.trainer is not None
        batches = Batches(self._sampler, self.trainer.global_rank, self.trainer.world_size)
        on_cpu = all(store.pixels.device.type == "cpu" for store in self._stores)
        pinned = self.trainer.strategy.root_device.type == "cuda" and on_cpu
        self._loader = TrainLoader(batches, self.settings.steps_per_epoch, self.settings.workers, pinned)
        return self._loader

    def val_dataloader(self) -> ValidationLoader:
        assert self.trainer is not None
        ranks, limit = self.trainer.world_size, self.trainer.limit_val_batches
        images = self.val.images.first(limit) if isinstance(limit, int) and limit else self.val.images  # over all ranks
        return ValidationLoader(images, self.degradation, self._channels, self.trainer.global_rank, ranks)

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
        draws = seeded(self.settings.seed, batch.step, *PAIRS, device=batch.clean.device)
        share = draws.share(self.settings.batch_size, self.trainer.global_rank, self.trainer.world_size)
        return make_pair(batch, self.degradation, share, self._inputs)
