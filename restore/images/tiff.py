"""TIFF files by their tags (TIFF 6.0, BigTIFF): what is not known to be read rightly is refused by naming the tag."""

from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from restore.errors import UserError
from restore.images.header import check_size
from restore.images.pixels import Pixels

MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

COMPRESSION, ORIENTATION, RESOLUTION, UNIT, XMP, ICC = 259, 274, (282, 283), 296, 700, 34675
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK, YCBCR, CIELAB, ICCLAB = 0, 1, 2, 3, 5, 6, 8, 9
UNSPECIFIED, ASSOCIATED, STRAIGHT = 0, 1, 2  # of ExtraSamples: alpha that the pixels are multiplied by, or are not
UNSIGNED = 1
MOST_SAMPLES = 8  # per pixel
SAMPLE_FORMATS: dict[object, str] = {2: "signed integers", 3: "floating-point numbers"}
SAMPLE_FORMATS |= {5: "complex integers", 6: "complex numbers"}
LOSSLESS = (1, 5, 8, 32773, 32946, 34925, 50000)  # none, LZW, Deflate twice, PackBits, LZMA, Zstandard

# What Pillow is believed: photometric interpretation, bits and samples, if compressed losslessly, as a fax, as a JPEG.
PILLOW = (
    {(LOSSLESS, PALETTE, bits, 1) for bits in (1, 2, 4, 8)}
    | {(LOSSLESS, CMYK, 8, 4), (LOSSLESS, CIELAB, 8, 3)}
    | {((2, 3, 4), gray, 1, 1) for gray in (WHITE_IS_ZERO, BLACK_IS_ZERO)}
    | {((6, 7), BLACK_IS_ZERO, 8, 1), ((6, 7), RGB, 8, 3), ((6, 7), YCBCR, 8, 3), ((7,), CMYK, 8, 4)}
)


@dataclass(frozen=True)
class Tiff:
    """What the tags of a file's single page say, found to be a layout that is read.

    Attributes:
        height, width: in pixels, as stored.
        photometric: one of the interpretations above.
        bits: of a sample.
        extra: of each sample beyond gray, RGB or Lab, what it is.
        by_pillow: whether Pillow decodes it; else `decode` does.
        orientation: 1 to 8, as in EXIF.
        icc, xmp: blocks as they are in the file, or None.
        dpi: horizontal and vertical, or None.
    """

    height: int
    width: int
    photometric: int
    bits: int
    extra: tuple[int, ...]
    by_pillow: bool
    orientation: int
    icc: bytes | None
    xmp: bytes | None
    dpi: tuple[float, float] | None

    @property
    def channels(self) -> int:
        """Of the image that it becomes: 1 or 3."""
        return 1 if self.photometric in (WHITE_IS_ZERO, BLACK_IS_ZERO) else 3


def examine(path: Path, limit: float) -> Tiff:
    """The layout of a TIFF file.

    Args:
        path: of the file.
        limit: in megapixels.

    Raises:
        UserError: several pages, larger than `limit`, truncated, or of a layout that is not read.
    """
    with tifffile.TiffFile(path) as file:
        page: Any = file.pages[0]
        pages = len(file.pages)
        if pages > 1:
            raise UserError(f"{path}: is a file of {pages} pages; only single images can be restored")
        for size in (page.imagelength, page.imagewidth, page.samplesperpixel):
            if not isinstance(size, int) or size < 1:
                raise UserError(f"{path}: not a readable image (truncated or damaged)")
        height, width = page.imagelength, page.imagewidth
        check_size(path, height, width, limit)
        if page.is_tiled:
            check_size(path, page.tilelength, page.tilewidth, max(limit, 1))
        layout = _layout(path, page)
        end = file.filehandle.size
        spans = list(zip(page.dataoffsets, page.databytecounts, strict=True))
        if len(spans) < prod(page.chunked) or any(size < 1 or start + size > end for start, size in spans):
            raise UserError(f"{path}: not a readable image (truncated or damaged)")
        return layout


