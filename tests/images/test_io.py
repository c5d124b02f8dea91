"""Reading and writing files of every kind, written here by Pillow or by hand."""

import struct
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow

from restore.errors import UserError
from restore.images.io import list_images, read_image, write_image
from restore.images.pixels import to_uint8

ROOT = Path(__file__).parents[2]
RANDOM = np.random.default_rng(0)
RGB = RANDOM.integers(0, 256, (6, 8, 3), np.uint8)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tiff"])
def test_color_is_read_in_rgb_order(tmp_path: Path, suffix: str) -> None:
    Pillow.fromarray(RGB).save(tmp_path / f"x{suffix}")
    np.testing.assert_array_equal(read_image(tmp_path / f"x{suffix}"), RGB)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".jpg"])
def test_gray_stays_gray(tmp_path: Path, suffix: str) -> None:
    Pillow.fromarray(np.full((5, 7), 90, np.uint8)).save(tmp_path / f"x{suffix}")
    image = read_image(tmp_path / f"x{suffix}")
    assert image.shape == (5, 7, 1)
    assert (image == 90).all()


def test_palettes_are_resolved(tmp_path: Path) -> None:
    flat = np.repeat(RGB[:1, :2], 3, axis=0)
    Pillow.fromarray(flat).quantize(2).save(tmp_path / "x.png")
    np.testing.assert_array_equal(read_image(tmp_path / "x.png"), flat)


def test_alpha_is_left_out(tmp_path: Path) -> None:
    Pillow.fromarray(np.dstack([RGB, RGB[:, :, :1]])).save(tmp_path / "x.png")
    np.testing.assert_array_equal(read_image(tmp_path / "x.png"), RGB)


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    exif = Pillow.Exif()
    exif[0x0112] = 6  # the camera was turned by 90 degrees
    Pillow.fromarray(np.full((8, 16, 3), 128, np.uint8)).save(tmp_path / "x.jpg", exif=exif)
    assert read_image(tmp_path / "x.jpg").shape == (16, 8, 3)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_sixteen_bits_survive_writing_and_reading(tmp_path: Path, suffix: str, channels: int) -> None:
    image = RANDOM.integers(0, 65536, (5, 4, channels), np.uint16)
    write_image(tmp_path / f"x{suffix}", image)
    read = read_image(tmp_path / f"x{suffix}")
    assert read.dtype == np.uint16
    np.testing.assert_array_equal(read, image)


def test_sixteen_bits_become_eight_by_rounding_not_by_cutting() -> None:
    levels = np.arange(65536, dtype=np.uint16)
    np.testing.assert_array_equal(to_uint8(levels), np.floor(levels / 65535 * 255 + 0.5))


