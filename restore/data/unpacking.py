"""Images in folders and archives, found and copied without trusting the archive.

Only regular image files are ever written, by our own code, under the last part of their names: no links, devices,
permissions or owners, and no path that an archive chooses.
"""

import bz2
import gzip
import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Set
from contextlib import contextmanager
from pathlib import Path, PurePath, PurePosixPath
from typing import IO, Any

from restore.data.sources import Folder
from restore.errors import UserError
from restore.images.io import is_image, walk
from restore.progress import progress

LARGEST_IMAGE = 2**28  # bytes
LARGEST_RATIO = 20  # of what an archive unpacks to, to its own size; images hardly shrink
MAX_BYTES_OF_ANY_RATIO = 2**26  # bytes that may be unpacked at any ratio
MOST_ENTRIES = 200_000
CHUNK = 2**18
LARGEST_READ = 2**20  # bytes
COMPRESSIONS: dict[bytes, Any] = {
    b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\0": lzma.open, b"\x5d\0\0": lzma.open,
}  # fmt: skip

_DAMAGE = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, ValueError, RuntimeError)


def copy_folders(source: Path, targets: Mapping[Folder, Path]) -> list[Folder]:
    """Copy the images of those folders that `source` holds, each with as many images as it should have.

    Args:
        source: a folder, a zip archive or a tar archive (plain or compressed by gzip, bzip2 or xz).
        targets: what to look for, and where to copy it.

    Returns:
        The folders that were found.

    Raises:
        UserError: a folder holds too few or too many images, several fit, or the archive is damaged, unsafe or
            larger than the limits.
    """
    with _open(source) as listing:
        places = _find_all(targets, listing, source)
        for folder, place in places.items():
            count = sum(image.parent == place for image in listing.sizes)
            if count != folder.images:
                raise UserError(f"{source}: {place} holds {count} images, expected {folder.images}")
        chosen = {image for image in listing.sizes if image.parent in places.values()}
        folders = {place: folder for folder, place in places.items()}
        for image, content in progress(listing.contents(chosen), f"Unpacking {source.name}", len(chosen)):
            _copy(content, targets[folders[image.parent]] / image.name, listing.sizes[image])
    return list(places)


class _Listing(ABC):
    """The images of a source.

    Attributes:
        root: the source itself.
        sizes: the bytes of each image.
    """

    root: PurePath
    sizes: dict[PurePath, int]

    @abstractmethod
    def contents(self, chosen: Set[PurePath]) -> Iterator[tuple[PurePath, IO[bytes]]]:
        """Each chosen image, open."""


class _FolderListing(_Listing):
    def __init__(self, folder: Path) -> None:
        self.root = folder.resolve()
        self.sizes = {path: path.stat().st_size for path in walk(self.root).files}

    def contents(self, chosen: Set[PurePath]) -> Iterator[tuple[PurePath, IO[bytes]]]:
        for image in sorted(chosen):
            with Path(image).open("rb") as file:
                yield image, file


class _ArchiveListing(_Listing):
    """Entries are added one by one, so that the limits hold before the rest of the archive is looked at."""

    def __init__(self, archive: Path) -> None:
        self.root = PurePosixPath(".")
        self.sizes = {}
        self._archive = archive
        self._entries = 0
        self._total = 0
        self._limit = max(MAX_BYTES_OF_ANY_RATIO, LARGEST_RATIO * archive.stat().st_size)

    def _add(self, name: str, size: int, regular: bool) -> None:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name or ":" in name:
            raise UserError(f"{self._archive}: refused, it holds an unsafe path: {name!r}")
        self._grow(size, entries=1)
        if not is_image(path):
            return
        if not regular:
            raise UserError(f"{self._archive}: refused, {name!r} is not a regular file")
        if size > LARGEST_IMAGE or path in self.sizes:
            raise UserError(f"{self._archive}: refused, {name!r} occurs twice or is larger than {LARGEST_IMAGE} bytes")
        self.sizes[path] = size

    def _grow(self, size: int, entries: int) -> None:
        self._entries += entries
        self._total += size
        if self._entries > MOST_ENTRIES or self._total > self._limit:
            raise UserError(
                f"{self._archive}: refused, it unpacks to more than {self._limit} bytes or {MOST_ENTRIES} entries"
            )


