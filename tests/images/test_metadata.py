"""What comes with a picture: kept, converted or named, in every format from every format, as other programs see it."""

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from odd_files import png
from PIL import Image as Pillow
from PIL import ImageCms

from restore.errors import UserError
from restore.images.decode import read_picture
from restore.images.picture import Picture, check_target, lost_metadata, write_picture

RANDOM = np.random.default_rng(0)
RGB = RANDOM.integers(0, 256, (12, 16, 3), np.uint8)
ALPHA = RANDOM.integers(1, 256, (12, 16, 1), np.uint8)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><r tiff:Orientation="6" dc:title="Title"/></x:xmpmeta>'
MAKE, ORIENTATION, GPS, EXIF_IFD, NOTE = 0x010F, 0x0112, 0x8825, 0x8769, 0x927C
ARTIST = 0x013B
SUFFIXES = (".png", ".jpg", ".tif", ".webp", ".bmp")


def exif_block(orientation: int = 1, note: bytes = b"maker's note") -> Pillow.Exif:
    exif = Pillow.Exif()
    exif[MAKE], exif[ORIENTATION] = "Maker", orientation
    exif.get_ifd(EXIF_IFD)[NOTE] = note
    exif.get_ifd(GPS)[1] = "N"
    return exif


def sources(folder: Path) -> dict[str, Path]:
    """A file of each format with all that it can carry, written by Pillow and tifffile."""
    image = Pillow.fromarray(RGB)
    with_alpha = Pillow.fromarray(np.concatenate([RGB, ALPHA], axis=2))
    paths = {suffix: folder / f"source{suffix}" for suffix in SUFFIXES}
    everything: dict[str, Any] = {"icc_profile": SRGB, "exif": exif_block()}
    image.save(paths[".jpg"], quality=95, dpi=(300, 300), xmp=XMP, **everything)
    with_alpha.save(
        paths[".webp"], lossless=True, exact=True, xmp=XMP, icc_profile=SRGB, exif=exif_block().tobytes()[6:]
    )
    image.save(paths[".bmp"], dpi=(300, 300))
    tifffile.imwrite(
        paths[".tif"], np.concatenate([RGB, ALPHA], axis=2).astype(np.uint16) * 257, photometric="rgb",
        extrasamples=["unassalpha"], iccprofile=SRGB, resolution=(300, 300), resolutionunit="inch", software="",
        extratags=[(MAKE, "s", 0, "Maker", True), (700, "B", len(XMP), XMP, True)],
    )  # fmt: skip
    packet = b"XML:com.adobe.xmp\0\0\0\0\0" + XMP
    values = np.concatenate([RGB, ALPHA], axis=2).astype(np.uint16) * 257
    chunks = {"gAMA": struct.pack(">I", 45455), "iCCP": b"p\0\0" + zlib.compress(SRGB)}
    chunks |= {"pHYs": struct.pack(">IIB", 11811, 11811, 1), "eXIf": exif_block().tobytes()[6:], "iTXt": packet}
    paths[".png"].write_bytes(png(values, 16, 6, **chunks))
    return paths


def carried(path: Path) -> dict[str, Any]:
    """What another program sees in a file: Pillow, and for depth and alpha OpenCV."""
    values = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    with Pillow.open(path) as file:
        file.load()
        exif = file.getexif()
        xmp = file.info.get("xmp") or getattr(file, "tag_v2", {}).get(700)
        dpi = file.info.get("dpi")
        if path.suffix == ".jpg" and not file.info.get("jfif_unit"):
            dpi = None
        return {
            "16 bits per channel": values.dtype == np.uint16,
            "an alpha channel": values.ndim == 3 and values.shape[2] == 4,
            "an ICC profile": file.info.get("icc_profile") == SRGB,
            "an EXIF block": exif.get(MAKE) == "Maker" and exif.get_ifd(EXIF_IFD).get(NOTE) == b"maker's note",
            "texts of EXIF": exif.get(MAKE) == "Maker",
            "an XMP packet": bool(xmp) and b"Title" in (xmp.encode() if isinstance(xmp, str) else bytes(xmp)),
            "dpi": dpi is not None and abs(float(dpi[0]) - 300) < 0.6,
            "PNG chunks": "gamma" in file.info,
        }


