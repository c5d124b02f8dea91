"""Whether the data sets on this machine are what they should be."""

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from restore.data.catalog import ImageSet, find_images
from restore.data.known_sets import SETS, Part, Split
from restore.data.pairing import check_sizes
from restore.data.store import crop_to_low_resolution
from restore.errors import UserError
from restore.images.color import with_channels
from restore.images.io import read_image
from restore.images.pixels import to_uint8
from restore.images.resize import imresize
from restore.progress import progress

IMAGES_RECOMPUTED = 3  # low-resolution images per scale that are recomputed
MAX_IMAGES_NAMED = 3  # images named in a complaint


@dataclass
class Verification:
    """What was found of one split of a data set.

    Attributes:
        name, split: of the data set.
        images: how many there are; 0 if it is not installed.
        scales: of the published low-resolution images that are there; 1 for noisy ones.
        wrong: errors.
        remarks: warnings.
    """

    name: str
    split: Split
    images: int = 0
    scales: tuple[int, ...] = ()
    wrong: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    @property
    def verdict(self) -> str:
        if self.wrong:
            return "wrong"
        return "ok" if self.images else "not installed"


@dataclass(frozen=True)
class _Decoded:
    size: tuple[int, int]  # (width, height)
    digest: bytes
    complaint: str = ""


def verify(name: str, root: Path) -> list[Verification]:
    """Decode all images of a data set below `root` and check counts, sizes, pixels and low-resolution images."""
    return [_verify_split(name, split, part, root) for split, part in SETS[name].parts.items()]


def fingerprint(paths: Sequence[Path]) -> str:
    """One number for the decoded pixels of images, in the order given.

    Raises:
        UserError: one cannot be read.
    """
    decoded = _decode_all(paths, "Reading")
    for image in decoded:
        if image.complaint:
            raise UserError(image.complaint)
    return _joined(decoded)


def _verify_split(name: str, split: Split, part: Part, root: Path) -> Verification:
    found = Verification(name, split)
    try:
        images = find_images(name, split, root)
    except UserError as error:
        # A set that is nowhere is no fault; one whose pieces do not fit together is.
        if not any((root / folder.path).is_dir() for folder in SETS[name].all_folders):
            return found
        found.wrong.append(str(error))
        return found
    found.images = len(images.clean)
    found.scales = tuple(images.degraded)
    originals = _check_originals(found, part, images.clean)
    for scale in images.degraded:
        _check_degraded(found, images, originals, scale)
    return found


def _check_originals(found: Verification, part: Part, paths: Sequence[Path]) -> list[_Decoded]:
    if len(paths) != part.images:
        found.wrong.append(f"{len(paths)} images, expected {part.images}")
    decoded = _decode_all(paths, f"Verifying {found.name} {found.split}")
    found.wrong += [image.complaint for image in decoded if image.complaint][:MAX_IMAGES_NAMED]
    odd = [
        f"{path.name} is {image.size[0]}x{image.size[1]}"
        for path, image in zip(paths, decoded, strict=True)
        if not image.complaint and ((part.sizes and image.size not in part.sizes) or max(image.size) < part.long_side)
    ]
    if odd:
        found.wrong.append(f"{len(odd)} images have a size that does not occur: {', '.join(odd[:MAX_IMAGES_NAMED])}")
    if part.pixels and not found.wrong and _joined(decoded) != part.pixels:
        found.remarks.append("other pixels than the reference copy: scores may differ from published ones")
    return decoded


def _check_degraded(found: Verification, images: ImageSet, originals: list[_Decoded], scale: int) -> None:
    """The sizes of all pairs; of a few low-resolution images, whether MATLAB's bicubic made them."""
    low = images.degraded[scale]
    decoded = _decode_all(low, f"Verifying {found.name} {found.split} x{scale}")
    wrong = [image.complaint for image in decoded if image.complaint]
    for path, original, reduced in zip(images.clean, originals, decoded, strict=True):
        if original.complaint or reduced.complaint:
            continue
        try:
            check_sizes(original.size[::-1], reduced.size[::-1], scale, path)
        except UserError as error:
            wrong.append(str(error))
    found.wrong += wrong[:MAX_IMAGES_NAMED]
    if found.wrong or scale == 1:
        return
    sample = sorted({round(part * (len(low) - 1) / (IMAGES_RECOMPUTED - 1)) for part in range(IMAGES_RECOMPUTED)})
    share, path = min((_share_as_matlab(images.clean[n], low[n], scale), low[n]) for n in sample)
    if share < 1:
        found.remarks.append(
            f"x{scale} was not made by MATLAB's bicubic: {share:.1%} of the pixels of {path.name} are as it makes them"
        )


def _share_as_matlab(clean_path: Path, low_path: Path, scale: int) -> float:
    """Which part of a low-resolution image's values is what MATLAB's `imresize` makes of the original."""
    low = to_uint8(read_image(low_path))
    clean = with_channels(to_uint8(read_image(clean_path)), low.shape[2])
    recomputed = imresize(crop_to_low_resolution(clean, low, scale, clean_path), 1 / scale)
    return float(np.mean(recomputed == low))


def _decode_all(paths: Sequence[Path], label: str) -> list[_Decoded]:
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        return list(progress(pool.map(_decode, paths), label, len(paths)))


def _decode(path: Path) -> _Decoded:
    try:
        pixels = read_image(path)
    except UserError as error:
        return _Decoded((0, 0), b"", str(error))
    described = f"{pixels.shape} {pixels.dtype}".encode()
    return _Decoded((pixels.shape[1], pixels.shape[0]), hashlib.sha256(described + pixels.tobytes()).digest())


def _joined(decoded: Sequence[_Decoded]) -> str:
    return hashlib.sha256(b"".join(image.digest for image in decoded)).hexdigest()
