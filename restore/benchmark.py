"""Network x test set x protocol -> rows: the numbers that papers print."""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from restore.data.catalog import ImageSet
from restore.data.degradation import Degradation, GaussianNoise, Jpeg
from restore.data.pairing import by_name, check_restored_sizes, pair
from restore.data.pairs import ImagePair, load_pair
from restore.errors import about
from restore.images.color import with_channels
from restore.images.io import list_images, read_image
from restore.images.pixels import to_uint8
from restore.images.tensors import as_tensor, quantize
from restore.inference import Runner, at_level, baseline, check_finite, restore_tensor
from restore.metrics import PROTOCOLS, ImageScore, Protocol, Row, Score
from restore.progress import progress
from restore.ranks import ALONE, Ranks


class ScoredImage(NamedTuple):
    """What a model made of an image: (1, C, H, W), 0 to 255, and how that scored."""

    restored: Tensor
    score: Score


Show = Callable[[ImagePair, dict[str, ScoredImage]], None]


def default_protocol(images: ImageSet, degradation: Degradation, channels: int) -> Protocol:
    """The protocol of the papers: `sr-rgb` for DIV2K, `sr-y` for other super-resolution, `jpeg-y` for JPEG, else
    `denoise-*`."""
    if degradation.scale > 1:
        return PROTOCOLS["sr-rgb" if images.name == "DIV2K" else "sr-y"]
    if isinstance(degradation, Jpeg):
        return PROTOCOLS["jpeg-y"]
    return PROTOCOLS["denoise-gray" if channels == 1 else "denoise-rgb"]


def baseline_name(degradation: Degradation) -> str:
    """What the image that a network gets is called in tables; enlarged, if the degradation shrinks it."""
    return "bicubic" if degradation.scale > 1 else degradation.baseline


def measure(
    models: Mapping[str, Runner | None],
    images: ImageSet,
    degradation: Degradation,
    protocol: Protocol,
    channels: int,
    show: Show | None = None,
    ranks: Ranks = ALONE,
) -> list[Row]:
    """Restore and score a test set.

    Args:
        models: by name, networks in eval mode or other runners, or None for the baseline: the degraded image itself,
            enlarged bicubically if the degradation shrinks it.
        images: the test set.
        degradation: what each image goes through; its noise is seeded by its name.
        protocol: how images are scored.
        channels: of the networks; see `load_pair`.
        show: is called with each image and what each model made of it.
        ranks: which of several processes this is; each measures its share of the images and gets the rows of all.

    Raises:
        UserError: an image cannot be read or is too small for the protocol.
    """
    scores = torch.zeros(len(models), len(images.clean), len(Score._fields), dtype=torch.float64)
    numbers = ranks.share(range(len(images.clean)))
    for number in progress(numbers, f"{images.name}, {degradation.label}"):
        pair = load_pair(images, number, degradation, channels, rounded_luma=protocol.of_jpeg)
        outcomes = {}
        for place, (model, runner) in enumerate(models.items()):
            with about(model), about(images.clean[number]):
                restored = _restore(runner, pair, degradation.scale)
                outcomes[model] = ScoredImage(restored, protocol.score(restored, pair.clean, degradation.scale))
            measured = [value for value in outcomes[model].score if value is not None]
            scores[place, number, : len(measured)] = torch.tensor(measured, dtype=torch.float64)
        if show is not None:
            show(pair, outcomes)
    sigma = degradation.sigma if isinstance(degradation, GaussianNoise) else None
    sigma = None if isinstance(sigma, tuple) else sigma
    label, scale = degradation.label, degradation.scale
    names = images.names
    rows = []
    for model, of_images in zip(models, ranks.total(scores).tolist(), strict=True):
        kept = slice(None if protocol.of_jpeg else -1)
        found = [ImageScore(name, *score[kept]) for name, score in zip(names, of_images, strict=True)]
        rows.append(_row(model, images.name, protocol, label, scale, sigma, found))
    return rows


