"""Data sets are found in the layouts in which they are distributed."""

from pathlib import Path

import numpy as np
import pytest

from restore.data.catalog import find_images
from restore.data.known_sets import BSD68, PHOTOS, SETS, Split
from restore.errors import UserError
from restore.images.io import write_image


def tree(root: Path, *names: str) -> None:
    for name in names:
        write_image(root / name, np.zeros((12, 12, 3), np.uint8))


def test_photographs_are_there_without_download_and_no_scene_is_in_both_parts() -> None:
    train, test = (find_images("photos", split, Path()).clean for split in ("train", "test"))
    assert all(path.is_file() for path in (*train, *test))
    scenes = [{Path(name).stem.split("_")[0] for name in PHOTOS[split]} for split in ("train", "test")]
    assert not scenes[0] & scenes[1]


def test_a_folder_of_the_name_of_the_photographs_is_told_how_to_be_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    tree(tmp_path, "photos/mine.png")
    find_images("photos", "test", tmp_path)
    (said,) = caplog.messages
    assert "write ./photos" in said
    assert [path.name for path in find_images("./photos", "test", tmp_path).clean] == ["mine.png"]


def test_div2k_pairs_low_and_high_resolution_by_name(tmp_path: Path) -> None:
    lr = "DIV2K/DIV2K_train_LR_bicubic"
    tree(tmp_path, "DIV2K/DIV2K_train_HR/0010.png", "DIV2K/DIV2K_train_HR/0002.png")
    tree(tmp_path, f"{lr}/X2/0002x2.png", f"{lr}/X2/0010x2.png", f"{lr}/X4/0002x4.png", f"{lr}/X4/0010x4.png")
    images = find_images("DIV2K", "train", tmp_path)
    assert [path.name for path in images.clean] == ["0002.png", "0010.png"]
    assert {s: [path.name for path in paths] for s, paths in images.degraded.items()} == {
        2: ["0002x2.png", "0010x2.png"],
        4: ["0002x4.png", "0010x4.png"],
    }


def test_a_missing_low_resolution_image_is_named(tmp_path: Path) -> None:
    tree(tmp_path, "DIV2K/DIV2K_valid_HR/0801.png", "DIV2K/DIV2K_valid_HR/0802.png")
    tree(tmp_path, "DIV2K/DIV2K_valid_LR_bicubic/X2/0801x2.png")
    with pytest.raises(UserError, match=r"X2: no counterpart for 0802\.png"):
        find_images("DIV2K", "test", tmp_path)


@pytest.mark.parametrize("root", ["BSR/BSDS500/data/images", "BSDS500/data/images", "BSDS500/images"])
def test_bsds500_trains_on_train_and_test_and_never_on_val(tmp_path: Path, root: str) -> None:
    tree(tmp_path, f"{root}/train/1.jpg", f"{root}/test/2.jpg", f"{root}/val/3.jpg")
    assert [path.stem for path in find_images("BSDS500", "train", tmp_path).clean] == ["1", "2"]
    assert [path.stem for path in find_images("BSDS500", "test", tmp_path).clean] == ["3"]
    assert [path.stem for path in find_images("B100", "test", tmp_path).clean] == ["3"]


def test_cbsd68_are_the_scenes_of_bsd68_in_bsds500_and_no_others(tmp_path: Path) -> None:
    val = "BSDS500/images/val"
    tree(tmp_path, f"{val}/1.jpg", *(f"{val}/{scene}.jpg" for scene in BSD68))
    found = [path.stem for path in find_images("CBSD68", "test", tmp_path).clean]
    assert found == [str(scene) for scene in BSD68]
    (tmp_path / val / "3096.jpg").unlink()
    with pytest.raises(UserError, match="val: 3096 is missing, which belongs to CBSD68"):
        find_images("CBSD68", "test", tmp_path)
    tree(tmp_path, "CBSD68/3096.png")
    assert [path.stem for path in find_images("CBSD68", "test", tmp_path).clean] == ["3096"]


def test_no_training_image_is_a_test_image(reference_data: Path) -> None:
    trained = {path.stem for path in find_images("BSDS500", "train", reference_data).clean}
    assert len(trained) == 400
    for name in ("CBSD68", "B100"):
        assert not trained & {path.stem for path in find_images(name, "test", reference_data).clean}


