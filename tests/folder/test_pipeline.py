"""Reading and writing beside the network."""

import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from restore.folder import Job, Networks, pipeline
from restore.folder.pipeline import Pipeline, Writing
from restore.images.decode import Picture, read_picture
from restore.images.io import read_image, write_image
from restore.images.picture import write_picture
from restore.images.resize import imresize

NAP_S = 0.03
SIZE = 10


class Sleeper:
    """A runner that takes its time and changes nothing."""

    channels = inputs = 3
    multiple_of = 1
    scale = 1
    device = torch.device("cpu")

    def __init__(self, seconds: float = 0.0, scale: int = 1) -> None:
        self.seconds = seconds
        self.scale = scale

    def __call__(self, degraded: Tensor) -> Tensor:
        time.sleep(self.seconds)
        return degraded.repeat_interleave(self.scale, 2).repeat_interleave(self.scale, 3)


def some_jobs(folder: Path, count: int, sizes: dict[int, int] | None = None) -> list[Job]:
    for number in range(count):
        size = (sizes or {}).get(number, SIZE)
        write_image(folder / f"in/{number:02}.png", np.full((size, size, 3), number, np.uint8))
    return [Job(path, folder / "out" / path.name) for path in sorted((folder / "in").iterdir())]


def test_the_network_hardly_waits_while_files_are_read_and_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow_read(path: Path, megapixels: float | None) -> Picture:
        time.sleep(NAP_S)
        return read_picture(path, megapixels)

    def slow_write(path: Path, picture: Picture, quality: int | None) -> None:
        time.sleep(NAP_S)
        write_picture(path, picture, quality)

    monkeypatch.setattr(pipeline, "read_picture", slow_read)
    monkeypatch.setattr(pipeline, "write_picture", slow_write)
    line = Pipeline(Networks.single(Sleeper(1.5 * NAP_S)), Writing(workers=2))
    start = time.perf_counter()
    outcomes = list(line.run(some_jobs(tmp_path, 20), tmp_path / "out"))
    elapsed_s = time.perf_counter() - start
    assert [outcome.status for outcome in outcomes] == ["restored"] * 20
    assert elapsed_s < 0.75 * 20 * 3.5 * NAP_S  # what it takes one after the other
    assert line.waited_s < 0.3 * elapsed_s


@pytest.mark.parametrize("workers", [1, 3])
def test_no_more_pixels_are_in_memory_than_there_is_space_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    within, most, lock = 0, 0, threading.Lock()

    def count(pixels: int) -> None:
        nonlocal within, most
        with lock:
            within += pixels
            most = max(most, within)

    def counted_read(path: Path, megapixels: float | None) -> Picture:
        picture = read_picture(path, megapixels)
        count(2 * picture.pixels[:, :, 0].size)
        return picture

    def counted_write(path: Path, picture: Picture, quality: int | None) -> None:
        time.sleep(NAP_S / 3)
        write_picture(path, picture, quality)
        count(-2 * picture.pixels[:, :, 0].size)

    monkeypatch.setattr(pipeline, "read_picture", counted_read)
    monkeypatch.setattr(pipeline, "write_picture", counted_write)
    monkeypatch.setattr(pipeline, "PIXELS_IN_WORK", 2.5 * 2 * SIZE**2)
    jobs = some_jobs(tmp_path, 12, sizes={5: 4 * SIZE})  # one is larger than the space for all
    outcomes = list(Pipeline(Networks.single(Sleeper()), Writing(workers=workers)).run(jobs, tmp_path / "out"))
    assert sorted(outcome.job for outcome in outcomes) == jobs
    assert most == 2 * (4 * SIZE) ** 2
    assert within == 0


def test_a_run_that_is_left_in_the_middle_ends_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "PIXELS_IN_WORK", 1)  # the next reader waits for space
    outcomes = Pipeline(Networks.single(Sleeper()), Writing(workers=3)).run(some_jobs(tmp_path, 10), tmp_path / "out")
    next(outcomes)
    before = threading.active_count()
    outcomes.close()
    assert threading.active_count() < before
    assert 1 <= len(list((tmp_path / "out").iterdir())) < 10


def test_whatever_goes_wrong_with_one_image_is_its_reason_and_the_others_go_on(tmp_path: Path) -> None:
    class Fragile(Sleeper):
        def __call__(self, degraded: Tensor) -> Tensor:
            if degraded[0, 0, 0, 0] == 1 / 255:
                raise RuntimeError("out of memory\nwith a long story")
            return degraded

    jobs = some_jobs(tmp_path, 4)
    jobs[2].source.unlink()
    jobs[3].target.mkdir(parents=True)
    outcomes = {
        outcome.job: outcome for outcome in Pipeline(Networks.single(Fragile()), Writing()).run(jobs, tmp_path / "out")
    }
    assert [outcomes[job].status for job in jobs] == ["restored", "failed", "failed", "failed"]
    assert [outcomes[job].reason for job in jobs[1:]] == [
        f"{jobs[1].source}: RuntimeError: out of memory",
        f"{jobs[2].source}: cannot be read (No such file or directory)",
        f"{jobs[3].target}: cannot be written (Is a directory)",
    ]


def test_alpha_is_enlarged_as_matlab_does(tmp_path: Path) -> None:
    alpha = np.random.default_rng(0).integers(0, 256, (9, 7, 1), np.uint8)
    write_picture(tmp_path / "in/a.png", Picture(np.zeros((9, 7, 3), np.uint8), alpha))
    jobs = [Job(tmp_path / "in/a.png", tmp_path / "out/a.png")]
    list(Pipeline(Networks.single(Sleeper(scale=3)), Writing()).run(jobs, tmp_path / "out"))
    np.testing.assert_array_equal(read_picture(tmp_path / "out/a.png").alpha, imresize(alpha, 3))


@pytest.mark.parametrize("scale", [1, 3])
def test_a_sheet_shows_the_center_of_input_and_result(tmp_path: Path, scale: int) -> None:
    image = np.zeros((400, 500, 3), np.uint8)
    image[190:210, 240:260] = 200  # at the center
    write_image(tmp_path / "in/sub/a.png", image)
    jobs = [Job(tmp_path / "in/sub/a.png", tmp_path / "out/sub/a.png")]
    writing = Writing(compare=tmp_path / "sheets")
    list(Pipeline(Networks.single(Sleeper(scale=scale)), writing).run(jobs, tmp_path / "out"))
    sheet = read_image(tmp_path / "sheets/sub/a.png.png")[:, :, 0]
    size = 320 // scale * scale
    before, after = sheet[:size, :size], sheet[:size, size + 6 : 2 * size + 6]
    for panel in (before, after):
        assert panel[size // 2, size // 2] == 200
        assert panel[:10].max() == 0
        assert abs(int((panel > 100).sum()) - (20 * scale) ** 2) < 100 * scale
