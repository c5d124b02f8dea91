"""Pictures of every kind, written here by Pillow, tifffile or by hand."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageCms, ImageOps

from restore.errors import UserError
from restore.images.decode import Picture, picture_size, read_picture
from restore.images.picture import check_target, lost_metadata, write_picture

RANDOM = np.random.default_rng(0)
RGB = RANDOM.integers(0, 256, (6, 8, 3), np.uint8)
GRAY = RGB[:, :, :1]
ALPHA = RANDOM.integers(0, 256, (6, 8, 1), np.uint8)
RGB16 = RANDOM.integers(0, 65536, (6, 8, 3), np.uint16)
ALPHA16 = RANDOM.integers(0, 65536, (6, 8, 1), np.uint16)
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
GRAY_PROFILE = PROFILE[:16] + b"GRAY" + PROFILE[20:]  # its tags are an RGB profile's, but nobody looks at them here
ORIENTATION, MAKE = 0x0112, 0x010F


def png(values: NDArray[np.uint16], color_type: int, **chunks: bytes) -> bytes:
    """A PNG of 16 bits by the letter of its specification, big-endian rows after a filter byte."""

    def chunk(name: str, content: bytes) -> bytes:
        body = name.encode() + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, color_type, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    others = b"".join(chunk(name, content) for name, content in chunks.items())
    signature = b"\x89PNG\r\n\x1a\n"
    return signature + chunk("IHDR", header) + others + chunk("IDAT", zlib.compress(rows)) + chunk("IEND", b"")


def assert_equal(picture: Picture, pixels: NDArray[np.generic], alpha: NDArray[np.generic] | None = None) -> None:
    np.testing.assert_array_equal(picture.pixels, pixels, strict=True)
    assert (picture.alpha is None) == (alpha is None)
    if alpha is not None:
        np.testing.assert_array_equal(picture.alpha, alpha, strict=True)


@pytest.mark.parametrize("suffix", [".png", ".tiff", ".webp"])
@pytest.mark.parametrize("alpha", [None, ALPHA])
@pytest.mark.parametrize("pixels", [RGB, GRAY])
def test_eight_bits_are_read_as_pillow_wrote_them(
    tmp_path: Path, pixels: NDArray[np.uint8], alpha: NDArray[np.uint8] | None, suffix: str
) -> None:
    values = pixels if alpha is None else np.concatenate([pixels, alpha], axis=2)
    options = {"lossless": True, "exact": True} if suffix == ".webp" else {}
    Pillow.fromarray(values.squeeze()).save(tmp_path / f"x{suffix}", **options)
    expected = pixels.repeat(3, axis=2) if suffix == ".webp" and pixels is GRAY else pixels  # WebP has no gray
    assert_equal(read_picture(tmp_path / f"x{suffix}"), expected, alpha)


def test_palettes_and_transparent_colors_are_resolved(tmp_path: Path) -> None:
    blocks = np.repeat(RGB[:1, :2], 3, axis=0)
    indexed = Pillow.fromarray(blocks).quantize(2)
    indexed.save(tmp_path / "x.png", transparency=0)
    opaque = (np.asarray(indexed)[:, :, None] != 0).astype(np.uint8) * 255
    assert_equal(read_picture(tmp_path / "x.png"), blocks, opaque)
    Pillow.fromarray(GRAY[:, :, 0]).save(tmp_path / "gray.png", transparency=int(GRAY[0, 0, 0]))
    assert_equal(read_picture(tmp_path / "gray.png"), GRAY, (GRAY[0, 0, 0] != GRAY).astype(np.uint8) * 255)
    Pillow.fromarray(GRAY[:, :, 0] > 127).save(tmp_path / "bilevel.png")
    assert_equal(read_picture(tmp_path / "bilevel.png"), (GRAY > 127).astype(np.uint8) * 255)


def test_sixteen_bits_are_read_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    for color_type, values, pixels, alpha in (
        (0, RGB16[:, :, :1], RGB16[:, :, :1], None),
        (2, RGB16, RGB16, None),
        (4, np.dstack([RGB16[:, :, :1], ALPHA16]), RGB16[:, :, :1], ALPHA16),
        (6, np.dstack([RGB16, ALPHA16]), RGB16, ALPHA16),
    ):
        path.write_bytes(png(values, color_type))
        assert_equal(read_picture(path), pixels, alpha)
    for values, photometric in ((RGB16, "rgb"), (RGB16[:, :, 0], "minisblack")):
        tifffile.imwrite(tmp_path / "x.tif", values, photometric=photometric)
        assert_equal(read_picture(tmp_path / "x.tif"), values.reshape(6, 8, -1))


@pytest.mark.parametrize("channels", [1, 3])
def test_a_transparent_color_of_sixteen_bits_becomes_alpha(tmp_path: Path, channels: int) -> None:
    values = RGB16[:, :, :channels]
    content = png(values, 0 if channels == 1 else 2, tRNS=values[2, 3].astype(">u2").tobytes())
    (tmp_path / "x.png").write_bytes(content)
    alpha = np.full((6, 8, 1), 65535, np.uint16)
    alpha[2, 3] = 0
    assert_equal(read_picture(tmp_path / "x.png"), values, alpha)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["8.png", "16.png", "8.tif", "16.tif", "8.webp"])
def test_orientation_is_applied_once_and_for_all(tmp_path: Path, kind: str, orientation: int) -> None:
    values = RGB if kind.startswith("8") else RGB.astype(np.uint16) * 257
    exif = Pillow.Exif()
    exif[ORIENTATION], exif[MAKE] = orientation, "Maker"
    plain = Pillow.fromarray(RGB)
    plain.getexif()[ORIENTATION] = orientation
    expected = np.asarray(ImageOps.exif_transpose(plain))
    path = tmp_path / kind
    if kind.endswith("tif"):
        tifffile.imwrite(path, values, photometric="rgb", extratags=[(ORIENTATION, "H", 1, orientation, True)])
    elif kind == "16.png":
        path.write_bytes(png(values, 2, eXIf=exif.tobytes().removeprefix(b"Exif\0\0")))
    else:
        plain.save(path, exif=exif, **({"lossless": True} if "webp" in kind else {}))

    picture = read_picture(path)
    assert_equal(picture, expected if kind.startswith("8") else expected.astype(np.uint16) * 257)
    height, width = picture_size(path, 1)
    assert height * width == 48

    write_picture(tmp_path / f"out{path.suffix}", picture)
    with Pillow.open(tmp_path / f"out{path.suffix}") as written:
        shown = ImageOps.exif_transpose(written)
        assert shown.getexif().get(MAKE) == (None if kind.endswith("tif") else "Maker")
        assert ORIENTATION not in written.getexif() or kind.endswith("tif")
        np.testing.assert_array_equal(np.asarray(shown), expected)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("compression", ["raw", "tiff_lzw"])
@pytest.mark.parametrize("mode", ["P", "CMYK"])
def test_a_tiff_file_of_a_palette_or_of_inks_is_turned(
    tmp_path: Path, mode: str, compression: str, orientation: int
) -> None:
    path = tmp_path / "x.tif"
    plain = Pillow.fromarray(np.kron(RGB, np.ones((5, 8, 1), np.uint8))).convert(mode)
    plain.save(path, compression=compression, tiffinfo={ORIENTATION: orientation}, dpi=(72, 144))
    picture = read_picture(path)
    expected = plain.convert("RGB")
    expected.getexif()[ORIENTATION] = orientation
    np.testing.assert_array_equal(picture.pixels, np.asarray(ImageOps.exif_transpose(expected)))
    assert picture.dpi == ((144, 72) if orientation > 4 else (72, 144))


@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp", ".bmp", ".jpg"])
def test_what_is_written_is_read_again_but_for_what_is_announced(
    tmp_path: Path, suffix: str, dtype: type, channels: int, alpha: bool
) -> None:
    full = np.iinfo(dtype).max
    pixels = (RGB if channels == 3 else GRAY).astype(dtype) * dtype(full // 255)
    exif = Pillow.Exif()
    exif[MAKE] = "Maker"
    shades = ALPHA.astype(dtype) * dtype(full // 255) if alpha else None
    profile = PROFILE if channels == 3 else GRAY_PROFILE
    picture = Picture(pixels, shades, profile, exif.tobytes().removeprefix(b"Exif\0\0"))
    path = tmp_path / f"x{suffix}"
    write_picture(path, picture)
    read = read_picture(path)
    lost = lost_metadata(path, picture)
    assert ("16 bits per channel" in lost) == (read.pixels.dtype != dtype)
    assert ("an alpha channel" in lost) == (alpha and read.alpha is None)
    assert any("an ICC profile" in words for words in lost) == (read.icc != profile)
    assert ("an EXIF block" in lost) == (read.exif is None)
    if suffix == ".jpg":
        assert read.pixels.shape == pixels.shape
        return
    wide = pixels.shape != read.pixels.shape  # WebP; BMP with alpha
    assert not wide or (channels == 1 and (alpha or suffix == ".webp"))
    shown = (read.pixels // (np.iinfo(read.pixels.dtype).max // 255)).astype(np.uint8)
    np.testing.assert_array_equal(shown, np.broadcast_to(RGB if channels == 3 else GRAY, shown.shape))
    if read.alpha is not None:
        np.testing.assert_array_equal(read.alpha // (np.iinfo(read.alpha.dtype).max // 255), ALPHA)


def test_other_programs_see_sixteen_bits_and_their_profile(tmp_path: Path) -> None:
    for suffix in (".png", ".tiff"):
        write_picture(tmp_path / f"x{suffix}", Picture(RGB16, ALPHA16, PROFILE))
        with Pillow.open(tmp_path / f"x{suffix}") as file:
            assert file.info["icc_profile"] == PROFILE
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "x.tiff"), np.dstack([RGB16, ALPHA16]))
    assert (tmp_path / "x.png").read_bytes()[24] == 16


def test_cmyk_becomes_rgb(tmp_path: Path) -> None:
    inks = np.broadcast_to(np.array([200, 100, 0, 50], np.uint8), (16, 16, 4))
    Pillow.fromarray(inks, "CMYK").save(tmp_path / "x.jpg", quality=100)
    pixels = read_picture(tmp_path / "x.jpg").pixels.astype(float)
    expected = (255.0 - inks[:, :, :3]) * (255 - 50) / 255
    np.testing.assert_allclose(pixels, expected, atol=3)


def cmyk_profile(cyan: tuple[int, int, int]) -> bytes:
    """A printer's profile by the letter of ICC.1: paper is white, full cyan the given 8-bit Lab, all else black."""
    table = np.zeros((2, 2, 2, 2, 3), np.uint8)
    table[...] = (0, 128, 128)
    table[0, 0, 0, 0], table[1, 0, 0, 0] = (255, 128, 128), cyan
    identity = bytes(range(256))
    matrix = struct.pack(">9i", *np.eye(3, dtype=int).ravel() * 65536)
    lut = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + matrix + identity * 4 + table.tobytes() + identity * 3
    tags = struct.pack(">I4sII", 1, b"A2B0", 128 + 16, len(lut))
    white = struct.pack(">3i", 63190, 65536, 54061)
    start = struct.pack(">I4xI4s4s4s12x4s28x", 128 + 16 + len(lut), 0x02400000, b"prtr", b"CMYK", b"Lab ", b"acsp")
    return (start + white).ljust(128, b"\0") + tags + lut


