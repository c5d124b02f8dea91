"""Image files <-> arrays (H, W, C), C = 1 (gray) or 3 (RGB)."""

import os
import re
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from restore.errors import UserError
from restore.images.header import opened

cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # a damaged file is one line: ours

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})

Image = NDArray[np.uint8]
Pixels = NDArray[np.uint8 | np.uint16]
AnyPixels = TypeVar("AnyPixels", bound=Pixels)


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
    """Decode an image as stored: uint8 or uint16 (H, W, 1 or 3), gray stays gray, RGB order.

    Palettes are resolved and EXIF orientation applied; an alpha channel is left out. `picture.read_picture` keeps it.

    Raises:
        UserError: the file cannot be read, is no image, is larger than `header.max_megapixels`, or has another pixel
            type.
    """
    with opened(path):
        data = np.fromfile(path, dtype=np.uint8)
    pixels: Any = _decode(data)
    if pixels is None:
        raise UserError(f"{path}: not a readable image (unknown format, truncated or damaged)")
    if pixels.dtype not in (np.uint8, np.uint16):
        raise UserError(f"{path}: expected 8 or 16 bits per channel, found {pixels.dtype}")
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    elif pixels.shape[2] == 3:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
    else:
        raise UserError(f"{path}: expected a gray or RGB image, found {pixels.shape[2]} channels")
    image: Pixels = pixels
    return image


def _decode(data: Image) -> NDArray[Any] | None:
    with suppress(cv2.error):
        decoded: NDArray[Any] | None = cv2.imdecode(data, cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH)
        return decoded
    return None


def to_uint8(pixels: Pixels) -> Image:
    """8 bits from 8 or 16, rounded: 65535 becomes 255."""
    if pixels.dtype == np.uint8:
        return pixels.astype(np.uint8, copy=False)
    return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)


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
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            Path(name).chmod(0o666 & ~_umask())
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror})") from error


def remove_leftovers(paths: Iterable[Path]) -> None:
    """Delete what killed processes left of writing `paths`; nobody may be writing them now."""
    wanted = set(paths)
    for folder in {path.parent for path in wanted}:
        for file in folder.glob(".*"):
            of = re.fullmatch(r"\.(.+)\.[a-z0-9_]{8}", file.name)  # as mkstemp names it
            if of and folder / of[1] in wanted:
                file.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