def score_folder(restored: Path, reference: Path, protocol: Protocol, scale: int) -> Row:
    """Score existing images against references, paired as in `pairing.py`.

    A reference is cut to its restored image's size if they differ by less than `scale` ("modcrop").

    Raises:
        UserError: an image has no partner, cannot be read, or has another size.
    """
    references = by_name(reference, list_images(reference))
    partners = pair(references, by_name(restored, list_images(restored)), scale, restored)
    found = []
    for (name, path), partner in zip(references.items(), partners, strict=True):
        image, truth = to_uint8(read_image(partner)), to_uint8(read_image(path))
        check_restored_sizes(truth.shape, image.shape, scale, partner)
        height, width, channels = image.shape
        truth = with_channels(truth[:height, :width], channels)
        with about(partner):
            found.append(ImageScore(name, *protocol.score(as_tensor(image), as_tensor(truth), scale)))
    return _row(str(restored), reference.resolve().name, protocol, "as given", scale, None, found)


@dataclass(frozen=True)
class Difference:
    """By how much one model's PSNR is above another's on the same images.

    Attributes:
        model, other: what is compared.
        set, degradation, protocol: on what.
        db: mean over the images.
        low, high: its 95 % interval over images; None for a single image.
        images: how many.
    """

    model: str
    other: str
    set: str
    degradation: str
    protocol: str
    db: float
    low: float | None
    high: float | None
    images: int

    def __str__(self) -> str:
        interval = "" if self.low is None else f" (95 % of {self.low:+.3f} to {self.high:+.3f})"
        verdict = "" if self.low is None or self.high is None or not self.low <= 0 <= self.high else ", within chance"
        return (
            f"{self.model} less {self.other} on {self.set}, {self.degradation}: {self.db:+.3f} dB over {self.images} "
            f"images{interval}{verdict}"
        )


def paired_differences(rows: Sequence[Row]) -> list[Difference]:
    """Each model against the first that was measured on the same images under the same protocol.

    The interval is of the mean over images (percentile bootstrap, 9999 draws with a fixed seed).
    """
    first: dict[tuple[str, str, str], Row] = {}
    found = []
    for row in rows:
        reference = first.setdefault((row.set, row.degradation, row.protocol), row)
        if reference is not row and len(row.per_image) == len(reference.per_image):
            found += _difference(row, reference)
    return found


def _difference(row: Row, other: Row) -> list[Difference]:
    """Empty if no image has a finite PSNR from both; images that one restores perfectly are left out, as of means."""
    pairs = [(one.psnr, two.psnr) for one, two in zip(row.per_image, other.per_image, strict=True)]
    differences = np.array([one - two for one, two in pairs if math.isfinite(one) and math.isfinite(two)])
    if not len(differences):
        return []
    low = high = None
    if len(differences) > 1:
        from scipy.stats import bootstrap  # takes a second

        drawn = bootstrap((differences,), np.mean, method="percentile", rng=np.random.default_rng(0))
        low, high = map(float, drawn.confidence_interval)
    mean = float(differences.mean())
    kind = row.set, row.degradation, row.protocol
    return [Difference(row.model, other.model, *kind, mean, low, high, len(differences))]


def _restore(runner: Runner | None, pair: ImagePair, scale: int) -> Tensor:
    if runner is None:
        return baseline(pair.degraded, scale)
    restored = restore_tensor(at_level(runner, pair.level), pair.degraded.to(runner.device))
    check_finite(restored)
    return quantize(restored).cpu()


def _row(
    model: str, images: str, protocol: Protocol, label: str, scale: int, sigma: float | None, scores: list[ImageScore]
) -> Row:
    finite = [score.psnr for score in scores if math.isfinite(score.psnr)]  # that of equal images is infinite
    psnr = statistics.fmean(finite) if finite else math.inf
    ssim = statistics.fmean(score.ssim for score in scores)
    of_blocks = [score.psnr_b for score in scores if score.psnr_b is not None]
    psnr_b = statistics.fmean(of_blocks) if of_blocks else None
    return Row(model, images, protocol.name, label, scale, sigma, psnr, ssim, len(scores), tuple(scores), psnr_b)
