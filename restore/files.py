"""Files of any kind: written whole or not at all, and their names in words."""

import os
import re
import secrets
from collections.abc import Iterable
from pathlib import Path

from restore.errors import UserError

LONGEST_PREFIX = 200  # bytes


def printable(name: str) -> str:
    """A name with escapes for what cannot be printed: control characters, and bytes that are not UTF-8."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in name)


def write_atomically(path: Path, data: bytes | memoryview | str) -> None:
    """Write a whole file or nothing: to a temporary file beside `path`, synced, then renamed over it.

    A process that is killed meanwhile leaves the temporary file, hidden; `remove_leftovers` finds it.

    Raises:
        UserError: the folder or file cannot be written.
    """
    content = data.encode(errors="backslashreplace") if isinstance(data, str) else data
    temporary = path.with_name(f"{_prefix(path)}{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)  # less the umask
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror})") from error


def check_writable(path: Path) -> None:
    """Make sure that a file can be written there, before hours are spent on what is to be in it.

    Raises:
        UserError: it cannot.
    """
    if path.is_dir():
        raise UserError(f"{path}: cannot be written (Is a directory)")
    probe = path.with_name(f"{_prefix(path)}{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
        probe.unlink()
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror})") from error


def remove_leftovers(paths: Iterable[Path]) -> None:
    """Delete what killed processes left of writing `paths`; nobody may be writing them now."""
    wanted = {path.with_name(_prefix(path)) for path in paths}
    for folder in {path.parent for path in wanted}:
        for file in folder.glob(".*"):
            if re.fullmatch(r"(?s)\..+\.[0-9a-f]{8}", file.name) and file.with_name(file.name[:-8]) in wanted:
                file.unlink(missing_ok=True)


def _prefix(path: Path) -> str:
    """How the names of temporary files for `path` begin: short enough for file systems, which allow 255 bytes."""
    return f".{os.fsencode(path.name)[:LONGEST_PREFIX].decode(errors='ignore')}."
