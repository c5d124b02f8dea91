"""Image files <-> arrays (H, W, C), C = 1 (gray) or 3 (RGB)."""

import os
import re
import secrets
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np

from restore.errors import UserError
from restore.images.decode import read_picture
from restore.images.pixels import AnyPixels, Image, Pixels, fill_transparent, to_uint8

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})
LONGEST_PREFIX = 200  # bytes

__all__ = [
    "IMAGE_SUFFIXES",
    "AnyPixels",
    "Image",
    "Pixels",
    "list_images",
    "read_image",
    "remove_leftovers",
    "to_uint8",
    "write_atomically",
    "write_image",
]


def list_images(folder: Path, suffixes: frozenset[str] = IMAGE_SUFFIXES) -> list[Path]:
    """All image files below `folder`, by their suffix, sorted by path.

    Raises:
        UserError: `folder` is no folder or holds no image.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: expected a folder of images, found {'a file' if folder.exists() else 'nothing'}")
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in suffixes and path.is_file())
    if not files:
        raise UserError(f"{folder}: no image found (looked for {', '.join(sorted(suffixes))})")
    return files


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


def write_atomically(path: Path, data: bytes | memoryview | str) -> None:
    """Write a whole file or nothing: to a temporary file beside `path`, synced, then renamed over it.

    A process that is killed meanwhile leaves the temporary file, hidden; `remove_leftovers` finds it.

    Raises:
        UserError: the folder or file cannot be written.
    """
    content = data.encode() if isinstance(data, str) else data
    temporary = path.with_name(f"{_prefix(path)}{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)  # less the umask
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror})") from error


def remove_leftovers(paths: Iterable[Path]) -> None:
    """Delete what killed processes left of writing `paths`; nobody may be writing them now."""
    wanted = {path.with_name(_prefix(path)) for path in paths}
    for folder in {path.parent for path in wanted}:
        for file in folder.glob(".*"):
            if re.fullmatch(r"(?s)\..+\.[0-9a-f]{8}", file.name) and file.with_name(file.name[:-8]) in wanted:
                file.unlink(missing_ok=True)


def _prefix(path: Path) -> str:
    """How the names of temporary files for `path` begin: short enough for file systems, which allow 255 bytes."""
    return f".{os.fsencode(path.name)[:LONGEST_PREFIX].decode(errors='ignore')}."
