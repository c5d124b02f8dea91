"""Files from the network: resumed where they broke off, checked before anybody reads them, from several addresses."""

import hashlib
import http.client
import logging
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock

from restore.data.sources import Mirror
from restore.errors import UserError
from restore.progress import byte_progress

LOG = logging.getLogger(__name__)

LARGEST_FILE = 2**35  # bytes; ten times the largest archive known
CHUNK = 2**18
ATTEMPTS = 3  # in a row without a single byte


class _UnavailableError(Exception):
    """This address does not give the file; says why."""


class _BrokenOffError(Exception):
    """The connection broke off; asking again may continue."""


def fetch(mirrors: Sequence[Mirror], folder: Path, timeout_s: float = 30, pause_s: float = 1) -> Path:
    """A file from the first address that gives it whole, in `folder`; one that lies there already is only checked.

    What arrived before a connection broke off is kept as NAME.partial, and the download continues from there, in this
    call or a later one.

    Args:
        mirrors: addresses of the same thing, each with what is known of its file.
        folder: where the file goes.
        timeout_s: how long a server may keep silent.
        pause_s: before asking the same server again; doubled each time that nothing came.

    Raises:
        UserError: no address gives the file, a file put there by hand is damaged, or the disk is full.
    """
    for mirror in mirrors:
        if (folder / mirror.file).is_file():
            check(folder / mirror.file, mirror)
            return folder / mirror.file
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror})") from error
    failures = []
    for mirror in mirrors:
        try:
            return _from_mirror(mirror, folder, timeout_s, pause_s)
        except _UnavailableError as reason:
            LOG.info("%s: %s", mirror.url, reason)
            failures.append(f"{mirror.url}: {reason}")
        except OSError as error:
            raise UserError(f"{folder / mirror.file}: cannot be written ({error.strerror})") from error
    raise UserError(f"none of the download sources works ({'; '.join(failures)})")


def check(path: Path, mirror: Mirror) -> None:
    """Raises UserError if a file has not the size or digest that `mirror` states."""
    size = path.stat().st_size
    if mirror.size is not None and size != mirror.size:
        raise UserError(f"{path}: has {size} bytes, expected {mirror.size}: damaged or another version")
    if not mirror.digest:
        return
    method, _, expected = mirror.digest.partition(":")
    digest = hashlib.new(method, usedforsecurity=False)
    with path.open("rb") as file, byte_progress(f"Checking {path.name}", size) as advance:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            advance(len(chunk))
    if digest.hexdigest() != expected:
        raise UserError(
            f"{path}: its {method} is {digest.hexdigest()}, expected {expected}: damaged or another version"
        )


def _from_mirror(mirror: Mirror, folder: Path, timeout_s: float, pause_s: float) -> Path:
    target = folder / mirror.file
    partial = folder / f"{mirror.file}.partial"
    with FileLock(folder / ".lock"):
        if target.is_file():  # another process was faster
            return target
        while True:
            resumed = partial.is_file() and partial.stat().st_size > 0
            _receive(mirror, partial, timeout_s, pause_s)
            try:
                check(partial, mirror)
            except UserError as error:
                partial.unlink()
                if not resumed:
                    raise _UnavailableError(str(error).removeprefix(f"{partial}: ")) from error
                LOG.info("%s: the partial download was damaged; starting again", mirror.url)
            else:
                return partial.replace(target)


def _receive(mirror: Mirror, partial: Path, timeout_s: float, pause_s: float) -> None:
    """Ask until the whole file is there, as long as something arrives."""
    silent = 0
    while True:
        start = partial.stat().st_size if partial.is_file() else 0
        try:
            _request(mirror, partial, timeout_s)
            return
        except _BrokenOffError as error:
            arrived = partial.is_file() and partial.stat().st_size > start
            silent = 0 if arrived else silent + 1
            if silent == ATTEMPTS:
                raise _UnavailableError(str(error)) from error
            time.sleep(pause_s * 2**silent)


def _request(mirror: Mirror, partial: Path, timeout_s: float) -> None:
    """One request for what is missing, appended to what is there."""
    start = partial.stat().st_size if partial.is_file() else 0
    if start == mirror.size:
        return
    request = urllib.request.Request(mirror.url, headers={"User-Agent": "restore", "Accept-Encoding": "identity"})
    if start:
        request.add_header("Range", f"bytes={start}-")
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as response:
            if response.status != http.HTTPStatus.PARTIAL_CONTENT:
                start = 0  # the server sends the file from its beginning
            elif not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
                raise _UnavailableError("answers with another part of the file than was asked for")
            total = _total(response.headers.get("Content-Length"), start, mirror)
            _append(response, partial, start, total, mirror)
    except UserError:
        raise
    except urllib.error.HTTPError as error:
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            partial.unlink()  # more is here than there
            raise _BrokenOffError("answers with no part of the file") from error
        if error.code >= http.HTTPStatus.INTERNAL_SERVER_ERROR:
            raise _BrokenOffError(f"HTTP {error.code} {error.reason}") from error
        raise _UnavailableError(f"HTTP {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        raise _BrokenOffError(str(error.reason)) from error
    except (http.client.HTTPException, ConnectionError, TimeoutError) as error:
        raise _BrokenOffError(str(error) or type(error).__name__) from error
    except ValueError as error:
        raise _UnavailableError(f"no address ({error})") from error


def _total(length: str | None, start: int, mirror: Mirror) -> int | None:
    """The size of the whole file, as far as the server or the catalog knows it."""
    total = start + int(length) if length and length.isdigit() else None
    if mirror.size is not None and total is not None and total != mirror.size:
        raise _UnavailableError(f"offers {total} bytes, expected {mirror.size}")
    if (total or 0) > LARGEST_FILE:
        raise _UnavailableError(f"offers {total} bytes, more than the limit of {LARGEST_FILE}")
    return total if mirror.size is None else mirror.size


def _append(response: http.client.HTTPResponse, partial: Path, start: int, total: int | None, mirror: Mirror) -> None:
    free = shutil.disk_usage(partial.parent).free
    if total is not None and total - start > free:
        raise UserError(f"{partial.parent}: {total - start} more bytes are needed, but only {free} are free")
    limit = LARGEST_FILE if total is None else total
    position = start
    with partial.open("r+b" if start else "wb") as file, byte_progress(mirror.file, total, start) as advance:
        file.seek(start)
        while chunk := _read(response):
            position += len(chunk)
            if position > limit:
                raise _UnavailableError(f"sends more than {limit} bytes")
            file.write(chunk)
            advance(len(chunk))
        file.truncate()
    if total is not None and position < total:
        raise _BrokenOffError(f"broke off after {position} of {total} bytes")


def _read(response: http.client.HTTPResponse) -> bytes:
    try:
        return response.read1(CHUNK)
    except (http.client.HTTPException, OSError) as error:
        raise _BrokenOffError(str(error) or type(error).__name__) from error
