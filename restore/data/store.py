"""The patch store: every image decoded once into one flat, memory-mapped uint8 file with an index.

A batch of patches is gathered at once, without a Python step per patch. A store is made for one set of files and
one way of reading them; when a file changes, its size or time differs and the store is rebuilt.
"""

import glob
import hashlib
import json
import logging
import mmap
import os
import shutil
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from torch import Tensor

from restore.data.catalog import ImageSet
from restore.data.pairing import check_sizes
from restore.errors import UserError, about
from restore.files import write_atomically
from restore.images.color import with_channels
from restore.images.crop import crop_to_multiple
from restore.images.io import read_image
from restore.images.pixels import Image, to_uint8
from restore.images.resize import imresize
from restore.progress import progress

LOG = logging.getLogger(__name__)

FORMAT = 2


@dataclass(frozen=True)
class StoreSpec:
    """How images are stored.

    Attributes:
        channels: 1 (gray, color images by their luma) or 3 (RGB).
        scale: 1 for clean images only, unless the set has degraded files of that size, which are added then; s > 1
            adds the image reduced s times, from the set's files or made by `imresize`.
        sizes: each image is stored once at each of these sizes (DnCNN's recipe: 1, .9, .8, .7), by `imresize`.
    """

    channels: int
    scale: int = 1
    sizes: tuple[float, ...] = (1.0,)


@dataclass(frozen=True)
class StoredImage:
    """One entry of the index: where an image lies in the file. Sizes are those of the degraded image.

    Attributes:
        name: of the file it comes from.
        height, width: of the degraded image; the clean one is `scale` times larger.
        clean, degraded: first byte; equal if there is no degraded image.
    """

    name: str
    height: int
    width: int
    clean: int
    degraded: int


class PatchStore:
    """Images as one flat uint8 tensor, read in whole batches of patches.

    Attributes:
        fingerprint: of the images' names, sizes and pixels and of how they are stored.
    """

    def __init__(self, folder: Path) -> None:
        index = json.loads((folder / "index.json").read_text())
        self.fingerprint = _digest(index)
        self.spec = StoreSpec(index["channels"], index["scale"], tuple(index["sizes"]))
        self.images = [StoredImage(**entry) for entry in index["images"]]
        path = folder / "pixels.u8"
        self._file = path, file_state(path)
        mapping = _mapped(path)
        self.pixels = _tensor(mapping)
        self._announced = mapping if _exceeds_memory(mapping) else None
        self._is_paired = any(image.clean != image.degraded for image in self.images)
        self._place = torch.tensor([[image.width, image.clean, image.degraded] for image in self.images])

    def to(self, device: torch.device) -> None:
        """Move the pixels to a device, where patches are then cut."""
        self.pixels = self.pixels.to(device)
        self._place = self._place.to(device)
        self._announced = None

    def is_altered(self) -> bool:
        """Whether the file below the mapped pixels was written to; one that was deleted stays as it was."""
        path, state = self._file
        return path.exists() and file_state(path) != state

    def gather(self, image: Tensor, top: Tensor, left: Tensor, size: int) -> tuple[Tensor, Tensor | None]:
        """Cut one patch per entry of the index tensors.

        Args:
            image, top, left: (N,) int64: which image, and the patch's corner on the degraded image's grid.
            size: height and width of the degraded patch, S.

        Returns:
            clean (N, C, scale*S, scale*S) uint8, and degraded (N, C, S, S) uint8 if it is stored; both if
            the pixels are.
        """
        image, top, left = (index.to(self.pixels.device, non_blocking=True) for index in (image, top, left))
        width, clean, degraded = self._place[image].unbind(1)
        scale = self.spec.scale
        patches = self._cut(clean, width * scale, top * scale, left * scale, size * scale)
        return patches, self._cut(degraded, width, top, left, size) if self._is_paired else None

    def _cut(self, start: Tensor, width: Tensor, top: Tensor, left: Tensor, size: int) -> Tensor:
        channels = self.spec.channels
        if self._announced is not None:
            _prefetch(self._announced, start + top * width * channels, size * width * channels)
        row = top[:, None] + torch.arange(size, device=top.device)
        rows = start[:, None] + (row * width[:, None] + left[:, None]) * channels
        length = size * channels
        windows = self.pixels.as_strided((self.pixels.numel() - length + 1, length), (1, 1))
        return windows[rows].view(-1, size, size, channels).permute(0, 3, 1, 2)


def _mapped(path: Path) -> mmap.mmap:
    """A file's bytes for reading only: of a mapping to be written to (torch.from_file), Linux would have to be able to
    hold all pages in memory."""
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _tensor(mapping: mmap.mmap) -> Tensor:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given buffer is not writable")
        return torch.frombuffer(mapping, dtype=torch.uint8)


def _exceeds_memory(mapping: mmap.mmap) -> bool:
    """Whether the machine cannot keep all pages; if that is unknown, it can."""
    return hasattr(mmap, "MADV_WILLNEED") and len(mapping) > os.sysconf("SC_PHYS_PAGES") * mmap.PAGESIZE


def _prefetch(mapping: mmap.mmap, first: Tensor, length: Tensor) -> None:
    """Have the system read these ranges of bytes, each in one piece, instead of megabytes around every page it lacks.

    Args:
        first, length: (N,) int64.
    """
    for start, count in zip(first.tolist(), length.tolist(), strict=True):
        before = start % mmap.PAGESIZE
        mapping.madvise(mmap.MADV_WILLNEED, start - before, before + count)


