"""What an image file says of itself, examined before a decoder believes it."""

import os
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image as Pillow
from PIL import UnidentifiedImageError
from PIL.ImageFile import ImageFile

from restore.errors import UserError

Pillow.MAX_IMAGE_PIXELS = None  # `max_megapixels` is the limit
warnings.filterwarnings("ignore", module=r"PIL\.")  # a damaged file is one line: ours

READABLE = ("PNG", "JPEG", "TIFF", "WEBP", "BMP", "GIF")
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


@contextmanager
def opened(path: Path, limit: float | None = None) -> Iterator[ImageFile]:
    """An image file of which the header alone has been read.

    Args:
        path: of any of the formats `READABLE`.
        limit: in megapixels; default `max_megapixels`.

    Raises:
        UserError: not a readable image, larger than the limit, or of chunks that end behind the file.
    """
    limit = max_megapixels() if limit is None else limit
    with reading(path):
        _check_extent(path, limit)
        with Pillow.open(path, formats=READABLE) as file:
            width, height = file.size
            if width * height > limit * 1e6:
                size = f"{width} x {height} ({width * height / 1e6:.0f} megapixels)"
                raise UserError(f"{path}: {size} are more than the limit of {limit:g} ({OPTIONS})")
            yield file


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Whatever goes wrong with reading a file is a `UserError` that names it."""
    try:
        yield
    except (UserError, MemoryError):
        raise
    except UnidentifiedImageError as error:
        empty = path.stat().st_size == 0
        reason = "the file is empty" if empty else "unknown format, truncated or damaged"
        raise UserError(f"{path}: not a readable image ({reason})") from error
    except Exception as error:  # Pillow's decoders raise anything on damaged data
        if isinstance(error, OSError) and error.strerror:
            raise UserError(f"{path}: cannot be read ({error.strerror})") from error
        raise UserError(f"{path}: not a readable image ({error})") from error


def _check_extent(path: Path, limit: float) -> None:
    """Raises UserError where a file is too long for any image, or a PNG's chunk too long for its file.

    OpenCV allocates as much as a chunk claims, up to 4 GiB, before it reads it.
    """
    with path.open("rb", buffering=0) as file:
        length = os.fstat(file.fileno()).st_size
        if length > limit * 1e6 * BYTES_PER_PIXEL:
            raise UserError(f"{path}: {length / 1e6:.0f} MB are more than an image of {limit:g} megapixels takes")
        if file.read(8) != b"\x89PNG\r\n\x1a\n":
            return
        while len(head := file.read(8)) == 8 and head[4:] != b"IEND":
            claimed = struct.unpack(">I", head[:4])[0]
            if file.seek(claimed + 4, os.SEEK_CUR) > length:  # 4 bytes of checksum
                raise UserError(f"{path}: not a readable image (truncated or damaged)")
