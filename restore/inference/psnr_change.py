"""What a faster way to run a network does to its results, measured on photographs that come with scikit-image."""

import math
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from restore.data.catalog import find_images
from restore.data.degradation import Degradation
from restore.data.random import seeded
from restore.images.color import with_channels
from restore.images.io import read_image
from restore.images.pixels import to_uint8
from restore.images.tensors import as_tensor, quantize
from restore.inference.image import restore_tensor
from restore.inference.runner import Runner
from restore.metrics import psnr

SEED = 0


class Change(NamedTuple):
    """By how many dB the mean PSNR of a few photographs differs.

    Attributes:
        db: as measured.
        images: how many photographs.
        expected: -10 log10(1 + D / MSE), where D is the mean square of what differs and MSE the reference's error: the
            change if the two are independent. On a few photographs they may cancel, on the next they do not.
    """

    db: float
    images: int
    expected: float

    def __str__(self) -> str:
        return f"{self.db:+.3f} dB on {self.images} photographs"


def psnr_change(candidate: Runner, reference: Runner, degradation: Degradation, size: int) -> Change:
    """The PSNR of `candidate` less that of `reference`, both over all channels of the 8-bit result.

    Args:
        candidate, reference: two ways to run one network.
        degradation: what the network was made for.
        size: height and width in pixels to which the degraded photographs are cut.
    """
    changes, expected = [], []
    for degraded, clean in _cut_photographs(reference, degradation, size):
        before, after = (restore_tensor(runner, degraded.to(runner.device)).cpu() for runner in (reference, candidate))
        reference_psnr, candidate_psnr = (psnr(quantize(restored), clean).item() for restored in (before, after))
        changes.append(candidate_psnr - reference_psnr)
        differing = (after - before).square().mean().item()
        expected.append(-10 * math.log10(1 + differing / 10 ** (-reference_psnr / 10)))
    return Change(sum(changes) / len(changes), len(changes), sum(expected) / len(expected))


def _cut_photographs(runner: Runner, degradation: Degradation, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Degraded (1, inputs, h, w) in [0, 1] and clean (1, C, scale*h, scale*w) uint8, of the photographs' centers."""
    for path in find_images("photos", "test", Path()).clean:
        image = with_channels(to_uint8(read_image(path)), runner.channels)
        height, width = (min(extent // degradation.scale, size) * degradation.scale for extent in image.shape[:2])
        top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
        clean = as_tensor(image[top : top + height, left : left + width])
        draws = seeded(SEED, zlib.crc32(path.stem.encode()))
        yield degradation.for_network(clean / 255, draws, runner.inputs), clean