def open_store(images: ImageSet, spec: StoreSpec, cache: Path) -> PatchStore:
    """The store of these images, made first if there is none or a file has changed.

    It is built beside its place and renamed into it, so a half-built one is never read; of processes that start
    together, one builds and the others wait. One that has lost its end or its index is rebuilt.

    Raises:
        UserError: an image cannot be read or changes meanwhile, a published low-resolution image does not fit its
            original, or the store cannot be written.
    """
    sources = images.files(spec.scale)
    kind = _digest([FORMAT, asdict(spec), [str(path.resolve()) for path in sources]])
    states = [file_state(path) for path in sources]
    folder = cache / f"{images.name}-{kind}-{_digest(states)}"
    if not _is_whole(folder):
        try:
            cache.mkdir(parents=True, exist_ok=True)
            with FileLock(cache / f"{images.name}-{kind}.lock"):
                if not _is_whole(folder):
                    if folder.is_dir():
                        LOG.warning(f"{folder}: damaged; rebuilding it")
                    name = glob.escape(images.name)
                    for old in (*cache.glob(f"{name}-{kind}-*"), *cache.glob(f".{name}-{kind}-*.partial")):
                        shutil.rmtree(old, ignore_errors=True)  # a run that reads one keeps its mapped pixels
                    _build(images, spec, folder, states)
        except OSError as error:
            raise UserError(f"{folder}: the patch store cannot be written ({error.strerror})") from error
    return PatchStore(folder)


def default_cache() -> Path:
    """Where stores lie: the environment variable RESTORE_CACHE, else `restore` in the user's cache folder."""
    fallback = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "restore"
    return Path(os.environ.get("RESTORE_CACHE", fallback)).expanduser()


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:12]


def file_state(path: Path) -> tuple[str, int, int]:
    """Name, size and time of the last change of a file: other ones, another file.

    Raises:
        UserError: it cannot be read.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    return path.name, status.st_size, status.st_mtime_ns


def _is_whole(folder: Path) -> bool:
    """Whether there is a store, its index readable and its pixels as many as it says."""
    try:
        return bool((folder / "pixels.u8").stat().st_size == json.loads((folder / "index.json").read_text())["bytes"])
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _build(images: ImageSet, spec: StoreSpec, folder: Path, states: list[tuple[str, int, int]]) -> None:
    temporary = folder.with_name(f".{folder.name}.partial")  # nobody else's: the caller holds the lock
    temporary.mkdir()
    try:
        index: list[dict[str, Any]] = []
        end = 0
        digest = hashlib.sha256()
        with (temporary / "pixels.u8").open("wb") as file:
            for name, clean, degraded in _decode_all(images, spec):
                planes = [clean] if degraded is None else [clean, degraded]
                starts = [end + sum(plane.size for plane in planes[:i]) for i in range(len(planes))]
                height, width = planes[-1].shape[:2]
                index.append(asdict(StoredImage(name, height, width, starts[0], starts[-1])))
                for plane in planes:
                    content = plane.tobytes()
                    file.write(content)
                    digest.update(content)
                    end += plane.size
            file.flush()
            os.fsync(file.fileno())
        for path, state in zip(images.files(spec.scale), states, strict=True):
            if file_state(path) != state:
                raise UserError(f"{path}: changed while the patch store was built")
        about = {**asdict(spec), "images": index, "bytes": end, "sha256": digest.hexdigest()}
        write_atomically(temporary / "index.json", json.dumps(about))
        temporary.rename(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _decode_all(images: ImageSet, spec: StoreSpec) -> Iterator[tuple[str, Image, Image | None]]:
    published: Sequence[Path | None] = images.degraded.get(spec.scale, (None,) * len(images.clean))
    jobs = list(zip(images.clean, published, strict=True))
    workers = os.cpu_count() or 1
    with ThreadPoolExecutor(workers) as pool:
        chunks = [jobs[i : i + 4 * workers] for i in range(0, len(jobs), 4 * workers)]
        done = (entries for chunk in chunks for entries in pool.map(lambda job: _decode(job[0], job[1], spec), chunk))
        for entries in progress(done, f"Building the patch store of {images.name}", len(jobs)):
            yield from entries


def _decode(clean_path: Path, lr_path: Path | None, spec: StoreSpec) -> list[tuple[str, Image, Image | None]]:
    clean = with_channels(to_uint8(read_image(clean_path)), spec.channels)
    entries: list[tuple[str, Image, Image | None]] = []
    for size in spec.sizes:
        sized = clean if size == 1 else imresize(clean, size)
        if spec.scale == 1 and lr_path is None:
            entries.append((clean_path.name, sized, None))
            continue
        if lr_path is None or size != 1:
            with about(clean_path):
                sized = crop_to_multiple(sized, spec.scale)
            degraded = imresize(sized, 1 / spec.scale)
        else:
            degraded = with_channels(to_uint8(read_image(lr_path)), spec.channels)
            sized = crop_to_low_resolution(sized, degraded, spec.scale, clean_path)
        entries.append((clean_path.name, sized, degraded))
    return entries


def crop_to_low_resolution(clean: Image, degraded: Image, scale: int, name: Path) -> Image:
    """`clean` cut to `scale` times the size of its degraded image.

    Raises:
        UserError: the two do not belong together by their sizes.
    """
    check_sizes(clean.shape, degraded.shape, scale, name)
    return clean[: degraded.shape[0] * scale, : degraded.shape[1] * scale]
