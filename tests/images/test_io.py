"""Reading and writing files of every kind, written here by Pillow or by hand."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image as Pillow

from restore.errors import UserError
from restore.images.io import (
    list_images,
    read_image,
    remove_leftovers,
    to_uint8,
    write_atomically,
    write_image,
)

RANDOM = np.random.default_rng(0)
RGB = RANDOM.integers(0, 256, (6, 8, 3), np.uint8)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tiff"])
def test_colour_is_read_in_rgb_order(tmp_path: Path, suffix: str) -> None:
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


def test_a_failed_write_leaves_the_old_file_and_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.txt"
    write_atomically(path, "old")

    def disk_full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", disk_full)
    with pytest.raises(UserError, match="No space left on device"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_leftovers_of_killed_processes_are_found_by_the_file_they_were_for(tmp_path: Path) -> None:
    names = {".a.png.x0_y1z2q", ".b.png.x0_y1z2q", "a.png", ".hidden.png", ".a.png.backup"}
    for name in names:
        (tmp_path / name).touch()
    remove_leftovers([tmp_path / "a.png", tmp_path / "gone" / "c.png"])
    assert {path.name for path in tmp_path.iterdir()} == names - {".a.png.x0_y1z2q"}
