"""Which image belongs to which."""

from pathlib import Path

import numpy as np
import pytest

from restore.data.catalog import find_images
from restore.data.pairing import check_restored_sizes, check_sizes
from restore.errors import UserError
from restore.images.io import write_image


def tree(root: Path, *names: str) -> None:
    for name in names:
        write_image(root / name, np.zeros((12, 12, 3), np.uint8))


def partners(root: Path, scale: int = 1) -> list[str]:
    images = find_images(str(root / "good"), "train", Path(), root / "bad", scale)
    return [path.relative_to(root / "bad").as_posix() for path in images.degraded[scale]]


def test_images_are_paired_by_their_paths_without_suffix(tmp_path: Path) -> None:
    tree(tmp_path, "good/a.png", "good/deep/a.png", "good/deep/b.x.png")
    tree(tmp_path, "bad/a.jpg", "bad/deep/a.bmp", "bad/deep/b.x.png")
    assert partners(tmp_path) == ["a.jpg", "deep/a.bmp", "deep/b.x.png"]


def test_low_resolution_images_may_end_in_their_scale(tmp_path: Path) -> None:
    tree(tmp_path, "good/0001.png", "good/0002.png", "bad/0001x3.png", "bad/0002.png")
    assert partners(tmp_path, 3) == ["0001x3.png", "0002.png"]


@pytest.mark.parametrize(("names", "complaint"), [
    (("good/a.png", "good/b.png", "bad/a.png"), r"bad: no counterpart for b\.png"),
    (("good/a.png", "bad/a.png", "bad/c.png"), r"bad: c\.png have no counterpart in the other folder"),
    (("good/a.png", "bad/a.png", "bad/ax2.png"), r"two counterparts for a\.png: a\.png, ax2\.png"),
    (("good/a.png", "bad/a.png", "bad/a.jpg"), r"a\.jpg and a\.png cannot be told apart"),
    (("good/a.png", "good/a.jpg", "bad/a.png"), r"good: a\.jpg and a\.png cannot be told apart"),
    (("good/x/a.png", "bad/y/a.png"), r"no counterpart for a\.png"),
    (("good/a.png",), "bad: expected a folder of images, found nothing"),
])  # fmt: skip
def test_what_cannot_be_paired_is_named(names: tuple[str, ...], complaint: str, tmp_path: Path) -> None:
    tree(tmp_path, *names)
    with pytest.raises(UserError, match=complaint):
        partners(tmp_path, 2)


def test_a_known_data_set_can_be_paired_with_a_folder(tmp_path: Path) -> None:
    tree(tmp_path, "DIV2K/DIV2K_train_HR/1.png", "mine/1.png")
    images = find_images("DIV2K", "train", tmp_path, tmp_path / "mine", 1)
    assert images.degraded == {1: (tmp_path / "mine/1.png",)}


@pytest.mark.parametrize(("clean", "degraded", "scale", "fits"), [
    ((20, 30), (20, 30), 1, True), ((21, 30), (20, 30), 1, False), ((21, 31), (10, 15), 2, True),
    ((22, 30), (10, 15), 2, False), ((19, 30), (10, 15), 2, False),
])  # fmt: skip
def test_sizes_must_differ_by_the_scale(
    clean: tuple[int, int], degraded: tuple[int, int], scale: int, fits: bool
) -> None:
    if fits:
        check_sizes(clean, degraded, scale, Path("a.png"))
    else:
        with pytest.raises(UserError, match=rf"a\.png: is {clean[1]}x{clean[0]}, but its degraded image"):
            check_sizes(clean, degraded, scale, Path("a.png"))


@pytest.mark.parametrize(("clean", "restored", "scale", "fits"), [
    ((20, 30), (20, 30), 1, True), ((20, 30), (19, 30), 1, False), ((21, 32), (20, 30), 3, True),
    ((23, 30), (20, 30), 3, False), ((20, 30), (21, 30), 3, False),
])  # fmt: skip
def test_a_restored_image_may_be_cut_to_a_multiple_of_the_scale(
    clean: tuple[int, int], restored: tuple[int, int], scale: int, fits: bool
) -> None:
    if fits:
        check_restored_sizes(clean, restored, scale, Path("a.png"))
    else:
        with pytest.raises(UserError, match=rf"a\.png: is {restored[1]}x{restored[0]}, but its clean image"):
            check_restored_sizes(clean, restored, scale, Path("a.png"))
