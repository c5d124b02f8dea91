"""The decoder of all commands: image files as people have them -> pixels, alpha channel and what came with them.

Pillow reads what has 8 bits, since it resolves palettes, CMYK and transparency and notices truncation; OpenCV reads
PNG files of 16 bits, which Pillow would cut to 8; `tiff` says who reads a TIFF file.
"""

import io
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageCms
from PIL.ExifTags import Base
from PIL.ImageFile import ImageFile

from restore.errors import UserError
from restore.images import tiff
from restore.images.header import check_extent, check_size, max_megapixels, reading
from restore.images.notes import ORIENTATION, PREFIX, describing, upright, without_orientation
from restore.images.pixels import Pixels

READABLE = ("PNG", "JPEG", "TIFF", "WEBP", "BMP", "GIF")
GRAY_MODES = ("1", "L", "LA", "La", "I;16")  # of Pillow
COLOR_MODES = ("P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "LAB")
TRANSPOSED = (5, 6, 7, 8)  # orientations in which rows are shown as columns
COLOR_CHUNKS = (b"cICP", b"sRGB", b"gAMA", b"cHRM")  # of PNG: which colors the pixels mean


@dataclass(frozen=True)
class Picture:
    """An upright image and what came with it.

    Attributes:
        pixels: (H, W, 1 or 3), uint8 or uint16; not multiplied by alpha.
        alpha: (H, W, 1) of the same type, or None.
        icc: the profile that says which colors the pixels mean.
        exif: the camera's notes from `II` or `MM` on, without an orientation, which `pixels` already have.
        xmp: an XMP packet, without an orientation, too.
        dpi: pixels per inch, horizontally and vertically.
        chunks: of a PNG file, those about color, by name.
        left_out: what the file has besides and is not read, in words.
    """

    pixels: Pixels
    alpha: Pixels | None = None
    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None
    chunks: tuple[tuple[bytes, bytes], ...] = ()
    left_out: tuple[str, ...] = ()


def picture_size(path: Path, megapixels: float | None = None) -> tuple[int, int]:
    """(height, width) of the image in a file, as stored, by its header only, so that nothing dangerous is decoded.

    Args:
        path: of the file.
        megapixels: larger images are refused; default `header.max_megapixels`.

    Raises:
        UserError: not a readable image, animated or of several pages, of a kind that is not read, or too large.
    """
    with _opened(path, megapixels) as source:
        return source.height, source.width


def is_in_color(path: Path, megapixels: float | None = None) -> bool:
    """Whether `read_picture` gives an image three channels, told by its header; False if that cannot be read."""
    with suppress(UserError), _opened(path, megapixels) as source:
        if isinstance(source, tiff.Tiff):
            return source.channels == 3
        if source.format == "PNG":  # Pillow takes gray with alpha of 16 bits for RGBA
            return _start(path, 26)[25] not in (0, 4)  # the color type in IHDR
        return source.mode not in GRAY_MODES
    return False


def read_picture(path: Path, megapixels: float | None = None) -> Picture:
    """Decode an image upright.

    Gray stays gray and 16 bits stay 16; 9 to 15 become 16. Palettes are resolved; CMYK and Lab become sRGB, by their
    profile if they have one.

    Raises:
        UserError: as `picture_size`, or truncated.
    """
    with _opened(path, megapixels) as source:
        if isinstance(source, tiff.Tiff):
            return _decode_tiff(path, source)
        data = path.read_bytes()
        if source.format == "PNG" and data[24] == 16:  # the bit depth in IHDR, which always comes first
            pixels, alpha = _decode_png_16(path, source, data)
            picture = _with_notes(Picture(pixels, alpha, source.info.get("icc_profile")), source)
            return replace(picture, chunks=tuple(_color_chunks(data)))
        with Pillow.open(io.BytesIO(data), formats=READABLE) as file:
            if file.format == "PNG" and isinstance(key := file.info.get("transparency"), int) and file.mode == "L":
                file.info["transparency"] = key * (255 // (2 ** data[24] - 1))  # Pillow scales gray, but not its key
            picture = _with_notes(_decode_by_pillow(path, file), file)
        if file.format == "PNG":
            picture = replace(picture, chunks=tuple(_color_chunks(data)))
        return picture


def _start(path: Path, count: int) -> bytes:
    with path.open("rb") as file:
        return file.read(count)


@contextmanager
def _opened(path: Path, megapixels: float | None = None) -> Iterator[ImageFile | tiff.Tiff]:
    """A file of which only the header has been read."""
    limit = max_megapixels() if megapixels is None else megapixels
    with reading(path):
        check_extent(path, limit)
        if _start(path, 4) in tiff.MAGIC:
            yield tiff.examine(path, limit)
            return
        with Pillow.open(path, formats=READABLE) as file:
            check_size(path, file.height, file.width, limit)
            frames: int = getattr(file, "n_frames", 1)
            if frames > 1 and file.format != "MPO":  # a camera's JPEG with a preview after the photograph
                raise UserError(f"{path}: is an animation of {frames} frames; only still images can be restored")
            if file.mode not in GRAY_MODES + COLOR_MODES:
                raise UserError(f"{path}: cannot read a {file.format} file of Pillow's mode {file.mode}")
            yield file


def _decode_tiff(path: Path, layout: tiff.Tiff) -> Picture:
    if layout.by_pillow:
        # Of bytes: Pillow maps an uncompressed file with the size that it has after it is turned.
        with Pillow.open(io.BytesIO(path.read_bytes()), formats=("TIFF",)) as file:
            file.load()  # which turns the image, too
            picture = _described(_decode_by_pillow(path, file), layout)
        dpi = picture.dpi[::-1] if picture.dpi and layout.orientation in TRANSPOSED else picture.dpi
        return replace(picture, dpi=dpi, exif=_tiff_exif(path))
    pixels, alpha = tiff.decode(path, layout)
    picture = Picture(pixels, alpha, layout.icc)
    if layout.photometric == tiff.ICCLAB:  # a* and b* from 0 on; Pillow takes them as CIELab has them, around 0
        values = pixels ^ np.array([0, 128, 128], np.uint8)
        size = layout.width, layout.height
        rgb = np.array(_to_srgb(Pillow.frombytes("LAB", size, values.tobytes()), layout.icc))
        picture = Picture(rgb, alpha)
    exif = _tiff_exif(path)
    return replace(_turned(_described(picture, layout), layout.orientation), exif=exif)


def _described(picture: Picture, layout: tiff.Tiff) -> Picture:
    kinds = [kind for kind in layout.extra if kind not in (tiff.ASSOCIATED, tiff.STRAIGHT)]
    more = len(layout.extra) - len(kinds) > 1
    left_out = ("samples of unknown meaning",) * bool(kinds) + ("a second alpha channel",) * more
    return replace(picture, xmp=layout.xmp and upright(layout.xmp), dpi=layout.dpi, left_out=left_out)


def _tiff_exif(path: Path) -> bytes | None:
    """What a TIFF file's tags have of EXIF; None also if the tags are damaged, which is no reason to refuse it."""
    with suppress(Exception), path.open("rb") as file:  # Pillow's parser raises anything
        head = _start(path, 16)
        exif = Pillow.Exif()
        exif.endian, exif.bigtiff = "<" if head[:1] == b"I" else ">", 43 in head[2:4]
        place = struct.unpack(f"{exif.endian}{'Q' if exif.bigtiff else 'I'}", head[8:] if exif.bigtiff else head[4:8])[
            0
        ]
        exif.load_from_fp(file, place)
        return describing(exif)
    return None


def _decode_by_pillow(path: Path, file: ImageFile) -> Picture:
    file.load()
    image: Pillow.Image = file
    icc = file.info.get("icc_profile")
    if file.mode not in GRAY_MODES + COLOR_MODES:
        raise UserError(f"{path}: cannot read a {file.format} file of Pillow's mode {file.mode}")
    if file.mode in ("CMYK", "LAB"):
        image, icc = _to_srgb(file, icc), None
    gray = image.mode in GRAY_MODES
    transparent = image.has_transparency_data
    mode = ("L" if gray else "RGB") + ("A" if transparent else "")
    values: NDArray[np.uint8] = np.array(image if image.mode == mode else image.convert(mode))
    values = values.reshape(*values.shape[:2], -1)
    channels = 1 if gray else 3
    return Picture(values[:, :, :channels], values[:, :, channels:] if transparent else None, icc)


def _to_srgb(image: Pillow.Image, icc: bytes | None) -> Pillow.Image:
    if icc:
        with suppress(ImageCms.PyCMSError, OSError):  # a profile that is damaged, or of other colors
            profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
            converted = ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
            return cast(Pillow.Image, converted)
    return image.convert("RGB")


def _decode_png_16(path: Path, file: ImageFile, data: bytes) -> tuple[Pixels, Pixels | None]:
    decoded: Any = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if decoded is None or decoded.dtype != np.uint16:
        raise UserError(f"{path}: not a readable image (truncated or damaged)")
    values: NDArray[np.uint16] = decoded.reshape(*decoded.shape[:2], -1)
    alpha = values[:, :, 3:] if values.shape[2] == 4 else None
    key = file.info.get("transparency")
    if values.shape[2] == 1 and key is not None:  # OpenCV knows transparent colors, not transparent grays
        alpha = np.where(values == key, 0, 65535).astype(np.uint16)
    gray_with_alpha = data[25] == 4  # the color type in IHDR
    channels = [0] if values.shape[2] == 1 or gray_with_alpha else [2, 1, 0]
    return np.ascontiguousarray(values[:, :, channels]), alpha


def _color_chunks(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    place = 8
    while place + 8 <= len(png) and (name := png[place + 4 : place + 8]) != b"IDAT":
        (length,) = struct.unpack_from(">I", png, place)
        if name in COLOR_CHUNKS:
            yield name, png[place + 8 : place + 8 + length]
        place += 12 + length


def _with_notes(picture: Picture, file: ImageFile) -> Picture:
    """A decoded picture turned upright, with what the file says of it."""
    left_out: list[str] = []
    exif, tags = file.info.get("exif"), Pillow.Exif()
    with suppress(Exception):  # Pillow's parser raises anything; damage to notes is no reason to refuse the image
        tags = file.getexif()
    if tags:
        exif = without_orientation((exif or tags.tobytes()).removeprefix(PREFIX))
    elif exif:
        exif = None
        left_out.append("a damaged EXIF block")
    if file.format == "MPO":
        left_out.append("further images in the file")
    xmp, dpi = file.info.get("xmp"), file.info.get("dpi")
    if file.format in ("JPEG", "MPO") and not (file.info.get("jfif_unit") or Base.XResolution in tags):
        dpi = None  # Pillow says 72 of a JPEG that says nothing
    xmp = xmp.encode() if isinstance(xmp, str) else xmp
    return replace(
        _turned(picture, tags.get(ORIENTATION, 1)),
        exif=exif,
        xmp=xmp and upright(xmp),
        dpi=(float(dpi[0]), float(dpi[1])) if dpi and min(dpi) > 0 else None,
        left_out=tuple(left_out),
    )


def _turned(picture: Picture, orientation: int) -> Picture:
    """A picture as its EXIF orientation (1 to 8) wants it shown: transposed or not, then flipped."""
    axes = {2: (1,), 3: (0, 1), 4: (0,), 6: (1,), 7: (0, 1), 8: (0,)}.get(orientation, ())

    def turn(values: Pixels) -> Pixels:
        turned: Pixels = np.flip(values.swapaxes(0, 1) if orientation in TRANSPOSED else values, axes)
        return turned

    if orientation in TRANSPOSED and picture.dpi:
        picture = replace(picture, dpi=picture.dpi[::-1])
    alpha = None if picture.alpha is None else turn(picture.alpha)
    return replace(picture, pixels=turn(picture.pixels), alpha=alpha)