def test_cmyk_becomes_rgb_by_its_profile_which_is_not_kept(tmp_path: Path) -> None:
    inks = np.broadcast_to(np.array([255, 0, 0, 0], np.uint8), (16, 16, 4))
    Pillow.fromarray(inks, "CMYK").save(tmp_path / "x.jpg", quality=100, icc_profile=cmyk_profile((128, 128, 128)))
    picture = read_picture(tmp_path / "x.jpg")
    np.testing.assert_allclose(picture.pixels, 119, atol=3)  # L* = 50 is 119 in sRGB, and not cyan
    assert picture.icc is None
    Pillow.fromarray(inks, "CMYK").save(tmp_path / "x.jpg", quality=100, icc_profile=b"nonsense")
    np.testing.assert_allclose(read_picture(tmp_path / "x.jpg").pixels[0, 0], (0, 255, 255), atol=3)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tiff", ".webp"])
def test_damaged_notes_and_profiles_do_not_cost_the_image(tmp_path: Path, suffix: str) -> None:
    first, second = tmp_path / f"first{suffix}", tmp_path / "second.png"
    notes = {} if suffix == ".tiff" else {"exif": b"Exif\0\0no notes"}  # Pillow writes no such notes into TIFF
    Pillow.fromarray(GRAY[:, :, 0]).save(first, icc_profile=b"no profile", **notes)
    picture = read_picture(first)
    lost = lost_metadata(second, picture)
    assert "a damaged ICC profile" in lost
    assert suffix == ".tiff" or "a damaged EXIF block" in lost
    write_picture(second, picture)
    assert_equal(read_picture(second), picture.pixels)
    with Pillow.open(second) as file:
        assert "icc_profile" not in file.info


