"""Reading, restoring and writing at the same time, with a bounded number of pixels in memory."""

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from restore.errors import UserError
from restore.files import printable
from restore.folder.networks import Networks
from restore.folder.plan import Job, sheet_of
from restore.images.content import content
from restore.images.decode import Picture, picture_size, read_picture
from restore.images.header import max_megapixels
from restore.images.picture import check_target, lost_metadata, write_picture
from restore.images.pixels import Image, fill_transparent, to_uint8
from restore.images.resize import imresize
from restore.inference import restore_image
from restore.report import SHEET_SIZE, Panel, contact_sheet

PIXELS_IN_WORK = 600e6  # inputs and results together; 1.8 GB in 8-bit RGB


@dataclass(frozen=True)
class Writing:
    """How files are read and written.

    Attributes:
        quality: 1 to 100 of JPEG and WebP; None for JPEG 95 and lossless WebP.
        max_megapixels: larger inputs are refused, by their header; None for `images.header.max_megapixels`.
        workers: threads that read, and as many that write.
        compare: folder for a sheet of each image, the input beside the result.
        show: is called with each image's place below the output folder, its input and its result, both in 8 bits, and
            the name of the network.
    """

    quality: int | None = None
    max_megapixels: float | None = None
    workers: int = 2
    compare: Path | None = None
    show: Callable[[str, Image, Image, str], None] | None = None


@dataclass(frozen=True)
class Outcome:
    """What became of one image.

    Attributes:
        status: `kept` if it was finished before.
        reason: why it failed.
        notes: what the format of the result could not hold.
        input_bytes, input_mtime_ns: size and time of the input when it was read.
        height, width: of the input, pixels; 0 if they are not known.
        seconds: that the network took.
        network: the name of the one that restored it.
        luma_only: whether the image is in color and the network is for gray ones, so that its chroma is as it was.
    """

    job: Job
    status: Literal["restored", "kept", "failed"]
    reason: str = ""
    notes: tuple[str, ...] = ()
    input_bytes: int = 0
    input_mtime_ns: int = 0
    height: int = 0
    width: int = 0
    seconds: float = 0.0
    network: str = ""
    luma_only: bool = False


class Read(NamedTuple):
    """An input in memory: its picture, the pixels that it takes until its result is written, and its file's state."""

    picture: Picture
    pixels: int
    state: os.stat_result


class Closed(Exception):  # noqa: N818  (no error: the run is being stopped)
    """The pipeline was closed."""


class PixelBudget:
    """Admits pictures in order while their pixels fit into the budget, and one at any time."""

    def __init__(self, capacity: float) -> None:
        self._capacity = capacity
        self._taken = 0
        self._turn = 0
        self._open = True
        self._changed = threading.Condition()

    def enter(self, turn: int, pixels: int) -> None:
        """Wait until the pictures before `turn` (0, 1, 2, ...) are in and `pixels` fit."""

        def ready() -> bool:
            fits = self._taken == 0 or self._taken + pixels <= self._capacity
            return not self._open or (self._turn == turn and fits)

        with self._changed:
            self._changed.wait_for(ready)
            if not self._open:
                raise Closed
            self._turn += 1
            self._taken += pixels
            self._changed.notify_all()

    def leave(self, pixels: int) -> None:
        """A picture of `pixels` pixels is no longer in memory."""
        with self._changed:
            self._taken -= pixels
            self._changed.notify_all()

    def close(self) -> None:
        """Wake all waiters, which raise Closed."""
        with self._changed:
            self._open = False
            self._changed.notify_all()


