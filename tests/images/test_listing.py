"""What belongs to a folder, and names of every kind."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from restore.errors import UserError
from restore.files import printable
from restore.images.io import list_images, walk, write_image

IMAGE = np.zeros((4, 4, 3), np.uint8)


def names(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in list_images(folder)]


def test_hidden_files_and_what_programs_leave_in_folders_are_no_data(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a.png", "sub/b.png"):
        write_image(tmp_path / name, IMAGE)
    others = ("._a.png", ".hidden/c.png", "__MACOSX/a.png", "sub/.ipynb_checkpoints/b-checkpoint.png", "@eaDir/a.png")
    for name in (*others, "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_text("not an image")
    with caplog.at_level("INFO"):
        assert names(tmp_path) == ["a.png", "sub/b.png"]
    assert f"{tmp_path}: passed over: 5 hidden, 1 .txt" in caplog.text


def test_a_folder_that_is_hidden_itself_is_read_when_it_is_named(tmp_path: Path) -> None:
    write_image(tmp_path / ".mine/a.png", IMAGE)
    assert names(tmp_path / ".mine") == ["a.png"]


def test_linked_folders_are_data_and_loops_end(tmp_path: Path) -> None:
    write_image(tmp_path / "elsewhere/deep/b.png", IMAGE)
    write_image(tmp_path / "set/a.png", IMAGE)
    (tmp_path / "set/setB").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/again").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/back").symlink_to(tmp_path / "set")
    assert names(tmp_path / "set") == ["a.png", "setB/deep/b.png"]


def test_special_files_and_broken_links_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_image(tmp_path / "a.png", IMAGE)
    (tmp_path / "gone.png").symlink_to("nowhere.png")
    os.mkfifo(tmp_path / "pipe.png")
    with caplog.at_level("INFO"):
        assert names(tmp_path) == ["a.png"]
    assert f"{tmp_path}/gone.png (a broken link), {tmp_path}/pipe.png (not a regular file)" in caplog.text
    (tmp_path / "a.png").unlink()
    with pytest.raises(UserError, match=r"no image found .*; passed over: .*gone\.png \(a broken link\)"):
        list_images(tmp_path)


def test_names_are_bytes(tmp_path: Path) -> None:
    odd = ["\u5199" * 82 + ".png", os.fsdecode(b"caf\xe9.png"), "a [1] *?.png", "line\nfeed.png"]
    for name in odd:
        write_image(tmp_path / "photos [old]" / name, IMAGE)
    assert {path.name for path in list_images(tmp_path / "photos [old]")} == set(odd)
    assert printable(os.fsdecode(b"caf\xe9\n\x1b.png")) == "caf\\udce9\\n\\x1b.png"
    assert printable("caf\u00e9 \u5199.png") == "caf\u00e9 \u5199.png"


def test_folders_that_are_kept_apart_are_not_looked_into(tmp_path: Path) -> None:
    for name in ("a.png", "out/a.png", "out/sub/b.png"):
        write_image(tmp_path / name, IMAGE)
    found = walk(tmp_path, apart=[tmp_path / "out"])
    assert [path.name for path in found.files] == ["a.png"]
    assert walk(tmp_path / "out", apart=[tmp_path / "out"]).files == [
        tmp_path / "out/a.png",
        tmp_path / "out/sub/b.png",
    ]


def forbid(monkeypatch: pytest.MonkeyPatch, method: str, name: str) -> None:
    """Let a method of `Path` fail for that name."""
    allowed = getattr(Path, method)

    def guarded(path: Path) -> Any:
        if path.name == name:
            raise PermissionError(13, "Permission denied", str(path))
        return allowed(path)

    monkeypatch.setattr(Path, method, guarded)


def test_a_folder_inside_that_may_not_be_read_is_named_and_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_image(tmp_path / "a.png", np.zeros((4, 4, 1), np.uint8))
    (tmp_path / "lost+found").mkdir()
    forbid(monkeypatch, "iterdir", "lost+found")
    found = walk(tmp_path)
    assert [path.name for path in found.files] == ["a.png"]
    assert "lost+found (Permission denied)" in found.remark()
    with pytest.raises(UserError, match=r"lost\+found: cannot be read \(Permission denied\)"):
        walk(tmp_path / "lost+found")


def test_what_may_be_listed_and_not_looked_at_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.png", "b.png"):
        write_image(tmp_path / name, np.zeros((4, 4, 1), np.uint8))
    forbid(monkeypatch, "is_dir", "b.png")
    found = walk(tmp_path)
    assert [path.name for path in found.files] == ["a.png"]
    assert "b.png (Permission denied)" in found.remark()
