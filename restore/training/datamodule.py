"""Shared patch data for every network: training batches from a store, whole images for validation."""

import hashlib
import logging
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import LightningDataModule
from pytorch_lightning.utilities import rank_zero_only
from torch.utils.data import DataLoader, Dataset

from restore.data.augmentation import BasicTransform, augment
from restore.data.catalog import ImageSet, default_root, find_images
from restore.data.degradation import Bicubic, Degradation, GaussianNoise
from restore.data.pairs import PAIRS, ImagePair, PatchBatch, PatchSampler, ScaleSampler, load_pair, make_pair
from restore.data.random import seeded
from restore.data.store import StoreSpec, default_cache, file_state, open_store
from restore.errors import UserError
from restore.images.io import read_image
from restore.models import RestorationNetwork

LOG = logging.getLogger(__name__)

NAMED = 8  # images of a batch that are named
LARGEST_SIZE = 8.0  # of a training image, relative to its file


class TrainLoader:
    """Yields the batches of an epoch and knows where it is, so that a resumed run sees the batches that follow.

    Args:
        batches: maps the number of a step to its batch.
        steps_per_epoch: after how many batches an epoch ends.
        workers: processes that prepare batches; 0 prepares them here.
        pinned: put batches into page-locked memory, from where they are copied to a GPU while it computes.

    Attributes:
        waited_s: seconds spent waiting for batches.
    """

    def __init__(self, batches: Dataset[PatchBatch], steps_per_epoch: int, workers: int, pinned: bool = False) -> None:
        self._batches = batches
        self._steps_per_epoch = steps_per_epoch
        self._workers = workers
        self._pinned = pinned
        self._position = 0
        self.waited_s = 0.0

    def __len__(self) -> int:
        return self._steps_per_epoch

    def __iter__(self) -> Iterator[PatchBatch]:
        epoch_end = (self._position // self._steps_per_epoch + 1) * self._steps_per_epoch
        steps = range(self._position, epoch_end)
        loader = DataLoader(
            self._batches, batch_size=None, sampler=steps, num_workers=self._workers, pin_memory=self._pinned
        )
        batches = iter(loader)
        for _ in steps:
            start = time.perf_counter()
            batch = next(batches)
            self.waited_s += time.perf_counter() - start
            self._position += 1
            yield batch

    def state_dict(self) -> dict[str, Any]:
        return {"position": self._position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._position = state["position"]


class _Batches(Dataset[PatchBatch]):
    def __init__(self, sampler: ScaleSampler, rank: int, ranks: int) -> None:
        self._sampler = sampler
        self._rank = rank
        self._ranks = ranks

    def __getitem__(self, step: int) -> PatchBatch:
        return self._sampler.batch(step, self._rank, self._ranks)


class ValidationLoader:
    """Yields the rank's share of a test set as (pair, counted).

    Every rank gets the same number of images, as collective operations need it; a repeated one is not counted.
    """

    def __init__(self, images: ImageSet, degradation: Degradation, channels: int, rank: int, ranks: int) -> None:
        self._images = images
        self._degradation = degradation
        self._channels = channels
        self._rank = rank
        self._ranks = ranks

    def __len__(self) -> int:
        return -(-len(self._images.clean) // self._ranks)

    def __iter__(self) -> Iterator[tuple[ImagePair, bool]]:
        count = len(self._images.clean)
        for number in range(self._rank, len(self) * self._ranks, self._ranks):
            yield load_pair(self._images, number % count, self._degradation, self._channels), number < count


class PatchData(LightningDataModule):
    """Patches for training and whole images for validation, for any network and degradation.

    Args:
        train: a known data set (`photos`, `DIV2K`, `BSDS500`, `Train400`) or a folder of images.
        val: a known data set or a folder.
        root: where known data sets lie; default: the environment variable RESTORE_DATA, else `data`.
        cache: where patch stores lie; default: the environment variable RESTORE_CACHE, else the user's cache folder.
        degradation: what to restore; default: bicubic downsampling by the network's scale (each batch by one of an
            MDSR's scales, validation images by the one it is at), or Gaussian noise of
            sigma 25 for a network without scale.
        patch_size: height and width of the network's input.
        batch_size: patches per step, which all processes share equally.
        steps_per_epoch: steps between epoch ends (the papers count epochs of different sizes).
        images: train on the first so many images only; default: all.
        sizes: train on each image at these relative sizes too (DnCNN's recipe: 1, .9, .8, .7).
        transforms: Albumentations transforms applied to each clean patch, beyond the flips and turns by 90 degrees
            that are always on.
        workers: processes that prepare batches; worth it with `transforms` only.
        seed: batches and noise are a pure function of it and the step, on however many processes.
        accept_changes: go on with a run although its images are no longer those that it began with.
    """

    def __init__(
        self,
        train: str = "photos",
        val: str = "photos",
        root: Path | None = None,
        cache: Path | None = None,
        degradation: Degradation | None = None,
        patch_size: int = 40,
        batch_size: int = 16,
        steps_per_epoch: int = 1000,
        images: int | None = None,
        sizes: tuple[float, ...] = (1.0,),
        transforms: list[BasicTransform] | None = None,
        workers: int = 0,
        seed: int = 0,
        accept_changes: bool = False,
    ) -> None:
        super().__init__()
        for name, value in (
            ("patch_size", patch_size),
            ("batch_size", batch_size),
            ("steps_per_epoch", steps_per_epoch),
            ("images", images),
        ):
            if value is not None and value < 1:
                raise UserError(f"data.{name} must be at least 1, not {value}")
        if not sizes or not all(0 < size <= LARGEST_SIZE for size in sizes):
            raise UserError(f"data.sizes must lie between 0 and {LARGEST_SIZE}, not {list(sizes)}")
        self.train = train
        self.val = val
        self.root = root
        self.cache = cache
        self.degradation = degradation
        self.patch_size = patch_size
        self.batch_size = batch_size
        self.steps_per_epoch = steps_per_epoch
        self.images = images
        self.sizes = sizes
        self.transforms = transforms or []
        self.workers = workers
        self.seed = seed
        self.accept_changes = accept_changes
        self.store_on_device = False

    @property
    def store_bytes(self) -> int:
        """Size of the patch stores; known once prepared."""
        return sum(store.pixels.nbytes for store in self._stores)

    def prepare(self, network: RestorationNetwork) -> None:
        """Find the images and open the stores for `network`.

        Raises:
            UserError: images are missing or unreadable, or the degradation does not fit the network.
        """
        if self.degradation is None:
            self.degradation = Bicubic(network.scale) if network.scale > 1 else GaussianNoise()
        if self.degradation.scale != network.scale:
            raise UserError(
                f"data.degradation ({self.degradation.label}) reduces images {self.degradation.scale} times, "
                f"but the network enlarges them {network.scale} times"
            )
        root = self.root or default_root()
        self.train_images = find_images(self.train, "train", root).first(self.images)
        self.val_images = find_images(self.val, "test", root)
        augmentation = partial(augment, self.transforms) if self.transforms else None
        specs = [StoreSpec(network.channels, scale, tuple(self.sizes)) for scale in network.all_scales]
        self._stores = [open_store(self.train_images, spec, self.cache or default_cache()) for spec in specs]
        samplers = [
            PatchSampler(store, self.patch_size, self.batch_size, self.seed, augmentation) for store in self._stores
        ]
        self._sampler = ScaleSampler(samplers, self.seed)
        self._channels = network.channels
        files = self.train_images.files(network.scale), self.val_images.files(network.scale)
        self._train_states, self._val_states = ({path: file_state(path) for path in paths} for paths in files)
        validation = hashlib.sha256()
        for path in self._val_states:
            image = read_image(path)
            validation.update(f"{path.name} {image.shape} {image.dtype}".encode() + image.tobytes())
        self._fingerprints = {
            "data.train": [store.fingerprint for store in self._stores],
            "data.val": [validation.hexdigest()[:12]],
        }

    def state_dict(self) -> dict[str, Any]:
        return {"fingerprints": self._fingerprints}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, before in state["fingerprints"].items():
            if (now := self._fingerprints[name]) == before:
                continue
            message = f"{name} ({getattr(self, name[5:])}): not the images that the run began with"
            if not self.accept_changes:
                found = f"(fingerprint {', '.join(now)} instead of {', '.join(before)})"
                raise UserError(f"{message} {found}; --data.accept_changes true goes on with them")
            rank_zero_only(LOG.warning)(f"{message}: going on with them")

    def check_unchanged(self) -> None:
        """Look whether the files are still those that the run began with; training goes on from its own copy.

        Raises:
            UserError: a validation image or the patch store is not.
        """
        for path, state in self._val_states.items():
            if file_state(path) != state:
                raise UserError(f"{path}: this validation image has changed since the run began")
        if any(store.is_altered() for store in self._stores):
            raise UserError("the patch store was altered while it was in use; the next start makes it anew")
        altered = [path for path, state in self._train_states.items() if not path.exists() or file_state(path) != state]
        if altered:
            rank_zero_only(LOG.warning)(
                f"{len(altered)} training images have changed or vanished since the run began, the first is "
                f"{altered[0]}; it goes on with those it began with, of which it has a copy"
            )
            self._train_states = {}  # said once

    def describe(self, step: int) -> str:
        """Names the batch of a step by what it follows from and the images it was cut from."""
        names = sorted(set(self._sampler.names(step)))
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        return f"seed {self.seed}, images {', '.join(names[:NAMED])}{more}"

    def train_dataloader(self) -> TrainLoader:
        assert self.trainer is not None
        device = self.trainer.strategy.root_device
        if self.store_on_device and not (self.workers or self.transforms):
            for store in self._stores:
                store.to(device)
        batches = _Batches(self._sampler, self.trainer.global_rank, self.trainer.world_size)
        pinned = device.type == "cuda" and all(store.pixels.device.type == "cpu" for store in self._stores)
        self.train_loader = TrainLoader(batches, self.steps_per_epoch, self.workers, pinned)
        return self.train_loader

    def val_dataloader(self) -> ValidationLoader:
        assert self.trainer is not None
        assert self.degradation is not None
        ranks = self.trainer.world_size
        return ValidationLoader(self.val_images, self.degradation, self._channels, self.trainer.global_rank, ranks)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        if isinstance(batch, PatchBatch):
            degraded = None if batch.degraded is None else batch.degraded.to(device, non_blocking=True)
            return PatchBatch(batch.clean.to(device, non_blocking=True), degraded, batch.step)
        pair, counted = batch
        return ImagePair(pair.name, pair.degraded.to(device), pair.clean.to(device)), counted

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """On the device: flips, turns and the degradation of a training batch."""
        if not isinstance(batch, PatchBatch):
            return batch
        assert self.trainer is not None
        assert self.degradation is not None
        draws = seeded(self.seed, batch.step, *PAIRS, device=batch.clean.device)
        share = draws.share(self.batch_size, self.trainer.global_rank, self.trainer.world_size)
        return make_pair(batch, self.degradation, share)
