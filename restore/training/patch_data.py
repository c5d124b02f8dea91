"""Which images a run is trained and validated on, and how patches are made of them."""

import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from pytorch_lightning.utilities import rank_zero_only
from torch import Tensor

from restore.data.catalog import ImageSet, default_root, find_images
from restore.data.degradation import Bicubic, Degradation, Paired, default_degradation, is_precomputed
from restore.data.pairing import check_sizes
from restore.data.pairs import PatchSampler, ScaleSampler
from restore.data.store import PatchStore, StoreSpec, default_cache, open_store
from restore.errors import UserError
from restore.images.io import read_image
from restore.models import RestorationNetwork
from restore.training.datamodule import Source, TrainingData

LOG = logging.getLogger(__name__)

LARGEST_SIZE = 8.0  # of a training image, relative to its file


@dataclass(frozen=True)
class PatchData:
    """Patches for training and whole images for validation, for any network and degradation.

    Attributes:
        train: a known data set (`photos`, `DIV2K`, `BSDS500`, `Train400`) or a folder of images.
        train_degraded: a folder of degraded versions of the training images, of the same sub-folders and names
            (`a.png` and `a.jpg` or `ax2.png`), in place of `degradation`; needs `val_degraded`, too.
        val: a known data set or a folder; or a number N: N of the training images, evenly spread over the order of
            their names, which are then not trained on.
        val_degraded: the same for the validation images, if they are others.
        root: where known data sets lie; default: the environment variable RESTORE_DATA, else `data`.
        cache: where patch stores lie; default: the environment variable RESTORE_CACHE, else the user's cache folder.
        degradation: what to restore; default: bicubic downsampling by the network's scale (each batch by one of an
            MDSR's scales, validation images by the one it is at), or Gaussian noise of
            sigma 25 for a network without scale.
        patch_size: height and width of the network's input.
        batch_size: patches per step, which all processes share equally.
        steps_per_epoch: steps between epoch ends (the papers count epochs of different sizes).
        images: train on this many images, the first ones; default: all.
        sizes: train on each image at these relative sizes too (DnCNN's recipe: 1, .9, .8, .7).
        transforms: Albumentations transforms applied to each clean patch, beyond the flips and rotations by 90 degrees
            that are always on; each as `class_path` and `init_args`. See `augmentation.make_transforms`.
        workers: processes that prepare batches; worth it with `transforms` only.
        seed: batches and noise are a pure function of it and the step, on however many processes.
        accept_changes: continue with a run although its images are no longer those that it began with.

    Raises:
        UserError: a setting is impossible, or two do not go together.
    """

    train: str = "photos"
    val: int | str = "photos"
    root: Path | None = None
    cache: Path | None = None
    degradation: Degradation | None = None
    patch_size: int = 40
    batch_size: int = 16
    steps_per_epoch: int = 1000
    images: int | None = None
    sizes: tuple[float, ...] = (1.0,)
    transforms: list[dict[str, Any]] | None = None
    workers: int = 0
    seed: int = 0
    accept_changes: bool = False
    train_degraded: Path | None = None
    val_degraded: Path | None = None

    def __post_init__(self) -> None:
        _ = self._augmentation  # so that what is wrong with a transform is said at once
        for name in ("patch_size", "batch_size", "steps_per_epoch", "images"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise UserError(f"data.{name} must be at least 1, not {value}")
        if self.workers < 0:
            raise UserError(f"data.workers must be at least 0, not {self.workers}")
        if not self.sizes or not all(0 < size <= LARGEST_SIZE for size in self.sizes):
            raise UserError(f"data.sizes must lie between 0 and {LARGEST_SIZE}, not {list(self.sizes)}")
        if isinstance(self.val, int):
            if self.val_degraded is not None:
                raise UserError(f"data.val_degraded belongs to a folder, but data.val is {self.val} training images")
        elif (self.train_degraded is None) != (self.val_degraded is None):
            missing = "train_degraded" if self.train_degraded is None else "val_degraded"
            raise UserError(f"data.{missing} is missing: both training and validation need degraded images, or neither")
        if self.train_degraded is None:
            if isinstance(self.degradation, Paired):
                raise UserError("data.degradation Paired needs data.train_degraded, a folder of degraded images")
            return
        for name, given in (
            ("sizes", tuple(self.sizes) != (1.0,)),
            ("transforms", bool(self.transforms)),
        ):
            if given:
                raise UserError(
                    f"data.{name} cannot be combined with data.train_degraded, whose images are as they are"
                )

    @cached_property
    def _augmentation(self) -> Callable[[Tensor, Sequence[int]], Tensor] | None:
        """What applies the transforms; Albumentations takes seconds to import, so it is only if there are some."""
        if not self.transforms:
            return None
        from restore.data.augmentation import augment, make_transforms

        return partial(augment, make_transforms(self.transforms))

    def prepare(self, network: RestorationNetwork) -> TrainingData:
        """Find the images and open the stores for `network`.

        Raises:
            UserError: images are missing, unreadable or without partner, or the degradation does not fit the network.
        """
        degradation = self._degradation_for(network)
        root = self.root or default_root()
        train = find_images(self.train, "train", root, self.train_degraded, network.scale).first(self.images)
        if isinstance(self.val, int):
            train, val = train.hold_out(self.val)
        else:
            val = find_images(self.val, "test", root, self.val_degraded, network.scale)
        kept = {scale: scale if is_precomputed(degradation) else 1 for scale in network.all_scales}  # else clean only
        cache = self.cache.expanduser() if self.cache else default_cache()
        specs = [StoreSpec(network.channels, scale, tuple(self.sizes)) for scale in kept.values()]
        stores = [open_store(train, spec, cache) for spec in specs]
        read = kept[network.scale]
        fingerprints = [store.fingerprint for store in stores]
        return TrainingData(
            self,
            degradation,
            network.channels,
            network.inputs,
            train=Source(self.train, train, train.files(read), fingerprints),
            val=Source(str(self.val), val, val.files(read), [_check_and_fingerprint(val, read)]),
            stores=stores,
            sampler=ScaleSampler([self._sampler(store, degradation.scale) for store in stores], self.seed),
        )

    def _degradation_for(self, network: RestorationNetwork) -> Degradation:
        degradation = self.degradation or default_degradation(network.scale)
        if self.train_degraded is not None:
            if self.degradation is not None:  # of the recipe that other settings come from
                rank_zero_only(LOG.info)(f"Training on pairs of images, not on data.degradation ({degradation.label})")
            degradation = Paired(network.scale)
        if degradation.scale != network.scale:
            raise UserError(
                f"data.degradation ({degradation.label}) has scale {degradation.scale}, but the network has scale "
                f"{network.scale}"
            )
        if network.inputs > network.channels and not degradation.has_level:
            raise UserError(
                f"{type(network).__name__} takes the noise level as input, which {degradation.label} does not have"
            )
        if self.patch_size % network.multiple_of:
            raise UserError(f"data.patch_size must be a multiple of {network.multiple_of}, not {self.patch_size}")
        if len(network.all_scales) > 1 and type(degradation) is not Bicubic:
            raise UserError(
                f"data.degradation ({degradation.label}) has one scale, but the network is trained at "
                f"{', '.join(map(str, network.all_scales))}: only Bicubic works at all of them"
            )
        return degradation

    def _sampler(self, store: PatchStore, scale: int) -> PatchSampler:
        """Draws patches of the network's input size; of a store of clean images only, `scale` times larger ones."""
        size = self.patch_size if store.spec.scale > 1 else self.patch_size * scale
        sampler = PatchSampler(store, size, self.batch_size, self.seed, self._augmentation)
        if sampler.skipped:
            rank_zero_only(LOG.warning)(
                f"{sampler.skipped} of {len(store.images)} training images, counted at each of data.sizes, are smaller "
                f"than a patch of {size}x{size} and are not trained on"
            )
        return sampler


def _check_and_fingerprint(images: ImageSet, scale: int) -> str:
    """One number for the pixels of all validation images and their degraded versions of a scale, if there are any.

    Raises:
        UserError: one cannot be read, or a degraded version has another size.
    """
    digest = hashlib.sha256()
    sizes = []
    for path in images.files(scale):
        image = read_image(path)
        digest.update(f"{path.name} {image.shape} {image.dtype}".encode() + image.tobytes())
        sizes.append(image.shape[:2])
    for path, clean, degraded in zip(images.clean, sizes, sizes[len(images.clean) :], strict=False):
        check_sizes(clean, degraded, scale, path)
    return digest.hexdigest()[:12]
