"""Pairs of degraded and clean images: patches for training, whole images for measuring."""

import os
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from restore.data.catalog import ImageSet
from restore.data.degradation import Bicubic, Degradation, is_precomputed
from restore.data.random import Draws, seeded
from restore.data.store import PatchStore, crop_to_low_resolution
from restore.errors import UserError, about
from restore.images.color import luma, with_channels
from restore.images.crop import crop_to_multiple
from restore.images.io import read_image
from restore.images.pixels import Image, to_uint8
from restore.images.tensors import as_tensor, quantize, to_image, to_tensor

# What a step's draws are for besides the choice of its patches, which follows from (seed, step) only.
PAIRS = (0, 1)
SCALES = (0, 2)


class PatchBatch(NamedTuple):
    """Patches as they leave the store.

    Attributes:
        clean: (N, C, scale*S, scale*S) uint8.
        degraded: (N, C, S, S) uint8, or None if the degradation is computed from `clean` on the device.
        step: which batch of the run this is.
    """

    clean: Tensor
    degraded: Tensor | None
    step: int

    def to(self, device: torch.device | str) -> "PatchBatch":
        """The same on a device; copies from pinned memory overlap with what the device does."""
        degraded = None if self.degraded is None else self.degraded.to(device, non_blocking=True)
        return PatchBatch(self.clean.to(device, non_blocking=True), degraded, self.step)


class Pair(NamedTuple):
    """Degraded (N, inputs, S, S) and clean (N, C, scale*S, scale*S) images, float32 in [0, 1]."""

    degraded: Tensor
    clean: Tensor

    @property
    def scale(self) -> int:
        return self.clean.shape[-1] // self.degraded.shape[-1]


