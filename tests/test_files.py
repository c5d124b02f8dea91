"""Files are written whole or not at all, under names of every kind."""

import os
import stat
from pathlib import Path

import pytest

from restore import files
from restore.errors import UserError
from restore.files import remove_leftovers, write_atomically


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
    names = {".a.png.01af56b9", ".b.png.01af56b9", "a.png", ".hidden.png", ".a.png.backup"}
    for name in names:
        (tmp_path / name).touch()
    remove_leftovers([tmp_path / "a.png", tmp_path / "gone" / "c.png"])
    assert {path.name for path in tmp_path.iterdir()} == names - {".a.png.01af56b9"}


@pytest.mark.parametrize("name", ["x" * 255, "\u5199" * 82 + ".png", os.fsdecode(b"caf\xe9.png"), "a [1] *?\n.png"])
def test_names_of_every_kind_are_written_and_tidied_up(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    write_atomically(path, "whole")
    assert path.read_text() == "whole"
    leftover = tmp_path / (files._prefix(path) + "0" * 8)
    leftover.touch()
    remove_leftovers([path])
    assert list(tmp_path.iterdir()) == [path]


def test_the_umask_decides_who_may_read_what_is_written_and_is_left_alone(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_atomically(tmp_path / "x", "")
        assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o640
    finally:
        assert os.umask(before) == 0o027
