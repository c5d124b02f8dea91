"""A data set onto this machine: downloaded, or from what the user has."""

import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from restore.data.catalog import find_images
from restore.data.download import check, fetch
from restore.data.known_sets import BSD68, SETS
from restore.data.sources import Archive, Folder, Mirror
from restore.data.unpacking import copy_folders
from restore.errors import UserError
from restore.images.io import is_image, list_images, read_image, write_image
from restore.images.pixels import Image, Pixels

DOWNLOADS = ".downloads"


def install(name: str, root: Path) -> list[str]:
    """Download the folders of a data set that are not there yet, archive by archive.

    Archives, and what there is of them, lie in `root`/.downloads/NAME until they are unpacked; one that was put there
    by hand is used as if it had been downloaded.

    Returns:
        The paths below `root` of the folders that are new.

    Raises:
        UserError: there is nothing to download, no address answers, or what came is not what it should be.
    """
    described = SETS[name]
    if described.made_from:
        return _make_bsd68(root)
    if not described.archives:
        if missing := [folder for folder in described.folders if not _is_there(folder, root)]:
            places = " and ".join(f"{folder.images} images into {root / folder.path}" for folder in missing)
            raise UserError(
                f"{name}: there is no archive to download; take it by hand from {described.page} and put {places}, or "
                "give its folder with --from"
            )
        return []
    new = []
    for archive in described.archives:
        missing = [folder for folder in archive.folders if not _is_there(folder, root)]
        if missing:
            new += _download(name, archive, missing, root)
    return new


def install_from(name: str, given: str, root: Path) -> list[str]:
    """Install what a folder, an archive or an address holds of a data set.

    Args:
        name: of the data set.
        given: a folder or archive on this machine, or the http(s) address of an archive. One of a known name must
            have the known digest.
        root: where data sets lie.

    Returns:
        The paths below `root` of the folders that are new.

    Raises:
        UserError: it holds no folder of the data set, or it is not what it should be.
    """
    described = SETS[name]
    known = {mirror.file: mirror for archive in described.archives for mirror in archive.mirrors}
    missing = [folder for folder in described.all_folders if not _is_there(folder, root)]
    from_address = given.startswith(("http://", "https://"))
    if from_address:
        mirror, downloads = Mirror(given), root / DOWNLOADS / name
        if mirror.file in known:
            mirror = Mirror(given, known[mirror.file].size, known[mirror.file].digest)
        else:  # other addresses have other files of that name
            downloads /= hashlib.sha256(given.encode()).hexdigest()[:12]
        path = fetch([mirror], downloads)
    else:
        path = Path(given).expanduser()
        if path.is_file() and path.name in known:
            check(path, known[path.name])
    try:
        new = _unpack(path, missing, root)
        if not new and missing:
            expected = ", ".join(sorted({folder.found_as[0] for folder in missing}))
            raise UserError(f"{given}: holds no folder of {name} (looked for {expected})")
    except UserError as error:
        if not from_address:
            raise
        raise UserError(f"{error}; delete {path} to download it again") from error
    if from_address:
        path.unlink()
    return new


def _download(name: str, archive: Archive, folders: Sequence[Folder], root: Path) -> list[str]:
    folder = root / DOWNLOADS / name
    try:
        path = fetch(archive.mirrors, folder)
    except UserError as error:
        mirror = archive.mirrors[0]
        known = ", ".join(filter(None, (f"{mirror.size} bytes" if mirror.size else "", mirror.digest)))
        raise UserError(
            f"{name}: {error}; download {mirror.file}{f' ({known})' if known else ''} by hand from "
            f"{SETS[name].page}, put it into {folder} and run this again"
        ) from error
    try:
        new = _unpack(path, folders, root)
        if absent := {folder.path for folder in folders} - set(new):
            raise UserError(f"{path}: does not hold {', '.join(sorted(absent))}")
    except UserError as error:
        raise UserError(f"{error}; delete {path} to download it again") from error
    path.unlink()
    return new


def _unpack(source: Path, folders: Sequence[Folder], root: Path) -> list[str]:
    """Copy folders to a place of their own, see that all images can be read, and move them to where they belong."""
    with _staging(root) as staging:
        targets = {folder: staging / str(number) for number, folder in enumerate(folders)}
        found = copy_folders(source, targets)
        for image in (image for folder in found for image in list_images(targets[folder])):
            try:
                read_image(image)
            except UserError as error:
                raise UserError(f"{source}: {str(error).removeprefix(f'{image.parent}/')}") from error
        for folder in found:
            _place(targets[folder], root / folder.path)
    return [folder.path for folder in found]


def _make_bsd68(root: Path) -> list[str]:
    """BSD68 from BSDS500's val: MATLAB's rgb2gray, which reproduces the published images bit for bit."""
    (folder,) = SETS["BSD68"].folders
    if _is_there(folder, root):
        return []
    try:
        new, scenes = [], find_images("BSDS500", "test", root).clean
    except UserError:
        new = install("BSDS500", root)
        scenes = find_images("BSDS500", "test", root).clean
    by_name = {path.stem: path for path in scenes}
    if missing := [str(scene) for scene in BSD68 if str(scene) not in by_name]:
        raise UserError(f"BSD68 cannot be made: BSDS500's val lacks {', '.join(missing[:3])}")
    with _staging(root) as staging:
        for number, scene in enumerate(BSD68, start=1):
            write_image(staging / "BSD68" / f"test{number:03}.png", _rgb2gray(read_image(by_name[str(scene)])))
        _place(staging / "BSD68", root / folder.path)
    return [*new, folder.path]


def _rgb2gray(rgb: Pixels) -> Image:
    """(H, W, 3) uint8 -> (H, W, 1) as MATLAB's rgb2gray: the first row of the inverse of YIQ's matrix, rounded."""
    red, green, blue = 0.2989360212937753847527155, 0.5870430744511212909351327, 0.1140209042551033243121518
    gray = rgb[..., :1] * red + rgb[..., 1:2] * green + rgb[..., 2:] * blue
    rounded: Image = np.floor(gray + 0.5).astype(np.uint8)
    return rounded


def _is_there(folder: Folder, root: Path) -> bool:
    """Whether a folder is complete by its count.

    Raises:
        UserError: it is there with another number of images.
    """
    path = root / folder.path
    images = [file for file in path.glob("*") if is_image(file.relative_to(path))]
    if images and len(images) != folder.images:
        raise UserError(
            f"{path}: holds {len(images)} images, expected {folder.images}; move it away to install it again"
        )
    return bool(images)


@contextmanager
def _staging(root: Path) -> Iterator[Path]:
    folder = root / DOWNLOADS
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="unpacking-", dir=folder) as staging:
            yield Path(staging)
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror})") from error


def _place(folder: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_dir() and any(target.iterdir()):
        raise UserError(f"{target}: is not empty; move it away to install it again")
    folder.replace(target)
