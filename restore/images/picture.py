"""Pictures into files of every kind: what a format can hold is kept, what it cannot is named."""

import io
import struct
import zlib
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import tifffile
from PIL import Image as Pillow
from PIL import ImageCms
from PIL.ExifTags import Base

from restore.errors import UserError
from restore.files import write_atomically
from restore.images.decode import Picture
from restore.images.io import IMAGE_SUFFIXES
from restore.images.notes import PREFIX, color_space
from restore.images.pixels import Pixels, to_uint8

PICTURE_SUFFIXES = IMAGE_SUFFIXES | {".gif"}  # a GIF is rejected with a message, not skipped

JPEG_QUALITY = 95
LONGEST_SEGMENT = 65533  # bytes of a JPEG's marker segment
XMP_NAME = b"http://ns.adobe.com/xap/1.0/\0"  # before the packet in a JPEG
TIFF_TEXTS = [Base.ImageDescription, Base.Make, Base.Model, Base.DateTime, Base.Artist, Base.HostComputer]
TIFF_TEXTS += [Base.Copyright, Base.Software]
METERS_PER_INCH = 0.0254
HIGHEST_DPI = (2**31 - 2) * METERS_PER_INCH  # of formats that count dots per meter in 32 bits


class Format(NamedTuple):
    """What a file format can hold.

    Attributes:
        suffixes: of its files, in lower case, the usual one first.
        gray: one channel; else gray is written as RGB.
        highest_dpi: of a resolution; 0 if it holds none.
        longest_side: in pixels; None if no image comes near the limit.
        longest_block: of EXIF and XMP, in bytes; None likewise.
    """

    suffixes: tuple[str, ...]
    gray: bool = True
    sixteen_bits: bool = False
    alpha: bool = True
    icc: bool = True
    exif: bool = True
    xmp: bool = True
    highest_dpi: float = 2**32 - 1
    longest_side: int | None = None
    longest_block: int | None = None


FORMATS = {
    "png": Format((".png",), sixteen_bits=True, highest_dpi=HIGHEST_DPI, longest_side=1_000_000),
    "jpg": Format(
        (".jpg", ".jpeg"), alpha=False, highest_dpi=65535, longest_side=65500,
        longest_block=LONGEST_SEGMENT - len(XMP_NAME),
    ),
    "tiff": Format((".tiff", ".tif"), sixteen_bits=True),
    "webp": Format((".webp",), gray=False, highest_dpi=0, longest_side=16383),
    "bmp": Format((".bmp",), icc=False, exif=False, xmp=False, highest_dpi=HIGHEST_DPI),
}  # fmt: skip


def check_target(path: Path, height: int, width: int) -> None:
    """Make sure that an image of this size can be written to `path`.

    Raises:
        UserError: the suffix names no format that is written, or one that holds no such image.
    """
    name = _format_name(path)
    if (longest := FORMATS[name].longest_side) and max(height, width) > longest:
        other = "tiff" if name == "png" else "png"
        raise UserError(
            f"{path}: {width} x {height}, {name} files are limited to {longest} pixels per side; try --format {other}"
        )


def lost_metadata(path: Path, picture: Picture) -> list[str]:
    """What of a picture the format that `path` names cannot hold, and what had not been read of its file."""
    return [*picture.left_out, *_fitted(_format_name(path), picture)[1]]


