"""Sound image files that are read wrongly by one decoder or another, with the pixels that they mean.

Written by tifffile, by Pillow or by hand; the pixels are this module's own, so nothing is asked of the program.
"""

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image as Pillow

HEIGHT, WIDTH = 34, 50
RANDOM = np.random.default_rng(0)
RGB16 = RANDOM.integers(0, 65536, (HEIGHT, WIDTH, 3), np.uint16)
ALPHA16 = RANDOM.integers(1, 65536, (HEIGHT, WIDTH, 1), np.uint16)
ALPHA16[:5] = 65535
RGB8, ALPHA8 = (RGB16 >> 8).astype(np.uint8), np.maximum(ALPHA16 >> 8, 1).astype(np.uint8)


class Odd(NamedTuple):
    """A file's name, what it means, and for files that cannot be read the tag that has to be named."""

    name: str
    pixels: NDArray[Any] | None
    alpha: NDArray[Any] | None = None
    refused: str = ""


def write_odd_files(folder: Path) -> list[Odd]:
    """Write one file of each kind."""
    folder.mkdir(parents=True)
    return [*_planes(folder), *_grays(folder), *_alphas(folder), *_transparent_keys(folder), *_refused(folder)]


def _planes(folder: Path) -> Iterator[Odd]:
    for bits, rgb, alpha in ((8, RGB8, ALPHA8), (16, RGB16, ALPHA16)):
        for planar in ("contig", "separate"):
            for compression in (None, "zlib", "lzw", "packbits"):
                for layout, options in (
                    ("strips", {}), ("tiles", {"tile": (16, 32)}), ("big", {"bigtiff": True}),
                    ("motorola", {"byteorder": ">"}), ("differences", {"predictor": True}),
                ):  # fmt: skip
                    if layout == "differences" and compression in (None, "packbits"):
                        continue
                    name = f"rgb{bits}-{planar}-{compression}-{layout}.tif"
                    values = rgb if planar == "contig" else np.moveaxis(rgb, 2, 0)
                    tifffile.imwrite(
                        folder / name,
                        values,
                        photometric="rgb",
                        planarconfig=planar,
                        compression=compression,
                        **options,
                    )
                    yield Odd(name, rgb)
        values = np.concatenate([rgb, alpha], axis=2)
        name = f"rgba{bits}-separate.tif"
        tifffile.imwrite(
            folder / name, np.moveaxis(values, 2, 0), photometric="rgb", planarconfig="separate",
            extrasamples=["unassalpha"],
        )  # fmt: skip
        yield Odd(name, rgb, alpha)
        name = f"fourth{bits}.tif"
        tifffile.imwrite(folder / name, values, photometric="rgb", extrasamples=["unspecified"])
        yield Odd(name, rgb)


def _grays(folder: Path) -> Iterator[Odd]:
    for white_is_zero in (False, True):
        for bits in (1, 2, 4, 6, 8, 9, 10, 12, 14, 16):
            most = 2**bits - 1
            stored = RANDOM.integers(0, most + 1, (HEIGHT, WIDTH), np.uint32)
            name = f"gray{bits}-{'white' if white_is_zero else 'black'}.tif"
            (folder / name).write_bytes(packed_tiff(stored, bits, white_is_zero))
            full, kind = (255, np.uint8) if bits <= 8 else (65535, np.uint16)
            meant = most - stored if white_is_zero else stored
            yield Odd(name, np.floor(meant[:, :, None] * full / most + 0.5).astype(kind))


def packed_tiff(stored: NDArray[np.uint32], bits: int, white_is_zero: bool) -> bytes:
    """A TIFF file by the letter of TIFF 6.0: one strip, rows of whole bytes, big-endian bits."""
    height, width = stored.shape
    places = np.arange(bits - 1, -1, -1)
    rows = np.packbits((stored[:, :, None] >> places & 1).astype(np.uint8).reshape(height, -1), axis=1).tobytes()
    tags = [
        (256, width), (257, height), (258, bits), (259, 1), (262, 0 if white_is_zero else 1), (273, 8), (277, 1),
        (278, height), (279, len(rows)),
    ]  # fmt: skip
    directory = struct.pack(">H", len(tags)) + b"".join(struct.pack(">HHII", tag, 4, 1, value) for tag, value in tags)
    return struct.pack(">2sHI", b"MM", 42, 8 + len(rows)) + rows + directory + bytes(4)