@pytest.mark.parametrize("target", SUFFIXES)
@pytest.mark.parametrize("source", SUFFIXES)
def test_what_came_with_a_picture_is_kept_or_named(tmp_path: Path, source: str, target: str) -> None:
    before = carried(path := sources(tmp_path)[source])
    assert before["an ICC profile"] == (source != ".bmp")
    picture = read_picture(path)
    written = tmp_path / f"written{target}"
    write_picture(written, picture)
    after, named = carried(written), "; ".join(lost_metadata(written, picture))
    for kind in before:
        if before[kind] and not after[kind]:
            words = {"dpi": "300 dpi", "PNG chunks": "the PNG chunks gAMA", "texts of EXIF": "an EXIF block"}
            assert words.get(kind, kind) in named, (kind, named)
    for words in ("16 bits", "an alpha channel", "an ICC profile", "an XMP packet"):
        kind = next(kind for kind in before if kind.startswith(words))
        assert not (words in named and after[kind]), f"{words} is there"
    if target == ".png" and source != ".png":
        assert named == ""


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".png"])
def test_an_orientation_is_taken_out_and_nothing_else_is_touched(tmp_path: Path, suffix: str) -> None:
    options = {"lossless": True} if suffix == ".webp" else {}
    Pillow.fromarray(RGB).save(tmp_path / f"x{suffix}", exif=exif_block(6), **options)
    picture = read_picture(tmp_path / f"x{suffix}")
    assert picture.pixels.shape == (16, 12, 3)
    for target in (".jpg", ".webp", ".png"):
        write_picture(tmp_path / f"out{target}", picture)
        with Pillow.open(tmp_path / f"out{target}") as file:
            exif = file.getexif()
            assert ORIENTATION not in exif
            assert exif[MAKE] == "Maker"
            assert exif.get_ifd(EXIF_IFD)[NOTE] == b"maker's note"
            assert exif.get_ifd(GPS)[1] == "N"


def test_an_orientation_in_a_directory_that_ends_early_is_taken_out_too(tmp_path: Path) -> None:
    directory = struct.pack("<HHHIHH", 2, ORIENTATION, 3, 1, 6, 0)  # states two entries, holds one
    Pillow.fromarray(RGB).save(tmp_path / "x.jpg", exif=b"Exif\0\0II*\0\x08\0\0\0" + directory)
    picture = read_picture(tmp_path / "x.jpg")
    assert picture.pixels.shape == (16, 12, 3)
    write_picture(tmp_path / "y.jpg", picture)
    with Pillow.open(tmp_path / "y.jpg") as file:
        assert file.size == (12, 16)
        assert ORIENTATION not in file.getexif()


@pytest.mark.parametrize(("suffix", "dpi", "kept"), [
    (".png", 5e7, True), (".png", 6e7, False), (".bmp", 6e7, False), (".jpg", 65535, True), (".jpg", 76200, False),
])  # fmt: skip
def test_a_resolution_that_a_format_cannot_hold_is_named(tmp_path: Path, suffix: str, dpi: float, kept: bool) -> None:
    picture = Picture(RGB, dpi=(dpi, dpi))
    write_picture(tmp_path / f"x{suffix}", picture)
    assert lost_metadata(tmp_path / f"x{suffix}", picture) == ([] if kept else [f"a resolution of {dpi:.0f} dpi"])
    found = read_picture(tmp_path / f"x{suffix}").dpi
    assert found == (pytest.approx((dpi, dpi)) if kept else None)


def test_a_png_that_is_too_wide_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"png files are limited to 1000000 pixels per side; try --format tiff"):
        check_target(tmp_path / "x.png", 1, 1_000_001)


def test_the_orientation_in_xmp_goes_as_well(tmp_path: Path) -> None:
    Pillow.fromarray(RGB).save(tmp_path / "x.jpg", exif=exif_block(6), xmp=XMP)
    write_picture(tmp_path / "y.png", read_picture(tmp_path / "x.jpg"))
    content = (tmp_path / "y.png").read_bytes()
    assert b"Title" in content
    assert b"Orientation" not in content