def test_any_folder_is_a_data_set(tmp_path: Path) -> None:
    tree(tmp_path, "mine/x.png", "mine/deep/y.png")
    assert len(find_images(str(tmp_path / "mine"), "train", Path()).clean) == 2


def test_a_folder_in_the_layout_of_a_benchmark_is_taken_as_one(tmp_path: Path) -> None:
    tree(tmp_path, "mine/HR/a.png", "mine/HR/b.png", "mine/LR_bicubic/X2/ax2.png", "mine/LR_bicubic/X2/bx2.png")
    images = find_images(str(tmp_path / "mine"), "test", Path())
    assert (images.name, [path.name for path in images.clean]) == ("mine", ["a.png", "b.png"])
    assert [path.name for path in images.degraded[2]] == ["ax2.png", "bx2.png"]


@pytest.mark.parametrize("names", [
    ("HR/a.png", "LR/a.png"),
    ("clean/a.png", "noisy/a.png"),
    ("a.png", "x2/a.png"),
    ("DIV2K_train_HR/a.png", "DIV2K_train_LR_bicubic/X2/ax2.png"),
    ("set/GT/a.png", "set/input/a.png"),
    ("train/a.png", "val/b.png"),
    ("train/HR/a.png", "train/LR/a.png"),
])  # fmt: skip
def test_a_folder_whose_images_have_several_roles_is_refused(tmp_path: Path, names: tuple[str, ...]) -> None:
    tree(tmp_path, *names)
    with pytest.raises(UserError, match=r"holds images of different kinds .* name one, such as"):
        find_images(str(tmp_path), "train", Path())


@pytest.mark.parametrize("names", [
    ("noisy/a.png", "noisy/b.png"), ("holiday/a.png", "trains/b.png"), ("HR/a.png", "more/b.png"), ("low_tide/a.png",),
])  # fmt: skip
def test_a_folder_whose_images_may_all_be_alike_is_taken_whole(tmp_path: Path, names: tuple[str, ...]) -> None:
    tree(tmp_path, *names)
    assert len(find_images(str(tmp_path), "train", Path()).clean) == len(names)


@pytest.mark.parametrize(("name", "split", "complaint"), [
    ("Set6", "test", "neither a folder nor a known data set"),
    ("Train400", "test", "Train400 has no test split, only train"),
    ("Set5", "test", r"looked for .*Set5/HR or .*Set5"),
])  # fmt: skip
def test_what_is_missing_is_said(tmp_path: Path, name: str, split: str, complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        find_images(name, split, tmp_path)


def test_noisy_and_clean_photographs_of_a_scene_are_pairs(tmp_path: Path) -> None:
    tree(tmp_path, "PolyU/clean/b.jpg", "PolyU/clean/a.jpg", "PolyU/noisy/a.jpg", "PolyU/noisy/b.jpg")
    images = find_images("PolyU", "test", tmp_path)
    assert [path.name for path in images.clean] == ["a.jpg", "b.jpg"]
    assert images.degraded == {1: (tmp_path / "PolyU/noisy/a.jpg", tmp_path / "PolyU/noisy/b.jpg")}


SIZES = {
    "Set5": 5, "Set14": 14, "Set12": 12, "BSD68": 68, "CBSD68": 68, "Kodak24": 24, "classic5": 5, "LIVE1": 29,
    "PolyU": 50,
}  # fmt: skip


def test_reference_sets_have_their_published_sizes(reference_data: Path) -> None:
    found = {name: len(find_images(name, "test", reference_data).clean) for name in SIZES}
    assert found == SIZES
    assert len(find_images("B100", "test", reference_data).clean) == 100
    assert len(find_images("BSDS500", "train", reference_data).clean) == 400


@pytest.mark.parametrize("name", SETS)
def test_a_missing_data_set_says_where_it_was_looked_for_and_the_command_that_gets_it(
    name: str, tmp_path: Path
) -> None:
    split: Split = "test" if SETS[name].parts.get("test") else "train"
    with pytest.raises(UserError) as error:
        find_images(name, split, tmp_path)
    assert f"looked for {tmp_path}/" in str(error.value)
    assert f"`restore data {name} --root {tmp_path}`" in str(error.value)
