"""Picture files as people have them: pixels with their alpha channel, ICC profile and EXIF block.

Pillow reads the header of every file and the pixels of 8 bits, since it resolves palettes, CMYK and transparency and
notices truncation. OpenCV reads what has 16 bits, which Pillow would cut to 8, and writes PNG several times faster.
"""

import io
import struct
import zlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageCms, ImageOps
from PIL.ExifTags import Base
from PIL.ImageFile import ImageFile

from restore.errors import UserError
from restore.images.header import READABLE, opened, reading
from restore.images.io import IMAGE_SUFFIXES, Image, Pixels, to_uint8, write_atomically

PICTURE_SUFFIXES = IMAGE_SUFFIXES | {".gif"}  # what folders are searched for: a GIF is refused aloud, not passed over

GRAY_MODES = ("1", "L", "LA", "La")  # of Pillow, 8 bits and less
JPEG_QUALITY = 95


class Format(NamedTuple):
    """What a file format can hold.

    Attributes:
        suffixes: of its files, in lower case, the usual one first.
        longest_side: in pixels; None where no image comes near the limit.
    """

    suffixes: tuple[str, ...]
    sixteen_bits: bool
    alpha: bool
    icc: bool
    exif: bool
    longest_side: int | None = None


FORMATS = {
    "png": Format((".png",), sixteen_bits=True, alpha=True, icc=True, exif=True),
    "jpg": Format((".jpg", ".jpeg"), sixteen_bits=False, alpha=False, icc=True, exif=True, longest_side=65500),
    "tiff": Format((".tiff", ".tif"), sixteen_bits=True, alpha=True, icc=True, exif=False),
    "webp": Format((".webp",), sixteen_bits=False, alpha=True, icc=True, exif=True, longest_side=16383),
    "bmp": Format((".bmp",), sixteen_bits=False, alpha=True, icc=False, exif=False),
}


@dataclass(frozen=True)
class Picture:
    """An upright image and what came with it.

    Attributes:
        pixels: (H, W, 1 or 3), uint8 or uint16.
        alpha: (H, W, 1) of the same type, or None.
        icc: the profile that says which colours the pixels mean.
        exif: the camera's notes, without an orientation that `pixels` already have.
    """

    pixels: Pixels
    alpha: Pixels | None = None
    icc: bytes | None = None
    exif: bytes | None = None


def picture_size(path: Path, max_megapixels: float | None = None) -> tuple[int, int]:
    """(height, width) of the image in a file, as stored, by its header alone, so that nothing dangerous is decoded.

    Raises:
        UserError: not a readable image, animated or of several pages, or larger than `max_megapixels` (default: as
            `header.max_megapixels` says).
    """
    with opened(path, max_megapixels) as file:
        frames: int = getattr(file, "n_frames", 1)
        if frames > 1 and file.format != "MPO":  # a camera's JPEG with a preview behind the photograph
            kind = "a file of {} pages" if file.format == "TIFF" else "an animation of {} frames"
            raise UserError(f"{path}: {kind.format(frames)}; only single images are restored")
        return file.height, file.width


def is_in_colour(path: Path) -> bool:
    """Whether `read_picture` gives an image three channels, told by its header; False where that cannot be read."""
    with suppress(Exception), Pillow.open(path, formats=READABLE) as file:
        return file.mode not in GRAY_MODES and not file.mode.startswith("I")
    return False


def read_picture(path: Path) -> Picture:
    """Decode an image upright, as `picture_size` has found it fit.

    Gray stays gray and 16 bits stay 16. Palettes are resolved; CMYK and Lab become sRGB, by their profile where they
    have one.

    Raises:
        UserError: not a readable image, truncated, or neither 8 nor 16 bits per channel.
    """
    with reading(path):
        data = path.read_bytes()
        with Pillow.open(io.BytesIO(data), formats=READABLE) as file:
            return _decode_16(path, file, data) if _has_16_bits(file, data) else _decode_8(path, file)


def _has_16_bits(file: ImageFile, data: bytes) -> bool:
    if file.format == "PNG":
        return data[24] == 16  # the bit depth in IHDR, which always comes first
    tags: Any = getattr(file, "tag_v2", {})
    return 16 in tags.get(258, ()) and 3 not in tags.get(339, ())  # BitsPerSample; SampleFormat 3 is floating point