def _alphas(folder: Path) -> Iterator[Odd]:
    for bits, rgb, alpha in ((8, RGB8, ALPHA8), (16, RGB16, ALPHA16)):
        gray = rgb[:, :, :1]
        tifffile.imwrite(
            folder / f"la{bits}.tif", np.concatenate([gray, alpha], axis=2), photometric="minisblack",
            planarconfig="contig", extrasamples=["unassalpha"],
        )  # fmt: skip
        yield Odd(f"la{bits}.tif", gray, alpha)
        opaque = np.full_like(alpha, np.iinfo(alpha.dtype).max)
        multiplied = np.concatenate([rgb, opaque], axis=2)
        tifffile.imwrite(
            folder / f"premultiplied{bits}.tif", multiplied, photometric="rgb", extrasamples=["assocalpha"]
        )
        yield Odd(f"premultiplied{bits}.tif", rgb, opaque)
    half = np.full((HEIGHT, WIDTH, 1), 128, np.uint8)
    values = np.concatenate([np.full((HEIGHT, WIDTH, 3), 64, np.uint8), half], axis=2)
    tifffile.imwrite(folder / "half-covered.tif", values, photometric="rgb", extrasamples=["assocalpha"])
    yield Odd("half-covered.tif", np.full((HEIGHT, WIDTH, 3), 128, np.uint8), half)


def png(values: NDArray[Any], depth: int, color_type: int, **chunks: bytes) -> bytes:
    """A PNG file by the letter of its specification, big-endian rows of whole bytes after a filter byte."""

    def chunk(name: str, content: bytes) -> bytes:
        body = name.encode() + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    height, width = values.shape[:2]
    if depth < 8:
        places = np.arange(depth - 1, -1, -1)
        rows = np.packbits(
            (values.reshape(height, width, 1) >> places & 1).reshape(height, -1).astype(np.uint8), axis=1
        )
    else:
        rows = values.astype(f">u{depth // 8}").reshape(height, -1)
    lines = b"".join(b"\0" + row.tobytes() for row in rows)
    header = struct.pack(">IIBBBBB", width, height, depth, color_type, 0, 0, 0)
    others = b"".join(chunk(name, content) for name, content in chunks.items())
    signature = b"\x89PNG\r\n\x1a\n"
    return signature + chunk("IHDR", header) + others + chunk("IDAT", zlib.compress(lines)) + chunk("IEND", b"")


def _transparent_keys(folder: Path) -> Iterator[Odd]:
    for depth in (1, 2, 4, 8, 16):
        most = 2**depth - 1
        gray = RANDOM.integers(0, most + 1, (HEIGHT, WIDTH, 1), np.uint16)
        key = int(gray[7, 9, 0])
        name = f"gray{depth}-key.png"
        (folder / name).write_bytes(png(gray, depth, 0, tRNS=struct.pack(">H", key)))
        full, kind = (255, np.uint8) if depth <= 8 else (65535, np.uint16)
        scale = full // most
        yield Odd(name, (gray * scale).astype(kind), np.where(gray == key, 0, full).astype(kind))
    palette = Pillow.fromarray(RANDOM.integers(0, 4, (HEIGHT, WIDTH), np.uint8), "P")
    colors, shades = RANDOM.integers(0, 256, (4, 3), np.uint8), np.array([255, 128, 7, 0], np.uint8)
    palette.putpalette(colors.tobytes())
    palette.save(folder / "palette.png", transparency=shades.tobytes())
    numbers = np.asarray(palette)
    yield Odd("palette.png", colors[numbers], shades[numbers][:, :, None])


def _refused(folder: Path) -> Iterator[Odd]:
    gray = RGB8[:, :, 0]
    signed = {"photometric": "minisblack"}
    for name, values, options, tag in (
        ("signed8", gray.astype(np.int8), signed, "SampleFormat 2 (signed integers)"),
        ("signed16", gray.astype(np.int16), signed, "SampleFormat 2 (signed integers)"),
        ("half-float", gray.astype(np.float16), signed, "SampleFormat 3 (floating-point numbers)"),
        ("float", RGB8.astype(np.float32), {"photometric": "rgb"}, "SampleFormat 3 (floating-point numbers)"),
        ("gray32", gray.astype(np.uint32), signed, "BitsPerSample 32"),
        ("cmyk16", np.dstack([RGB16, ALPHA16]), {"photometric": "separated"}, "BitsPerSample 16"),
        ("lab16", RGB16, {"photometric": "cielab"}, "BitsPerSample 16"),
        ("five", np.dstack([RGB8] * 2)[:, :, :5], {"photometric": "minisblack", "planarconfig": "contig"}, ""),
        ("mosaic", gray, {"photometric": "cfa", "extratags": [(33421, "H", 2, (2, 2)), (33422, "B", 4, bytes(4))]},
         "PhotometricInterpretation 32803"),
    ):  # fmt: skip
        tifffile.imwrite(folder / f"{name}.tif", values, **options)
        if tag:
            yield Odd(f"{name}.tif", None, None, f"{name}.tif: a TIFF file with {tag} cannot be read")
        else:
            yield Odd(f"{name}.tif", values[:, :, :1])