def test_a_photograph_with_a_preview_behind_it_is_a_single_image(tmp_path: Path) -> None:
    photo = Pillow.fromarray(RGB.repeat(8, axis=0).repeat(8, axis=1))
    photo.save(tmp_path / "x.jpg", format="MPO", save_all=True, append_images=[photo.resize((8, 6))])
    assert picture_size(tmp_path / "x.jpg", 1) == (48, 64)
    assert read_picture(tmp_path / "x.jpg").pixels.shape == (48, 64, 3)


@pytest.mark.parametrize("name", ["x.gif", "x.png", "x.webp", "x.tif"])
def test_animations_and_several_pages_are_refused(tmp_path: Path, name: str) -> None:
    frames = [Pillow.fromarray(np.roll(RGB, step, axis=1)) for step in range(3)]
    frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
    with pytest.raises(UserError, match="3 pages" if name == "x.tif" else "an animation of 3 frames"):
        picture_size(tmp_path / name, 1)


def test_a_large_image_is_refused_by_its_header(tmp_path: Path) -> None:
    header_alone = png(np.zeros((1, 1, 1), np.uint16), 0)[:33]
    size = struct.pack(">II", 60000, 20000)
    body = header_alone[12:16] + size + header_alone[24:29]
    content = (
        header_alone[:12] + body + struct.pack(">I", zlib.crc32(body)) + struct.pack(">I4s", 1, b"IDAT") + bytes(5)
    )
    (tmp_path / "x.png").write_bytes(content)
    with pytest.raises(UserError, match=r"60000 x 20000 \(1200 megapixels\) exceed the limit of 500"):
        picture_size(tmp_path / "x.png", 500)
    assert picture_size(tmp_path / "x.png", 1200) == (20000, 60000)