def _decode_8(path: Path, file: ImageFile) -> Picture:
    file.load()
    exif = _exif(file)
    image = file if exif is None else ImageOps.exif_transpose(file)
    icc = image.info.get("icc_profile")
    if image.mode in ("CMYK", "LAB"):
        image, icc = _to_srgb(image, icc), None
    if image.mode in ("I", "F"):
        kind = "32-bit integers" if image.mode == "I" else "floating-point numbers"
        raise UserError(f"{path}: expected 8 or 16 bits per channel, found {kind}")
    gray = image.mode in GRAY_MODES
    transparent = image.has_transparency_data
    mode = ("L" if gray else "RGB") + ("A" if transparent else "")
    values: Image = np.asarray(image if image.mode == mode else image.convert(mode))
    values = values.reshape(*values.shape[:2], -1)
    channels = 1 if gray else 3
    alpha = values[:, :, channels:] if transparent else None
    return Picture(values[:, :, :channels], alpha, icc, None if exif is None else image.info.get("exif"))


def _exif(file: ImageFile) -> Pillow.Exif | None:
    """What the camera noted; None where that is damaged, which is no reason to refuse the image."""
    try:
        return file.getexif()
    except Exception:  # Pillow's parser raises anything, too
        return None


def _to_srgb(image: Pillow.Image, icc: bytes | None) -> Pillow.Image:
    if icc:
        with suppress(ImageCms.PyCMSError, OSError):  # a profile that is damaged, or of other colours
            profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
            converted = ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
            return cast(Pillow.Image, converted)
    return image.convert("RGB")


def _decode_16(path: Path, file: ImageFile, data: bytes) -> Picture:
    tags: Any = getattr(file, "tag_v2", {})
    if not (file.mode.startswith("I;16") or file.mode in ("RGB", "RGBA")) or tags.get(262) == 0:
        kind = "inverted gray" if tags.get(262) == 0 else file.mode
        raise UserError(f"{path}: of 16 bits only gray, RGB and RGBA are read, found {kind}")
    decoded: Any = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if decoded is None or decoded.dtype != np.uint16:
        raise UserError(f"{path}: not a readable image (truncated or damaged)")
    exif, block = _exif(file), None
    if exif is not None and file.format == "PNG":  # OpenCV turns TIFF files itself
        decoded = _turned(decoded, exif.pop(Base.Orientation, 1))
        block = exif.tobytes() if exif else None
    values: NDArray[np.uint16] = decoded.reshape(*decoded.shape[:2], -1)
    alpha = values[:, :, 3:] if values.shape[2] == 4 else None
    key = file.info.get("transparency")
    if values.shape[2] == 1 and key is not None:  # OpenCV knows transparent colours, not transparent grays
        alpha = np.where(values == key, 0, 65535).astype(np.uint16)
    channels = [0] if values.shape[2] == 1 or _is_gray_with_alpha(data) else [2, 1, 0]
    return Picture(np.ascontiguousarray(values[:, :, channels]), alpha, file.info.get("icc_profile"), block)


def _is_gray_with_alpha(data: bytes) -> bool:
    return data.startswith(b"\x89PNG") and data[25] == 4  # the colour type in IHDR


def _turned(values: NDArray[Any], orientation: int) -> NDArray[Any]:
    """An image as its EXIF orientation (1 to 8) wants it shown: transposed or not, then flipped."""
    if orientation in (5, 6, 7, 8):
        values = values.swapaxes(0, 1)
    return np.flip(values, {2: (1,), 3: (0, 1), 4: (0,), 6: (1,), 7: (0, 1), 8: (0,)}.get(orientation, ()))


def check_target(path: Path, height: int, width: int) -> None:
    """Make sure that an image of this size can be written to `path`.

    Raises:
        UserError: the suffix names no format that is written, or one that holds no such image.
    """
    name = _format_name(path)
    if (longest := FORMATS[name].longest_side) and max(height, width) > longest:
        raise UserError(
            f"{path}: {width} x {height}, {name} files have at most {longest} pixels a side; try --format png"
        )