def test_images_are_listed_sorted_through_sub_folders(tmp_path: Path) -> None:
    for name in ("b.png", "a.PNG", "sub/c.jpg", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [path.name for path in list_images(tmp_path)] == ["a.PNG", "b.png", "c.jpg"]


def damaged(kind: str) -> bytes:
    whole = cv2.imencode(".png", np.tile(RGB, (40, 40, 1)))[1].tobytes()
    return {
        "truncated header": whole[:20],
        "truncated data": whole[: len(whole) * 9 // 10],
        "no bytes": b"",
        "text": b"not an image",
        "bit flip": b"\x00" + whole[1:],
    }[kind]


@pytest.mark.parametrize("kind", ["truncated header", "truncated data", "no bytes", "text", "bit flip"])
def test_a_file_that_is_no_image_is_named(tmp_path: Path, kind: str) -> None:
    (tmp_path / "broken.png").write_bytes(damaged(kind))
    with pytest.raises(UserError, match=r"broken\.png: not a readable image"):
        read_image(tmp_path / "broken.png")


def test_missing_files_folders_and_empty_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gone\.png: cannot be read"):
        read_image(tmp_path / "gone.png")
    with pytest.raises(UserError, match="expected a folder of images, found nothing"):
        list_images(tmp_path / "gone")
    with pytest.raises(UserError, match="no image found"):
        list_images(tmp_path)


def test_an_unknown_format_is_refused_before_writing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot write \.xyz"):
        write_image(tmp_path / "x.xyz", RGB)


IMPORTED = """
import logging, warnings, cv2
from PIL import Image
from restore.images.decode import read_picture
from restore.images.picture import write_picture
guards = lambda: (Image.MAX_IMAGE_PIXELS, cv2.utils.logging.getLogLevel(), len(logging.getLogger("tifffile").filters))
import sys
print(guards() == (89478485, cv2.utils.logging.LOG_LEVEL_WARNING, 0) or guards())
from pathlib import Path
filters = list(warnings.filters)
for path in sys.argv[1:]:
    try:
        write_picture(Path(path + ".png"), read_picture(Path(path)))
    except ValueError:
        pass
print(guards() == (89478485, cv2.utils.logging.LOG_LEVEL_WARNING, 0) and warnings.filters == filters)
"""


def test_neither_import_nor_use_changes_what_other_libraries_do_in_this_process(tmp_path: Path) -> None:
    write_image(tmp_path / "x.tif", RGB)
    (tmp_path / "broken.png").write_bytes(damaged("truncated data"))
    args = [sys.executable, "-c", IMPORTED, str(tmp_path / "x.tif"), str(tmp_path / "broken.png")]
    done = subprocess.run(args, capture_output=True, text=True, check=True, cwd=ROOT)
    assert (done.stdout, done.stderr) == ("True\nTrue\n", "")


def png_claiming(length: int, chunk: bytes, content: bytes) -> bytes:
    """A PNG file in which the first chunk of this name claims to be so long."""
    place = content.index(chunk) - 4
    return content[:place] + struct.pack(">I", length) + content[place + 4 :]


MEASURED_READING = """
import pathlib, resource, sys
from restore.images.io import read_image
for number, path in enumerate(sys.argv[1:]):
    try:
        read_image(pathlib.Path(path))
        print("read")
    except Exception as error:
        print(error)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    before = before if number else peak
print((peak - before) // 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory in KiB")
def test_a_chunk_that_claims_more_than_its_file_is_refused_before_memory_is_taken(tmp_path: Path) -> None:
    whole = cv2.imencode(".png", RGB)[1].tobytes()
    files = {"whole": whole, **{name: png_claiming(2**31 - 1, name.encode(), whole) for name in ("IHDR", "IDAT")}}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    args = [sys.executable, "-c", MEASURED_READING, *(tmp_path / name for name in files)]
    done = subprocess.run(args, capture_output=True, text=True, check=True, cwd=ROOT)
    first, *refused, grown_mib = done.stdout.splitlines()
    assert first == "read"
    assert refused == [f"{tmp_path / name}: not a readable image (truncated or damaged)" for name in ("IHDR", "IDAT")]
    assert int(grown_mib) < 20  # OpenCV would take 2 GiB


def test_an_image_larger_than_the_limit_is_refused_whatever_its_format(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flat = np.zeros((1000, 1500, 3), np.uint8)
    for suffix in (".png", ".jpg", ".tiff", ".webp", ".bmp"):
        path = tmp_path / f"x{suffix}"
        write_image(path, flat)
        monkeypatch.setenv("RESTORE_MAX_MEGAPIXELS", "1.4")
        with pytest.raises(UserError, match=rf"x\{suffix}: 1500 x 1000 .* limit of 1.4 \(RESTORE_MAX_MEGAPIXELS"):
            read_image(path)
        monkeypatch.setenv("RESTORE_MAX_MEGAPIXELS", "1.5")
        assert read_image(path).shape == flat.shape


def test_a_file_longer_than_any_image_within_the_limit_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "x.bmp").open("wb") as file:
        file.truncate(5 * 10**9)  # of zeros that take no place on the disk
    with pytest.raises(UserError, match=r"x\.bmp: 5000 MB exceed what an image of 500 megapixels can take"):
        read_image(tmp_path / "x.bmp")


@pytest.mark.parametrize("value", ["no", "0", "-3", "nan"])
def test_a_limit_that_is_no_number_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    write_image(tmp_path / "x.png", RGB)
    monkeypatch.setenv("RESTORE_MAX_MEGAPIXELS", value)
    with pytest.raises(UserError, match=f"RESTORE_MAX_MEGAPIXELS: expected a number above 0, found {value}"):
        read_image(tmp_path / "x.png")


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    channels=st.sampled_from([1, 3]),
    deep=st.booleans(),
    suffix=st.sampled_from([".png", ".tif", ".bmp", ".webp"]),
    seed=st.integers(0, 2**32 - 1),
)
def test_whatever_its_shape_an_image_comes_back_as_it_was_written(
    tmp_path: Path, height: int, width: int, channels: int, deep: bool, suffix: str, seed: int
) -> None:
    kind = np.uint16 if deep and suffix in (".png", ".tif") else np.uint8
    image = np.random.default_rng(seed).integers(0, np.iinfo(kind).max + 1, (height, width, channels), kind)
    expected = image
    if suffix == ".webp":  # knows color only, and is written with losses
        expected = np.full((height, width, 3), image[0, 0, 0], kind)
        image = np.full_like(image, image[0, 0, 0])
    write_image(tmp_path / f"x{suffix}", image)
    read = read_image(tmp_path / f"x{suffix}")
    assert read.dtype == kind
    np.testing.assert_allclose(read.astype(int), expected.astype(int), atol=2 if suffix == ".webp" else 0)