class _ZipListing(_ArchiveListing):
    def __init__(self, archive: Path, file: zipfile.ZipFile) -> None:
        super().__init__(archive)
        self._file = file
        for entry in file.infolist():
            kind = stat.S_IFMT(entry.external_attr >> 16)
            self._add(entry.filename, entry.file_size, not entry.is_dir() and kind in (0, stat.S_IFREG))

    def contents(self, chosen: Set[PurePath]) -> Iterator[tuple[PurePath, IO[bytes]]]:
        for entry in self._file.infolist():
            if PurePosixPath(entry.filename) in chosen:
                with self._file.open(entry) as file:
                    yield PurePosixPath(entry.filename), file


class _TarListing(_ArchiveListing):
    def __init__(self, archive: Path, file: tarfile.TarFile) -> None:
        super().__init__(archive)
        self._file = file
        for entry in file:
            self._add(entry.name, entry.size, entry.isfile() and not entry.issparse())
        assert file.fileobj is not None
        while padding := file.fileobj.read(CHUNK):  # after it, compressed archives have their checksum
            self._grow(len(padding), entries=0)

    def contents(self, chosen: Set[PurePath]) -> Iterator[tuple[PurePath, IO[bytes]]]:
        for entry in self._file:
            if PurePosixPath(entry.name) in chosen:
                file = self._file.extractfile(entry)
                assert file is not None
                with file:
                    yield PurePosixPath(entry.name), file


@contextmanager
def _open(source: Path) -> Iterator[_Listing]:
    try:
        if source.is_dir():
            yield _FolderListing(source)
        elif zipfile.is_zipfile(source):
            with zipfile.ZipFile(source) as zipped:
                yield _ZipListing(source, zipped)
        elif source.is_file():
            with _decompressed(source) as file:
                bounded: Any = _Headers(file)
                with tarfile.open(fileobj=bounded, mode="r:") as tarred:
                    yield _TarListing(source, tarred)
        else:
            raise UserError(f"{source}: expected a folder or an archive, found nothing")
    except UserError:
        raise
    except _DAMAGE as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise UserError(f"{source}: no zip or tar archive, or damaged ({reason})") from error
    except OSError as error:
        raise UserError(f"{source}: cannot be unpacked ({error.strerror or error})") from error


def _decompressed(source: Path) -> IO[bytes]:
    with source.open("rb") as file:
        start = file.read(max(map(len, COMPRESSIONS)))
    open_it = next((it for magic, it in COMPRESSIONS.items() if start.startswith(magic)), open)
    opened: IO[bytes] = open_it(source, "rb")
    return opened


class _Headers:
    """A file of which little is read at once: the headers of a tar archive, names among them, are read in one piece."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int) -> bytes:
        if size > LARGEST_READ:
            raise tarfile.ReadError(f"a header of {size} bytes")
        return self._file.read(size)


def _find_all(folders: Iterable[Folder], listing: _Listing, source: Path) -> dict[Folder, PurePath]:
    """Where a source has folders. What its own path says it is, it is not for another folder of the data set."""
    found = {folder: it for folder in folders if (it := _find(folder, listing)) is not None}
    named = {place for place, ending in found.values() if ending}
    places = {folder: place for folder, (place, ending) in found.items() if ending or place not in named}
    by_place: dict[PurePath, Folder] = {}
    for folder, place in places.items():
        if (other := by_place.setdefault(place, folder)) is not folder:
            raise UserError(f"{source}: {place} may be {other.path} or {folder.path}; name one of its folders")
    return places


def _find(folder: Folder, listing: _Listing) -> tuple[PurePath, tuple[str, ...]] | None:
    """Where a source has a folder, and the parts of its path that say so: of the surest ending that fits."""
    places = {image.parent for image in listing.sizes}
    for ending in folder.found_as:
        parts = PurePosixPath(ending).parts
        fitting = [
            place for place in places if (place.parts[-len(parts) :] == parts if parts else place == listing.root)
        ]
        if len(fitting) > 1:
            raise UserError(f"{folder.path}: several folders match: {', '.join(sorted(map(str, fitting)))}; name one")
        if fitting:
            return fitting[0], parts
    return None


def _copy(content: IO[bytes], target: Path, size: int) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("xb") as file:
        shutil.copyfileobj(content, file)
        if file.tell() != size:
            raise UserError(f"{target.name}: holds {file.tell()} bytes, the archive states {size}")