def losses(path: Path, picture: Picture) -> list[str]:
    """What of a picture the format that `path` names cannot hold."""
    able = FORMATS[_format_name(path)]
    return [
        name
        for name, held, there in (
            ("16 bits per channel", able.sixteen_bits, picture.pixels.dtype == np.uint16),
            ("an alpha channel", able.alpha, picture.alpha is not None),
            ("an ICC profile", able.icc, picture.icc is not None),
            ("an EXIF block", able.exif, picture.exif is not None),
        )
        if there and not held
    ]


def write_picture(path: Path, picture: Picture, quality: int | None = None) -> None:
    """Encode a picture by the suffix of `path`, atomically, but for what `losses` names.

    Args:
        path: the folder is made as needed.
        picture: gray with alpha in 16 bits is written as RGBA.
        quality: 1 to 100 of JPEG (default 95) and of WebP (default: lossless).

    Raises:
        UserError: the suffix names no format that is written, or the file cannot be written.
    """
    name = _format_name(path)
    able = FORMATS[name]
    values = picture.pixels
    if picture.alpha is not None and able.alpha:
        wide = values.dtype == np.uint16 and values.shape[2] == 1
        values = np.concatenate([values.repeat(3, axis=2) if wide else values, picture.alpha], axis=2)
    if not able.sixteen_bits:
        values = to_uint8(values)
    match name:
        case "png" if values.shape[2] != 2:  # OpenCV has no gray with alpha
            data = _encode_png(values, picture)
        case "bmp":
            opaque = values if values.shape[2] != 2 else values.repeat((3, 1), axis=2)
            data = cv2.imencode(".bmp", _bgr(opaque))[1].tobytes()
        case "tiff":
            data = _encode_tiff(values, picture)
        case _:
            data = _encode_with_pillow(name, values, picture, quality)
    write_atomically(path, data)


def _format_name(path: Path) -> str:
    for name, known in FORMATS.items():
        if path.suffix.lower() in known.suffixes:
            return name
    raise UserError(f"{path}: {path.suffix or 'no suffix'} is no format to write; choose one by --format")


def _bgr(values: Pixels) -> Pixels:
    """The order of channels that OpenCV writes."""
    return np.ascontiguousarray(values[:, :, {1: [0], 3: [2, 1, 0], 4: [2, 1, 0, 3]}[values.shape[2]]])


def _encode_png(values: Pixels, picture: Picture) -> bytes:
    """OpenCV's PNG with profile and notes put in as they came: libpng examines them, and breaks off the file."""
    image = cv2.imencode(".png", _bgr(values))[1].tobytes()
    blocks = b""
    if picture.icc:
        blocks += _chunk(b"iCCP", b"ICC Profile\0\0" + zlib.compress(picture.icc))
    if picture.exif:
        blocks += _chunk(b"eXIf", picture.exif.removeprefix(b"Exif\0\0"))
    return image[:33] + blocks + image[33:]  # 8 bytes of signature, 25 of IHDR


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def _encode_tiff(values: Pixels, picture: Picture) -> bytes:
    file = io.BytesIO()
    gray, alpha = values.shape[2] <= 2, values.shape[2] in (2, 4)
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
    )
    return file.getvalue()


def _encode_with_pillow(name: str, values: Pixels, picture: Picture, quality: int | None) -> bytes:
    image = Pillow.fromarray(values[:, :, 0] if values.shape[2] == 1 else np.ascontiguousarray(values))
    options: dict[str, Any] = {"icc_profile": picture.icc}
    if picture.exif:
        options["exif"] = picture.exif
    match name:
        case "jpg":  # at full resolution of chroma: what has been restored isn't averaged away
            options |= {"format": "JPEG", "quality": quality or JPEG_QUALITY, "subsampling": 0}
        case "webp" if quality is None:  # the quickest lossless coding: a tenth of the time, 8 % larger
            options |= {"format": "WEBP", "lossless": True, "quality": 0, "method": 0, "exact": True}
        case "webp":
            options |= {"format": "WEBP", "quality": quality}
        case _:
            options |= {"format": "PNG"}
    file = io.BytesIO()
    image.save(file, **options)
    return file.getvalue()