@pytest.mark.parametrize("kind", ["jpg", "png", "tiff", "webp", "16.png", "16.tiff"])
def test_a_truncated_file_is_refused(tmp_path: Path, kind: str) -> None:
    large = RANDOM.integers(0, 256, (60, 80, 3), np.uint8)
    path = tmp_path / f"x.{kind}"
    write_picture(path, Picture(large.astype(np.uint16) * 257 if kind.startswith("16") else large))
    whole = path.read_bytes()
    for part in (0.3, 0.7, 0.95):
        path.write_bytes(whole[: int(len(whole) * part)])
        with pytest.raises(UserError, match="not a readable image"):
            read_picture(path)


def test_quality_is_for_jpeg_and_webp_and_webp_is_lossless_without(tmp_path: Path) -> None:
    photo = np.asarray(Pillow.fromarray(RGB).resize((64, 48), Pillow.Resampling.BICUBIC))
    sizes = {}
    for quality in (None, 90, 30):
        for suffix in (".jpg", ".webp"):
            write_picture(tmp_path / f"x{suffix}", Picture(photo), quality)
            sizes[suffix, quality] = (tmp_path / f"x{suffix}").stat().st_size
    assert sizes[".jpg", 30] < sizes[".jpg", 90] < sizes[".jpg", None]
    assert sizes[".webp", 30] < sizes[".webp", 90]
    expected = io.BytesIO()
    Pillow.fromarray(photo).save(expected, "JPEG", quality=95, subsampling="4:4:4")
    assert sizes[".jpg", None] == len(expected.getvalue())


def test_a_target_that_cannot_hold_the_image_is_refused_before(tmp_path: Path) -> None:
    check_target(tmp_path / "x.png", 2, 100_000)
    with pytest.raises(UserError, match=r"x\.jpg: 70000 x 2, jpg files are limited to 65500 pixels per side"):
        check_target(tmp_path / "x.jpg", 2, 70_000)
    with pytest.raises(UserError, match=r"x\.webp: 2 x 16384"):
        check_target(tmp_path / "x.webp", 16384, 2)
    with pytest.raises(
        UserError, match=r"x\.gif: \.gif files cannot be written; choose png, jpg, tiff, webp or bmp with --format"
    ):
        check_target(tmp_path / "x.gif", 2, 2)