class PatchSampler:
    """Draws batches from a store: first an image, then a place in it, both uniformly.

    Args:
        store: where the patches come from.
        patch_size: height and width of the degraded patch.
        batch_size: patches per batch, over all ranks.
        seed: of the run.
        augment: maps clean patches (N, C, H, W) uint8 and a seed for each to others of that shape; low-resolution
            patches are then made from those.

    Attributes:
        skipped: how many images of the store are smaller than a patch, of which there are none.

    Raises:
        UserError: no image of the store is as large as a patch.
    """

    def __init__(
        self,
        store: PatchStore,
        patch_size: int,
        batch_size: int,
        seed: int,
        augment: Callable[[Tensor, Sequence[int]], Tensor] | None = None,
    ) -> None:
        self._store = store
        self._patch_size = patch_size
        self._batch_size = batch_size
        self._seed = seed
        self._augment = augment
        sizes = torch.tensor([[image.height, image.width] for image in store.images])
        self._usable = (sizes.amin(1) >= patch_size).nonzero()[:, 0]
        self._room = sizes - patch_size + 1
        self.skipped = len(sizes) - len(self._usable)
        if len(self._usable) == 0:
            height, width = sizes.amax(0).tolist()
            raise UserError(f"no image holds a patch of {patch_size}x{patch_size}; the largest is {width}x{height}")

    def batch(self, step: int, rank: int = 0, ranks: int = 1) -> PatchBatch:
        """One rank's share of the patches of a step, which are a pure function of (seed, step)."""
        draws, image = self._draw(step, rank, ranks)
        count = len(image)
        place = draws.uniform((count, 2), dtype=torch.float64) * self._room[image]
        top, left = place.long().unbind(1)
        clean, degraded = self._store.gather(image, top, left, self._patch_size)
        if self._augment is not None:
            clean, degraded = self._augment(clean, draws.integers(0, 2**31, (count,)).tolist()), None
            if self._store.spec.scale > 1:
                degraded = quantize(Bicubic(self._store.spec.scale)(clean / 255, draws))
        return PatchBatch(clean, degraded, step)

    def names(self, step: int) -> list[str]:
        """The files that the patches of a step come from, on all ranks."""
        _, image = self._draw(step, 0, 1)
        return [self._store.images[number].name for number in image.tolist()]

    def _draw(self, step: int, rank: int, ranks: int) -> tuple[Draws, Tensor]:
        draws = seeded(self._seed, step).share(self._batch_size, rank, ranks)
        return draws, self._usable[draws.integers(0, len(self._usable), (self._batch_size // ranks,))]


class ScaleSampler:
    """Draws each batch at one of several scales: on all ranks the same, a pure function of (seed, step).

    Args:
        samplers: one for each scale.
        seed: of the run.
    """

    def __init__(self, samplers: Sequence[PatchSampler], seed: int) -> None:
        self._samplers = samplers
        self._seed = seed

    def batch(self, step: int, rank: int = 0, ranks: int = 1) -> PatchBatch:
        """One rank's share of the patches of a step."""
        return self._at(step).batch(step, rank, ranks)

    def names(self, step: int) -> list[str]:
        """The files that the patches of a step come from, on all ranks."""
        return self._at(step).names(step)

    def _at(self, step: int) -> PatchSampler:
        number = seeded(self._seed, step, *SCALES).integers(0, len(self._samplers), (1,))
        return self._samplers[int(number)]


def make_pair(batch: PatchBatch, degradation: Degradation, draws: Draws, inputs: int | None = None) -> Pair:
    """Turn and flip each patch at random, and degrade it if that is not done yet.

    Args:
        batch: as it leaves the store.
        degradation: what happens to the clean patches.
        draws: on the batch's device; all randomness comes from them.
        inputs: channels that the network reads; default: those of the patches.

    Raises:
        UserError: the degradation gives another size than it says, or no noise level to a network that is told it.
    """
    flips = draws.uniform((3, len(batch.clean), 1, 1, 1), dim=1) < 0.5
    clean = _turn(batch.clean, flips).float() / 255
    if batch.degraded is None:
        inputs = inputs or clean.shape[1]
        degraded = degradation.for_network(clean, draws, inputs)
        if degraded.shape != (len(clean), inputs, *(size // degradation.scale for size in clean.shape[2:])):
            raise UserError(
                f"data.degradation ({degradation.label}): made {tuple(degraded.shape)} of {tuple(clean.shape)}, which "
                f"is not {degradation.scale} times smaller, as its scale says"
            )
        return Pair(degraded, clean)
    return Pair(_turn(batch.degraded, flips).float() / 255, clean)


def _turn(images: Tensor, flips: Tensor) -> Tensor:
    """One of the 8 symmetries of the square for each image: `flips` (3, N, 1, 1, 1) of columns, rows, diagonal."""
    images = torch.where(flips[0], images.flip(-1), images)
    images = torch.where(flips[1], images.flip(-2), images)
    return torch.where(flips[2], images.transpose(-1, -2), images)


class ImagePair(NamedTuple):
    """One whole image under a degradation.

    Attributes:
        name: of the image, as in `ImageSet.names`.
        degraded: (1, C, h, w) float32 in [0, 1], noise not clipped.
        clean: (1, C, scale*h, scale*w) uint8.
        level: of the noise, in the range of [0, 1]; None if the degradation has none.
    """

    name: str
    degraded: Tensor
    clean: Tensor
    level: float | None = None


NOISE_SEED = 0


def load_pair(
    images: ImageSet, index: int, degradation: Degradation, channels: int, rounded_luma: bool = False
) -> ImagePair:
    """Read and degrade one image of a test set; the noise of each follows from NOISE_SEED and its name only.

    Args:
        images: the test set.
        index: which image.
        degradation: one that `is_precomputed` is read from the test set's files if it has them at that scale.
        channels: of the network, 1 or 3; images are converted to that, but super-resolution keeps gray images gray,
            as the published tables score them (Set14 has one).
        rounded_luma: give gray networks BT.601's luma, rounded to 8 bits, of color images instead of their gray.

    Raises:
        UserError: the image cannot be read, or its degraded version has another size.
    """
    scale = degradation.scale

    def read(path: Path) -> Image:
        image = to_uint8(read_image(path))
        if rounded_luma and channels == 1 and image.shape[2] == 3:
            return to_image(luma(as_tensor(image).double()))
        return with_channels(image, channels) if channels == 1 or scale == 1 else image

    path, name = images.clean[index], images.names[index]
    with about(path):
        clean = crop_to_multiple(read(path), scale)
    if is_precomputed(degradation) and scale in images.degraded:
        low, high = read(images.degraded[scale][index]), read(path)
        if low.shape[2] != high.shape[2]:
            low, high = with_channels(low, channels), with_channels(high, channels)
        clean = crop_to_low_resolution(high, low, scale, path)
        return ImagePair(name, to_tensor(low), as_tensor(clean))
    image, noise = to_tensor(clean), seeded(NOISE_SEED, zlib.crc32(os.fsencode(name)))
    if not degradation.has_level:
        return ImagePair(name, degradation(image, noise), as_tensor(clean))
    told = degradation.with_level(image, noise)
    return ImagePair(name, told[:, :-1], as_tensor(clean), told[0, -1, 0, 0].item())
