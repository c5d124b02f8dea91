"""What is checked of an image file before a decoder gets it, and how decoders are called."""

import logging
import os
import struct
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import cv2
from PIL import Image as Pillow
from PIL import UnidentifiedImageError

from restore.errors import UserError

MEGAPIXELS = 500.0
OPTIONS = "RESTORE_MAX_MEGAPIXELS, or --max-megapixels of infer"
BYTES_PER_PIXEL = 8  # four channels of 16 bits: a file with more is larger than what is in it


def max_megapixels() -> float:
    """The largest image that is decoded: RESTORE_MAX_MEGAPIXELS of the environment, else 500.

    From 1073 on OpenCV has a limit of its own, OPENCV_IO_MAX_IMAGE_PIXELS of the environment.

    Raises:
        UserError: the variable is no positive number.
    """
    text = os.environ.get("RESTORE_MAX_MEGAPIXELS", str(MEGAPIXELS))
    try:
        if (limit := float(text)) > 0:
            return limit
    except ValueError:
        pass
    raise UserError(f"RESTORE_MAX_MEGAPIXELS: expected a number above 0, found {text}")


def check_extent(path: Path, limit: float) -> None:
    """Make sure that a file is not too long for any image, and a PNG's chunk not too long for its file.

    OpenCV allocates as much as a chunk claims, up to 4 GiB, before it reads it.

    Args:
        path: of the file.
        limit: in megapixels.

    Raises:
        UserError: it is.
    """
    with path.open("rb", buffering=0) as file:
        length = os.fstat(file.fileno()).st_size
        if length > limit * 1e6 * BYTES_PER_PIXEL:
            raise UserError(f"{path}: {length / 1e6:.0f} MB exceed what an image of {limit:g} megapixels can take")
        if file.read(8) != b"\x89PNG\r\n\x1a\n":
            return
        while len(head := file.read(8)) == 8 and head[4:] != b"IEND":
            claimed = struct.unpack(">I", head[:4])[0]
            if file.seek(claimed + 4, os.SEEK_CUR) > length:  # 4 bytes of checksum
                raise UserError(f"{path}: not a readable image (truncated or damaged)")


def check_size(path: Path, height: int, width: int, limit: float) -> None:
    """Raises UserError if an image of this size has more than `limit` megapixels."""
    if width * height > limit * 1e6:
        size = f"{width} x {height} ({width * height / 1e6:.0f} megapixels)"
        raise UserError(f"{path}: {size} exceed the limit of {limit:g} ({OPTIONS})")


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turns whatever goes wrong while a file is read into a `UserError` that names the file.

    Within it, decoders print nothing of their own, and Pillow's limit of pixels gives way to `max_megapixels`.
    """
    try:
        with _DECODERS:
            yield
    except (UserError, MemoryError):
        raise
    except UnidentifiedImageError as error:
        empty = path.stat().st_size == 0
        reason = "the file is empty" if empty else "unknown format, truncated or damaged"
        raise UserError(f"{path}: not a readable image ({reason})") from error
    except Exception as error:  # decoders raise anything on damaged data
        if isinstance(error, OSError) and error.strerror:
            raise UserError(f"{path}: cannot be read ({error.strerror})") from error
        raise UserError(f"{path}: not a readable image ({error})") from error


class _Shared:
    """A context that many threads enter: the first sets it up, the last takes it down."""

    def __init__(self, set_up: Callable[[ExitStack], None]) -> None:
        self._set_up = set_up
        self._lock = threading.Lock()
        self._inside = 0
        self._stack = ExitStack()

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._set_up(self._stack)
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._stack.close()


def _quieten(stack: ExitStack) -> None:
    """Silence the libraries that decode, and lift Pillow's limit, until the stack is closed."""
    stack.callback(setattr, Pillow, "MAX_IMAGE_PIXELS", Pillow.MAX_IMAGE_PIXELS)
    Pillow.MAX_IMAGE_PIXELS = None
    stack.callback(cv2.utils.logging.setLogLevel, cv2.utils.logging.getLogLevel())
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    stack.enter_context(warnings.catch_warnings())
    warnings.filterwarnings("ignore", module=r"(PIL|tifffile)\b")
    log = logging.getLogger("tifffile")
    log.addFilter(_nothing)
    stack.callback(log.removeFilter, _nothing)


def _nothing(_: logging.LogRecord) -> bool:
    return False


_DECODERS = _Shared(_quieten)