def _fitted(name: str, picture: Picture) -> tuple[Picture, list[str]]:
    """A picture with what the format can hold, and what that leaves out."""
    able = FORMATS[name]
    left_out = []
    if picture.pixels.dtype == np.uint16 and not able.sixteen_bits:
        left_out.append("16 bits per channel")
    if picture.alpha is not None and not able.alpha:
        left_out.append("an alpha channel")
        picture = replace(picture, alpha=None)
    if picture.chunks and name != "png":
        names = [kind.decode() for kind, _ in picture.chunks]
        if "sRGB" in names and able.icc and not picture.icc and picture.pixels.shape[2] == 3:  # the same in other words
            picture = replace(picture, icc=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
        else:
            left_out.append(f"the PNG chunks {', '.join(names)}")
    if picture.icc:
        space, expected = color_space(picture.icc), "GRAY" if able.gray and picture.pixels.shape[2] == 1 else "RGB"
        if not able.icc or space != expected:
            kind = (
                "an ICC profile"
                if space == expected
                else f"an ICC profile for {space}"
                if space
                else "a damaged ICC profile"
            )
            left_out.append(kind)
            picture = replace(picture, icc=None)
    for block, held, words in ((picture.exif, able.exif, "an EXIF block"), (picture.xmp, able.xmp, "an XMP packet")):
        too_long = bool(block and able.longest_block and len(block) > able.longest_block)
        if block and (too_long or not held):
            left_out.append(f"{words} of {len(block) / 1000:.0f} kB" if too_long else words)
            picture = replace(picture, exif=None) if block is picture.exif else replace(picture, xmp=None)
    if name == "tiff" and picture.exif and set(_exif(picture.exif)) - set(TIFF_TEXTS):
        left_out.append("an EXIF block but for its texts")
    if picture.dpi and max(picture.dpi) > able.highest_dpi:
        left_out.append(f"a resolution of {picture.dpi[0]:.0f} dpi")
        picture = replace(picture, dpi=None)
    return picture, left_out


def _exif(block: bytes) -> Pillow.Exif:
    """The entries of an EXIF block, as far as they can be read."""
    exif = Pillow.Exif()
    with suppress(Exception):  # Pillow's parser raises anything
        exif.load(PREFIX + block)
    return exif


def write_picture(path: Path, picture: Picture, quality: int | None = None) -> None:
    """Encode a picture by the suffix of `path`, atomically, but for what `lost_metadata` names.

    Args:
        path: the folder is made as needed.
        picture: what to write.
        quality: 1 to 100 of JPEG (default 95) and of WebP (default: lossless).

    Raises:
        UserError: the suffix names no format that is written, or the file cannot be written.
    """
    name = _format_name(path)
    picture, _ = _fitted(name, picture)
    values = picture.pixels
    if picture.alpha is not None:
        values = np.concatenate([values, picture.alpha], axis=2)
    if not FORMATS[name].sixteen_bits:
        values = to_uint8(values)
    match name:
        case "png":
            data = _encode_png(values, picture)
        case "bmp":
            data = _encode_bmp(values, picture)
        case "tiff":
            data = _encode_tiff(values, picture)
        case _:
            data = _encode_with_pillow(name, values, picture, quality)
    write_atomically(path, data)


def _format_name(path: Path) -> str:
    for name, known in FORMATS.items():
        if path.suffix.lower() in known.suffixes:
            return name
    *others, last = FORMATS
    kind = f"{path.suffix} files" if path.suffix else "files without a suffix"
    raise UserError(f"{path}: {kind} cannot be written; choose {', '.join(others)} or {last} with --format")


def _bgr(values: Pixels) -> Pixels:
    """The order of channels that OpenCV writes."""
    return np.ascontiguousarray(values[:, :, {1: [0], 3: [2, 1, 0], 4: [2, 1, 0, 3]}[values.shape[2]]])


def _encode_png(values: Pixels, picture: Picture) -> bytes:
    """OpenCV's PNG with profile and notes put in as they came: libpng examines them, and breaks off the file."""
    two = values.shape[2] == 2  # OpenCV has no gray with alpha
    image = _png_of_gray_with_alpha(values) if two else cv2.imencode(".png", _bgr(values))[1].tobytes()
    blocks = b"".join(_chunk(name, content) for name, content in picture.chunks)
    if picture.icc:
        blocks += _chunk(b"iCCP", b"ICC Profile\0\0" + zlib.compress(picture.icc))
    if picture.dpi:
        blocks += _chunk(b"pHYs", struct.pack(">IIB", *_dots_per_meter(picture.dpi), 1))
    if picture.exif:
        blocks += _chunk(b"eXIf", picture.exif)
    if picture.xmp:
        blocks += _chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + picture.xmp)
    return image[:33] + blocks + image[33:]  # 8 bytes of signature, 25 of IHDR