def test_exif_that_is_too_long_for_a_jpeg_does_not_cost_the_image(tmp_path: Path) -> None:
    Pillow.fromarray(RGB).save(tmp_path / "x.png", exif=exif_block(note=bytes(70_000)))
    picture = read_picture(tmp_path / "x.png")
    write_picture(tmp_path / "x.jpg", picture)
    assert lost_metadata(tmp_path / "x.jpg", picture) == ["an EXIF block of 70 kB"]
    with Pillow.open(tmp_path / "x.jpg") as file:
        assert not file.getexif()
    write_picture(tmp_path / "y.png", picture)
    with Pillow.open(tmp_path / "y.png") as file:
        assert len(file.getexif().get_ifd(EXIF_IFD)[NOTE]) == 70_000


@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("target", SUFFIXES)
def test_a_profile_stays_with_the_channels_that_it_is_for(tmp_path: Path, target: str, alpha: bool) -> None:
    profile = SRGB[:16] + b"GRAY" + SRGB[20:]
    gray = RGB[:, :, :1].astype(np.uint16) * 257
    values = np.concatenate([gray, ALPHA.astype(np.uint16) * 257], axis=2) if alpha else gray
    compressed = zlib.compress(profile)
    (tmp_path / "x.png").write_bytes(png(values, 16, 4 if alpha else 0, iCCP=b"p\0\0" + compressed))
    picture = read_picture(tmp_path / "x.png")
    write_picture(tmp_path / f"y{target}", picture)
    if target == ".tif":  # Pillow reads no gray with alpha of 16 bits
        with tifffile.TiffFile(tmp_path / "y.tif") as file:
            found = file.pages[0].tags.valueof(34675)
    else:
        with Pillow.open(tmp_path / f"y{target}") as file:
            found = file.info.get("icc_profile")
    channels = cv2.imread(str(tmp_path / f"y{target}"), cv2.IMREAD_UNCHANGED)
    in_gray = target in (".png", ".tif", ".jpg")
    assert (found == profile) == in_gray
    assert any("profile" in words for words in lost_metadata(tmp_path / f"y{target}", picture)) == (not in_gray)
    if target == ".png":
        content = (tmp_path / "y.png").read_bytes()
        assert content[25] == (4 if alpha else 0)  # gray with alpha, which OpenCV shows as four channels
        np.testing.assert_array_equal(channels[:, :, 0] if channels.ndim == 3 else channels, gray[:, :, 0])


@pytest.mark.parametrize("target", [".jpg", ".tif", ".webp"])
def test_the_srgb_chunk_becomes_a_profile_and_a_linear_image_is_named(tmp_path: Path, target: str) -> None:
    (tmp_path / "x.png").write_bytes(png(RGB, 8, 2, sRGB=b"\0", gAMA=struct.pack(">I", 45455)))
    picture = read_picture(tmp_path / "x.png")
    write_picture(tmp_path / f"y{target}", picture)
    with Pillow.open(tmp_path / f"y{target}") as file:
        described = ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(file.info["icc_profile"])))
    assert "sRGB" in described
    assert lost_metadata(tmp_path / f"y{target}", picture) == []
    (tmp_path / "linear.png").write_bytes(png(RGB, 8, 2, gAMA=struct.pack(">I", 100_000)))
    assert lost_metadata(tmp_path / f"y{target}", read_picture(tmp_path / "linear.png")) == ["the PNG chunks gAMA"]
    write_picture(tmp_path / "kept.png", read_picture(tmp_path / "linear.png"))
    with Pillow.open(tmp_path / "kept.png") as file:
        assert file.info["gamma"] == 1.0


def test_texts_that_are_not_ascii_reach_tiff(tmp_path: Path) -> None:
    exif = Pillow.Exif()
    exif[ARTIST], exif[MAKE] = "Jürgen Müller ©", "Maker"
    Pillow.fromarray(RGB).save(tmp_path / "a.jpg", exif=exif)
    write_picture(tmp_path / "a.tif", read_picture(tmp_path / "a.jpg"))
    with Pillow.open(tmp_path / "a.jpg") as before, Pillow.open(tmp_path / "a.tif") as after:
        assert after.getexif()[ARTIST] == before.getexif()[ARTIST]
