"""Archives that are what they say, and archives that are out to do harm."""

import gzip
import io
import tarfile
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from restore.data import unpacking
from restore.data.sources import Folder
from restore.data.unpacking import copy_folders
from restore.errors import UserError

FOLDER = Folder("Tiny/HR", 2, ("Tiny/HR", "Tiny_HR", "."))
IMAGES = {f"{n}.png": cv2.imencode(".png", np.full((8, 9, 3), n, np.uint8))[1].tobytes() for n in (1, 2)}


def zipped(path: Path, entries: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in entries.items():
            file.writestr(name, content)
    return path


def tarred(path: Path, entries: dict[str, bytes]) -> Path:
    compression = path.suffix.removeprefix(".").replace("tar", "")
    with tarfile.open(path, f"w:{compression}") as file:
        for name, content in entries.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            file.addfile(entry, io.BytesIO(content))
    return path


def copied(source: Path, target: Path) -> dict[str, bytes]:
    assert copy_folders(source, {FOLDER: target}) == [FOLDER]
    return {path.name: path.read_bytes() for path in target.iterdir()}


@pytest.mark.parametrize("place", ["Tiny/HR/", "release-1/Tiny/HR/", "Tiny_HR/", ""])
@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz", "tar.bz2", "tar.xz", "folder"])
def test_a_folder_is_found_in_every_kind_of_source(tmp_path: Path, kind: str, place: str) -> None:
    entries = {f"{place}{name}": content for name, content in IMAGES.items()}
    others = {"README.txt": b"read me", "other/3.png": IMAGES["1.png"], f"__MACOSX/{place}._1.png": b"a Mac was here"}
    others |= {f"{place}@eaDir/Tiny/HR/1.png": b"a server was here", f".Trash/{place}1.png": IMAGES["1.png"]}
    source = tmp_path / f"source.{kind}"
    if kind == "folder":
        for name, content in (entries | others).items():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes(content)
    else:
        (zipped if kind == "zip" else tarred)(source, entries | others)
    assert copied(source, tmp_path / "target") == IMAGES


@pytest.mark.parametrize("name", ["../../1.png", "/tmp/1.png", "Tiny_HR/../../1.png", "..\\1.png", "C:/1.png"])
@pytest.mark.parametrize("make", [zipped, tarred])
def test_paths_out_of_the_archive_are_refused(tmp_path: Path, make: type, name: str) -> None:
    source = make(tmp_path / "evil", IMAGES | {name: IMAGES["1.png"]})
    with pytest.raises(UserError, match="refused, it holds an unsafe path"):
        copy_folders(source, {FOLDER: tmp_path / "target"})
    assert not (tmp_path / "target").exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_a_tar_archive_are_refused(tmp_path: Path, kind: bytes) -> None:
    with tarfile.open(tmp_path / "evil.tar", "w") as file:
        entry = tarfile.TarInfo("1.png")
        entry.type, entry.linkname = kind, "/etc/passwd"
        file.addfile(entry)
    with pytest.raises(UserError, match=r"refused, '1\.png' is not a regular file"):
        copy_folders(tmp_path / "evil.tar", {FOLDER: tmp_path / "target"})


def test_links_in_a_zip_archive_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as file:
        entry = zipfile.ZipInfo("1.png")
        entry.external_attr = 0o120777 << 16
        file.writestr(entry, "/etc/passwd")
    with pytest.raises(UserError, match=r"refused, '1\.png' is not a regular file"):
        copy_folders(tmp_path / "evil.zip", {FOLDER: tmp_path / "target"})


@pytest.mark.parametrize("make", [zipped, tarred])
def test_archives_that_grow_beyond_all_measure_are_refused(tmp_path: Path, make: type) -> None:
    source = make(tmp_path / "bomb.gz", IMAGES | {"zeros.bin": bytes(2**26)})
    assert source.stat().st_size < 2**18
    with pytest.raises(UserError, match="refused, it unpacks to more than 67108864 bytes"):
        copy_folders(source, {FOLDER: tmp_path / "target"})


def test_a_tar_archive_whose_own_headers_are_enormous_is_refused(tmp_path: Path) -> None:
    name = tarfile.TarInfo("././@LongLink")
    name.type, name.size = tarfile.GNUTYPE_LONGNAME, 2**21
    with gzip.open(tmp_path / "bomb.tar.gz", "wb") as file:
        file.write(name.tobuf() + bytes(2**21))
    with pytest.raises(UserError, match=r"bomb\.tar\.gz: no zip or tar .*\(a header of 2097152 bytes"):
        copy_folders(tmp_path / "bomb.tar.gz", {FOLDER: tmp_path / "target"})


def test_a_folder_that_says_what_it_is_is_not_taken_for_another(tmp_path: Path) -> None:
    """The source itself may be Tiny/HR if nothing says that it is something else."""
    small = Folder("Tiny/LR", 2, ("Tiny/LR", "LR"))
    for name, content in IMAGES.items():
        (tmp_path / "Tiny/LR").mkdir(parents=True, exist_ok=True)
        (tmp_path / "Tiny/LR" / name).write_bytes(content)
    assert copy_folders(tmp_path / "Tiny/LR", {FOLDER: tmp_path / "hr", small: tmp_path / "lr"}) == [small]
    assert not (tmp_path / "hr").exists()
    either = Folder("Other", 2, (".",))
    with pytest.raises(UserError, match=r"may be Tiny/HR or Other; name one of its folders"):
        copy_folders(tmp_path / "Tiny/LR", {FOLDER: tmp_path / "hr", either: tmp_path / "other"})


def test_too_many_entries_and_too_large_images_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = zipped(tmp_path / "source.zip", IMAGES)
    monkeypatch.setattr(unpacking, "MOST_ENTRIES", 1)
    with pytest.raises(UserError, match="or 1 entries"):
        copy_folders(source, {FOLDER: tmp_path / "target"})
    monkeypatch.undo()
    monkeypatch.setattr(unpacking, "LARGEST_IMAGE", 10)
    with pytest.raises(UserError, match="larger than 10 bytes"):
        copy_folders(source, {FOLDER: tmp_path / "target"})


@pytest.mark.parametrize("make", [zipped, tarred])
def test_damage_is_one_line(tmp_path: Path, make: type) -> None:
    noise = np.random.default_rng(0).integers(0, 256, 50_000, np.uint8).tobytes()
    source = make(tmp_path / "source.gz", {"1.png": noise, "2.png": noise})
    whole = source.read_bytes()
    for damaged in (whole[:60_000], whole[:30_000] + bytes(100) + whole[30_100:], b"", b"<html>not found</html>"):
        source.write_bytes(damaged)
        with pytest.raises(UserError, match=r"source\.gz: (no zip or tar archive, or damaged|cannot be unpacked)") as e:
            copy_folders(source, {FOLDER: tmp_path / f"target{len(damaged)}"})
        assert "\n" not in str(e.value)


def test_folders_of_another_count_are_refused(tmp_path: Path) -> None:
    source = zipped(tmp_path / "source.zip", {"Tiny_HR/1.png": IMAGES["1.png"]})
    with pytest.raises(UserError, match="Tiny_HR holds 1 images, expected 2"):
        copy_folders(source, {FOLDER: tmp_path / "target"})


def test_a_choice_between_folders_is_left_to_the_user(tmp_path: Path) -> None:
    source = zipped(tmp_path / "source.zip", {f"{a}/Tiny/HR/{name}": IMAGES[name] for a in "ab" for name in IMAGES})
    with pytest.raises(UserError, match="several folders match: a/Tiny/HR, b/Tiny/HR; name one"):
        copy_folders(source, {FOLDER: tmp_path / "target"})


def test_nothing_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="expected a folder or an archive, found nothing"):
        copy_folders(tmp_path / "gone", {FOLDER: tmp_path / "target"})