def _png_of_gray_with_alpha(values: Pixels) -> bytes:
    """(H, W, 2) by the letter of the PNG specification; each row is coded as its difference from the one above."""
    height, width, _ = values.shape
    rows = np.ascontiguousarray(values).astype(values.dtype.newbyteorder(">")).view(np.uint8).reshape(height, -1)
    coded = np.diff(rows, axis=0, prepend=np.zeros_like(rows[:1]))
    lines = np.concatenate([np.full((height, 1), 2, np.uint8), coded], axis=1)  # filter type 2: up
    header = struct.pack(">IIBBBBB", width, height, 8 * values.dtype.itemsize, 4, 0, 0, 0)
    parts = (b"IHDR", header), (b"IDAT", zlib.compress(lines.tobytes())), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, content) for name, content in parts)


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def _dots_per_meter(dpi: tuple[float, float]) -> tuple[int, int]:
    return round(dpi[0] / METERS_PER_INCH), round(dpi[1] / METERS_PER_INCH)


def _encode_bmp(values: Pixels, picture: Picture) -> bytes:
    if values.shape[2] == 2:
        values = values.repeat((3, 1), axis=2)
    data = bytearray(cv2.imencode(".bmp", _bgr(values))[1].tobytes())
    if picture.dpi:
        struct.pack_into("<ii", data, 38, *_dots_per_meter(picture.dpi))
    return bytes(data)


def _encode_tiff(values: Pixels, picture: Picture) -> bytes:
    file = io.BytesIO()
    gray, alpha = values.shape[2] <= 2, values.shape[2] in (2, 4)
    notes = _exif(picture.exif) if picture.exif else {}
    # Pillow reads texts as Latin-1, so that this gives the bytes that were read, also if they are UTF-8.
    texts = [
        (int(tag), "s", 0, str(notes[tag]).encode("latin-1", "replace"), True) for tag in TIFF_TEXTS if tag in notes
    ]
    packet = [(700, "B", len(picture.xmp), picture.xmp, True)] if picture.xmp else []
    tifffile.imwrite(
        file,
        values if values.shape[2] > 1 else values[:, :, 0],
        photometric="minisblack" if gray else "rgb",
        planarconfig="contig" if values.shape[2] > 1 else None,
        extrasamples=["unassalpha"] if alpha else None,
        iccprofile=picture.icc,
        compression="zlib",
        predictor=True,
        metadata=None,
        software=False,
        resolution=picture.dpi,
        resolutionunit="inch" if picture.dpi else None,
        extratags=[*texts, *packet],
    )
    return file.getvalue()


def _encode_with_pillow(name: str, values: Pixels, picture: Picture, quality: int | None) -> bytes:
    image = Pillow.fromarray(values[:, :, 0] if values.shape[2] == 1 else np.ascontiguousarray(values))
    options: dict[str, Any] = {"icc_profile": picture.icc}
    if picture.exif:
        options["exif"] = PREFIX + picture.exif
    if picture.xmp:
        options["xmp"] = picture.xmp
    match name:
        case "jpg":  # at full resolution of chroma: what has been restored isn't averaged away
            options |= {"format": "JPEG", "quality": quality or JPEG_QUALITY, "subsampling": 0}
            if picture.dpi:
                options["dpi"] = picture.dpi
        case _ if quality is None:  # the quickest lossless coding: a tenth of the time, 8 % larger
            options |= {"format": "WEBP", "lossless": True, "quality": 0, "method": 0, "exact": True}
        case _:
            options |= {"format": "WEBP", "quality": quality}
    file = io.BytesIO()
    image.save(file, **options)
    return file.getvalue()