def _layout(path: Path, page: Any) -> Tiff:
    bits = _one(page.tags.valueof(258, 1))
    photometric, samples = page.tags.valueof(262, -1), page.samplesperpixel
    compression, planes = int(page.tags.valueof(COMPRESSION, 1)), int(page.tags.valueof(284, 1))
    sample_format = _one(page.tags.valueof(339, UNSIGNED))

    def refuse(tag: str, value: object, meaning: str = "") -> UserError:
        meaning = f" ({meaning})" if meaning else ""
        return UserError(
            f"{path}: a TIFF file with {tag} {value}{meaning} cannot be read; save it with unsigned integers of 8 or "
            "16 bits per sample, in gray or RGB, compressed by LZW, Deflate or not at all"
        )

    if sample_format != UNSIGNED:
        raise refuse("SampleFormat", sample_format, SAMPLE_FORMATS.get(sample_format, "unknown"))
    if not isinstance(bits, int) or not 1 <= bits <= 16:
        raise refuse("BitsPerSample", bits)
    if page.imagedepth != 1:
        raise refuse("ImageDepth", page.imagedepth)
    if photometric not in (WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK, YCBCR, CIELAB, ICCLAB):
        raise refuse("PhotometricInterpretation", int(photometric))
    colors = {WHITE_IS_ZERO: 1, BLACK_IS_ZERO: 1, PALETTE: 1, CMYK: 4}.get(int(photometric), 3)
    if not colors <= samples <= MOST_SAMPLES:
        raise refuse("SamplesPerPixel", samples)
    extra = tuple(map(int, page.extrasamples)) + (UNSPECIFIED,) * (samples - colors - len(page.extrasamples))
    if samples - len(extra) != colors:
        raise refuse("ExtraSamples", page.extrasamples)
    ours = compression in LOSSLESS and (photometric in (WHITE_IS_ZERO, BLACK_IS_ZERO, RGB) or (
        (int(photometric), bits, samples) == (ICCLAB, 8, 3)
    ))  # fmt: skip
    if not ours:
        of = [place for codes, *place in PILLOW if compression in codes]
        if not of:
            raise refuse("Compression", compression)
        for tag, found, known in (
            ("PhotometricInterpretation", int(photometric), {place[0] for place in of}),
            ("BitsPerSample", bits, {place[1] for place in of if place[0] == photometric}),
            ("SamplesPerPixel", samples, {place[2] for place in of if place[:2] == [photometric, bits]}),
            ("PlanarConfiguration", planes, {1, 2} if samples == 1 else {1}),
        ):
            if found not in known:
                raise refuse(tag, found)
    return Tiff(
        page.imagelength,
        page.imagewidth,
        int(photometric),
        bits,
        extra,
        not ours,
        int(_one(page.tags.valueof(ORIENTATION, 1)) or 1),  # type: ignore[call-overload]
        _bytes(page.tags.valueof(ICC)),
        _bytes(page.tags.valueof(XMP)),
        _dpi(page),
    )


def decode(path: Path, layout: Tiff) -> tuple[Pixels, Pixels | None]:
    """Samples as they are stored, (H, W, C) with C as many as `layout` has, and alpha (H, W, 1) or None.

    Fewer than 8 bits become 8, 9 to 15 become 16; white is the largest number, and nothing is multiplied by alpha.
    """
    with tifffile.TiffFile(path) as file:
        page: Any = file.pages[0]
        values = np.asarray(page.asarray(maxworkers=1))
        if page.axes == "SYX":
            values = np.moveaxis(values, 0, 2)
    values = _stretched(values.reshape(layout.height, layout.width, -1), layout.bits)
    full = values.dtype.type(np.iinfo(values.dtype).max)
    pixels = values[:, :, : layout.channels]
    if layout.photometric == WHITE_IS_ZERO:
        pixels = full - pixels
    alpha = None
    kind = next((kind for kind in layout.extra if kind in (ASSOCIATED, STRAIGHT)), None)
    if kind is not None:
        alpha = values[:, :, layout.channels + layout.extra.index(kind)][:, :, None]
        if kind == ASSOCIATED:
            divided = np.round(pixels * (float(full) / np.maximum(alpha, 1)))
            pixels = np.minimum(divided, full).astype(values.dtype)
    return np.ascontiguousarray(pixels), alpha


def _stretched(values: NDArray[Any], bits: int) -> NDArray[Any]:
    """Numbers of 1 to 16 bits, scaled to the whole range of 8 or 16."""
    if bits in (8, 16):
        return values.astype(np.uint8 if bits == 8 else np.uint16, copy=False)
    full, kind = (255, np.uint8) if bits < 8 else (65535, np.uint16)
    most = 2**bits - 1
    table = np.arange(most + 1) * full * 2 + most  # rounded, in integers
    stretched: NDArray[Any] = (table // (2 * most)).astype(kind)[values.astype(np.uint16)]
    return stretched


def _one(value: object) -> object:
    """The single value of a tag that has one for each sample, all alike; else all of them."""
    if isinstance(value, tuple):
        return int(value[0]) if len(set(value)) == 1 else tuple(map(int, value))
    return int(value)  # type: ignore[call-overload]


def _bytes(value: object) -> bytes | None:
    return bytes(value) if isinstance(value, bytes) else None


def _dpi(page: Any) -> tuple[float, float] | None:
    per_inch = {2: 1.0, 3: 2.54}.get(int(page.tags.valueof(UNIT, 2)))
    found = [page.tags.valueof(tag) for tag in RESOLUTION]
    if per_inch is None or not all(isinstance(value, tuple) and len(value) == 2 and value[1] for value in found):
        return None
    x, y = (above / below * per_inch for above, below in found)
    return (x, y) if x > 0 and y > 0 else None