class Pipeline:
    """Restores images in the calling thread, each with the network that is chosen for it, while other threads read
    and write.

    Attributes:
        waited_s: for how long no network had anything to do.
    """

    def __init__(self, networks: Networks, writing: Writing) -> None:
        self.waited_s = 0.0
        self._networks = networks
        self._scale = networks.scale
        self._writing = writing
        self._budget = PixelBudget(PIXELS_IN_WORK)

    def run(self, jobs: Sequence[Job], output: Path) -> Generator[Outcome]:
        """Restore the images of `jobs` below `output`; each yields one outcome when its file is there, or failed."""
        workers = self._writing.workers
        coming = enumerate(jobs)
        reading: deque[tuple[Job, Future[Read]]] = deque()
        finishing: deque[Future[Outcome]] = deque()
        readers = ThreadPoolExecutor(workers, "read")
        writers = ThreadPoolExecutor(workers, "write")
        try:
            while True:
                while len(reading) <= workers and (following := next(coming, None)):
                    reading.append((following[1], readers.submit(self._read, *following)))
                if not reading:
                    break
                job, future = reading.popleft()
                started = time.perf_counter()
                error = future.exception()
                self.waited_s += time.perf_counter() - started
                if error:
                    yield _failed(job, error)
                else:
                    finishing.append(self._restore(job, future.result(), output, writers))
                while finishing and (finishing[0].done() or len(finishing) > 2 * workers):
                    started = time.perf_counter()
                    outcome = finishing.popleft().result()
                    self.waited_s += time.perf_counter() - started
                    yield outcome
            yield from (future.result() for future in finishing)
        finally:
            self._budget.close()
            readers.shutdown(cancel_futures=True)
            writers.shutdown()

    def _read(self, turn: int, job: Job) -> Read:
        pixels = 0
        try:
            height, width = picture_size(job.source, self._writing.max_megapixels)
            check_target(job.target, height * self._scale, width * self._scale)
            pixels = height * width * (1 + self._scale**2)
        finally:
            self._budget.enter(turn, pixels)
        try:
            state = job.source.stat()
            return Read(read_picture(job.source, self._writing.max_megapixels), pixels, state)
        except BaseException:
            self._budget.leave(pixels)
            raise

    def _restore(self, job: Job, read: Read, output: Path, writers: ThreadPoolExecutor) -> Future[Outcome]:
        picture = read.picture
        height, width = picture.pixels.shape[:2]
        started = time.perf_counter()
        try:
            visible = fill_transparent(picture.pixels, picture.alpha)
            network = self._networks.choose(visible)
            runner = self._networks.runners[network]
            pixels = restore_image(runner, visible)
            luma_only = runner.channels == 1 and visible.shape[2] == 3 and content(visible) != "gray"
            if picture.alpha is not None and self._scale == 1:  # hidden pixels stay as they came
                pixels = np.where(picture.alpha == 0, picture.pixels, pixels)
            restored = replace(picture, pixels=pixels)
        except Exception as error:
            self._budget.leave(read.pixels)
            refused: Future[Outcome] = Future()
            refused.set_result(_failed(job, error, height, width))
            return refused
        seconds = time.perf_counter() - started
        done = Outcome(
            job,
            "restored",
            input_bytes=read.state.st_size,
            input_mtime_ns=read.state.st_mtime_ns,
            height=height,
            width=width,
            seconds=seconds,
            network=network,
            luma_only=luma_only,
        )
        done = replace(done, notes=_show(self._writing, job, output, picture, restored, network))
        return writers.submit(self._write, done, read, restored, output)

    def _write(self, done: Outcome, read: Read, restored: Picture, output: Path) -> Outcome:
        job = done.job
        try:
            if restored.alpha is not None and self._scale > 1:
                restored = replace(restored, alpha=imresize(restored.alpha, self._scale))
            write_picture(job.target, restored, self._writing.quality)
            done = replace(done, notes=(*done.notes, *lost_metadata(job.target, restored)))
            return replace(
                done, notes=(*done.notes, *_add_sheet(self._writing, job, output, read.picture, restored, self._scale))
            )
        except Exception as error:
            return _failed(job, error, done.height, done.width)
        finally:
            self._budget.leave(read.pixels)


def show_finished(job: Job, output: Path, writing: Writing, scale: int, network: str) -> tuple[str, ...]:
    """Show an image that was finished before, as if it were restored now: in the report and on a sheet, if asked for.

    Returns:
        What could not be shown, as `Outcome.notes`.
    """
    if not (writing.show or writing.compare):
        return ()
    limit = writing.max_megapixels or max_megapixels()
    try:
        picture, restored = read_picture(job.source, limit), read_picture(job.target, limit * scale**2)
    except UserError as error:
        return (f"its place in the report or its sheet ({error})",)
    shown = _show(writing, job, output, picture, restored, network)
    return *shown, *_add_sheet(writing, job, output, picture, restored, scale)


def _show(
    writing: Writing, job: Job, output: Path, picture: Picture, restored: Picture, network: str
) -> tuple[str, ...]:
    """Show an image to who asked for it; what went wrong, if anything."""
    if writing.show:
        try:
            place = str(job.target.relative_to(output))
            writing.show(place, to_uint8(picture.pixels), to_uint8(restored.pixels), network)
        except Exception as error:
            return (f"its place in the report ({error})",)
    return ()


def _add_sheet(
    writing: Writing, job: Job, output: Path, picture: Picture, restored: Picture, scale: int
) -> tuple[str, ...]:
    """Write an image's sheet if sheets are asked for; what went wrong, if anything."""
    if writing.compare:
        try:
            _write_sheet(sheet_of(job.target.relative_to(output), writing.compare), picture, restored, scale)
        except Exception as error:
            return (f"a sheet ({error})",)
    return ()


def _failed(job: Job, error: BaseException, height: int = 0, width: int = 0) -> Outcome:
    if isinstance(error, UserError):
        about = any(str(path) in str(error) for path in job)  # errors of the network don't name the image
        return Outcome(job, "failed", str(error) if about else f"{job.source}: {error}", height=height, width=width)
    line = next(iter(str(error).splitlines()), "no message")
    return Outcome(job, "failed", f"{job.source}: {type(error).__name__}: {line}", height=height, width=width)


def _write_sheet(path: Path, picture: Picture, restored: Picture, scale: int) -> None:
    """The center of an input, enlarged bicubically, beside that of its result."""
    shown = SHEET_SIZE // scale
    top, left = (max(0, (extent - shown) // 2) for extent in picture.pixels.shape[:2])
    before = to_uint8(picture.pixels[top : top + shown, left : left + shown])
    height, width = (scale * extent for extent in before.shape[:2])
    after = to_uint8(restored.pixels[scale * top :, scale * left :][:height, :width])
    if scale > 1:
        before = imresize(before, scale)
    stem = printable(path.stem)
    name = f"{stem}: input" if scale == 1 else f"{stem}: input, bicubic x{scale}"
    contact_sheet(path, [[Panel(before, name), Panel(after, "restored")]])
