"""Image files <-> arrays (H, W, C), C = 1 (gray) or 3 (RGB)."""

import logging
from collections import Counter
from collections.abc import Collection
from pathlib import Path, PurePath
from typing import NamedTuple

import cv2
import numpy as np

from restore.errors import UserError
from restore.files import printable, write_atomically
from restore.images.decode import read_picture
from restore.images.pixels import Pixels, fill_transparent, to_uint8

LOG = logging.getLogger(__name__)

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})
NOT_DATA = {"__MACOSX", "@eaDir", "#recycle", "$RECYCLE.BIN", "System Volume Information"}


class Listing(NamedTuple):
    """What `walk` has found below a folder.

    Attributes:
        files: with one of the suffixes, sorted by path.
        passed_over: how many others, by suffix or kind.
        unreadable: broken links and special files with one of the suffixes, in words.
    """

    files: list[Path]
    passed_over: Counter[str]
    unreadable: list[str]

    def remark(self) -> str:
        """What was passed over, for the user; empty if nothing was."""
        counts = [f"{count} {kind}" for kind, count in self.passed_over.most_common()]
        return ", ".join([*counts, *map(printable, self.unreadable)])


def walk(folder: Path, suffixes: frozenset[str] = IMAGE_SUFFIXES, apart: Collection[Path] = ()) -> Listing:
    """The image files below a folder, by their suffix; linked folders are followed, once on each way down.

    Passed over are hidden files and folders, and folders that programs leave in others (`NOT_DATA`).

    Args:
        folder: where to look.
        suffixes: of images, in lower case.
        apart: folders inside it that are not looked into.

    Raises:
        UserError: the folder cannot be read; of those inside it, the listing says so.
    """
    found = Listing([], Counter(), [])
    _walk(folder, suffixes, {path.resolve() for path in apart} - {folder.resolve()}, (), found)
    found.files.sort()
    return found


def _walk(folder: Path, suffixes: frozenset[str], apart: set[Path], above: tuple[Path, ...], found: Listing) -> None:
    here = folder.resolve()
    if here in above or here in apart:
        return
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        if not above:
            raise UserError(f"{folder}: cannot be read ({error.strerror})") from error
        found.unreadable.append(f"{folder} ({error.strerror})")
        return
    for entry in entries:
        if _is_hidden(entry.name):
            found.passed_over["hidden"] += 1
            continue
        try:
            is_folder, is_file = entry.is_dir(), entry.is_file()
        except OSError as error:  # the folder may be listed, but not looked into
            found.unreadable.append(f"{entry} ({error.strerror})")
            continue
        if is_folder:
            _walk(entry, suffixes, apart, (*above, here), found)
        elif entry.suffix.lower() not in suffixes:
            found.passed_over[printable(entry.suffix.lower()) or "no suffix"] += 1
        elif is_file:
            found.files.append(entry)
        else:
            found.unreadable.append(f"{entry} ({'not a regular file' if entry.exists() else 'a broken link'})")


def is_image(path: PurePath) -> bool:
    """Whether a path below a folder of images is that of one that `walk` finds there, by its parts alone."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not any(map(_is_hidden, path.parts))


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name in NOT_DATA


def list_images(folder: Path, suffixes: frozenset[str] = IMAGE_SUFFIXES) -> list[Path]:
    """The image files below `folder` as `walk` finds them; what is passed over is logged.

    Raises:
        UserError: `folder` is no folder, cannot be read, or holds no image.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: expected a folder of images, found {'a file' if folder.exists() else 'nothing'}")
    found = walk(folder, suffixes)
    remark = found.remark()
    if not found.files:
        passed_over = f"; passed over: {remark}" if remark else ""
        raise UserError(f"{folder}: no image found (looked for {', '.join(sorted(suffixes))}{passed_over})")
    if remark:
        LOG.info(f"{printable(str(folder))}: passed over: {remark}")
    return found.files


def read_image(path: Path) -> Pixels:
    """Decode an image as `read_picture` does: uint8 or uint16 (H, W, 1 or 3), gray stays gray, upright.

    Its alpha channel is left out, after the pixels that it hides have been filled from their neighbors.

    Raises:
        UserError: the file cannot be read, is no image, is larger than `header.max_megapixels`, or of a kind that is
            not read.
    """
    picture = read_picture(path)
    return np.ascontiguousarray(fill_transparent(picture.pixels, picture.alpha))


def write_image(path: Path, pixels: Pixels) -> None:
    """Encode (H, W, 1 or 3) pixels by the suffix of `path`, atomically; folders are made as needed.

    Raises:
        UserError: the suffix names no known format, or the file cannot be written.
    """
    suffix = path.suffix.lower()
    if suffix not in IMAGE_SUFFIXES:
        raise UserError(f"{path}: cannot write {suffix or 'a file without suffix'}; known: {sorted(IMAGE_SUFFIXES)}")
    if suffix in (".jpg", ".jpeg", ".bmp", ".webp"):
        pixels = to_uint8(pixels)
    coded = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR) if pixels.shape[2] == 3 else pixels
    done, data = cv2.imencode(suffix, coded)
    if not done:
        raise UserError(f"{path}: the image could not be encoded as {suffix}")
    write_atomically(path, data.tobytes())
