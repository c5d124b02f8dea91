"""Whole folders: what is kept, what is refused, what happens to a run that is killed or shared."""

import json
import os
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from restore import infer
from restore.checkpoint import Weights, save_weights
from restore.errors import UserError
from restore.folder import Job, plan
from restore.folder.log import LOG_NAME, Log
from restore.images.decode import read_picture
from restore.images.io import list_images, read_image, write_image
from restore.models import EDSR, DnCNN

ROOT = Path(__file__).parents[2]
LOG = "restore-log.json"


def save_denoiser(path: Path, added: float = 0.0, channels: int = 3) -> Path:
    """A network that adds `added` of 255 levels to every pixel."""
    network = DnCNN(channels=channels, depth=2, features=4, bias=True).eval()
    torch.nn.init.zeros_(network.body[-1].weight)
    torch.nn.init.constant_(network.body[-1].bias, -added / 255)
    save_weights(path, Weights(network))
    return path


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return save_denoiser(tmp_path / "w.safetensors")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for number in range(4):
        write_image(tmp_path / f"in/{number}.png", np.full((8, 9, 3), 10 * number, np.uint8))
    return tmp_path / "in"


PLAIN = ["--device", "cpu", "--backend", "torch", "--precision", "fp32"]


def restore(weights: Path, images: Path, *more: str) -> int:
    """Run the command from `images` to a folder `out` beside the weights."""
    arguments = ["--weights", str(weights), "--input", str(images), "--output", str(weights.parent / "out"), *more]
    return infer.main([*arguments, *PLAIN])


def read_log(folder: Path, name: str = LOG) -> dict[str, Any]:
    log: dict[str, Any] = json.loads((folder / name).read_text())
    return log


def statuses(folder: Path, name: str = LOG) -> dict[str, str]:
    return {image: entry["status"] for image, entry in read_log(folder, name)["images"].items()}


def make_mixed_folder(folder: Path) -> None:
    runpy.run_path(str(ROOT / "scripts/make_mixed_folder.py"))["make_mixed_folder"](folder)


REASONS = {
    "damaged/bomb.png": "60000 x 20000 (1200 megapixels) exceed the limit of 500",
    "damaged/empty.jpg": "the file is empty",
    "damaged/text.png": "not a readable image (unknown format",
    "damaged/truncated_jpeg.jpg": "truncated",
    "damaged/truncated.png": "truncated",
    "deep/float.tif": "SampleFormat 3 (floating-point numbers) cannot be read",
    "several/gif.gif": "an animation of 3 frames",
    "several/apng.png": "an animation of 3 frames",
    "several/webp.webp": "an animation of 3 frames",
    "several/pages.tif": "a file of 3 pages",
    "still.gif": ".gif files cannot be written; choose png, ",
}


@pytest.mark.parametrize("channels", [1, 3])
def test_of_a_mixed_folder_every_image_is_restored_and_everything_else_has_its_reason(
    tmp_path: Path, channels: int, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    make_mixed_folder(source)
    assert restore(save_denoiser(tmp_path / "w.safetensors", channels=channels), source) == 1
    captured = capsys.readouterr()
    files = [path.relative_to(source).as_posix() for path in sorted(source.rglob("*")) if path.is_file()]
    assert captured.out.startswith(f"{len(files) - len(REASONS)} of {len(files)} images restored, ")
    complaints = captured.err.splitlines()
    for name, reason in REASONS.items():
        assert sum(reason in line and f"/{name}: " in line for line in complaints) == 1
    assert len(complaints) == len(REASONS)

    assert statuses(out) == {name: "failed" if name in REASONS else "restored" for name in files}
    written = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert written == set(files) - set(REASONS) | {LOG}
    for name in written - {LOG}:  # the network changes nothing, so pictures come back but for lossy coding
        before, after = read_picture(source / name), read_picture(out / name)
        assert before.pixels.dtype == after.pixels.dtype
        lossy = after.pixels.astype(float) - before.pixels
        assert np.abs(lossy).max() <= (24 if name.endswith(("jpg", "jpeg")) else 0), name
        assert (before.alpha is None) == (after.alpha is None)
        if before.alpha is not None:
            np.testing.assert_array_equal(after.alpha, before.alpha)
        assert before.icc == after.icc
    with Pillow.open(out / "camera/turned.jpg") as turned:
        assert turned.size == (128, 96)  # upright, and not told to be turned again
        assert 0x0112 not in turned.getexif()


def test_a_mixed_folder_is_enlarged_into_one_format(tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    make_mixed_folder(source)
    save_weights(tmp_path / "w.safetensors", Weights(EDSR(features=4, blocks=1, scale=2)))
    assert restore(tmp_path / "w.safetensors", source, "--format", "png") == 1
    log = read_log(out)["images"]
    assert {image for image, entry in log.items() if entry["status"] == "failed"} == {
        Path(name).with_suffix(".png").as_posix() for name in REASONS if name != "still.gif"
    }
    for name, entry in log.items():
        if entry["status"] == "restored":
            picture = read_picture(out / name)
            assert picture.pixels.shape[:2] == (2 * entry["height"], 2 * entry["width"])
            assert picture.alpha is None or picture.alpha.shape[:2] == picture.pixels.shape[:2]


def test_a_second_run_keeps_what_is_finished_and_does_the_rest(
    weights: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = images.parent / "out"
    assert restore(weights, images) == 0
    made = {path: path.stat().st_mtime_ns for path in list_images(out)}
    (out / "1.png").unlink()
    future = time.time() + 5
    os.utime(images / "2.png", (future, future))  # edited since
    capsys.readouterr()
    assert restore(weights, images) == 0
    captured = capsys.readouterr().out
    assert captured.startswith("2 of 2 images restored")
    assert "2 were already done" in captured
    assert statuses(out) == {"0.png": "kept", "1.png": "restored", "2.png": "restored", "3.png": "kept"}
    assert read_log(out)["images"]["0.png"]["height"] == 8  # from the first run
    again = {path for path in made if path.stat().st_mtime_ns != made[path]}
    assert again == {out / "1.png", out / "2.png"}


def test_a_failed_image_is_tried_again(weights: Path, images: Path) -> None:
    whole = (images / "1.png").read_bytes()
    (images / "1.png").write_bytes(whole[:50])
    assert restore(weights, images) == 1
    (images / "1.png").write_bytes(whole)
    assert restore(weights, images) == 0
    assert statuses(images.parent / "out")["1.png"] == "restored"


def test_images_of_different_settings_never_mix(weights: Path, images: Path) -> None:
    out = images.parent / "out"
    restore(weights, images)
    other = save_denoiser(images.parent / "other.safetensors", added=50)
    with pytest.raises(UserError, match=r"other settings \(weights sha256:\w+, now sha256:\w+\); use --overwrite"):
        restore(other, images)
    with pytest.raises(UserError, match=r"\(quality None, now 90\)"):
        restore(weights, images, "--quality", "90")

    restore(other, images / "1.png", "--overwrite")
    assert [read_image(out / f"{number}.png")[0, 0, 0] for number in range(4)] == [0, 60, 20, 30]
    restore(other, images)  # those of the first weights are not taken for finished
    assert [read_image(out / f"{number}.png")[0, 0, 0] for number in range(4)] == [50, 60, 70, 80]
    assert statuses(out)["1.png"] == "kept"


def test_no_process_of_several_takes_files_of_unknown_origin_for_its_own(tmp_path: Path) -> None:
    jobs = [Job(tmp_path / f"in/{number}.png", tmp_path / f"out/{number}.png") for number in range(2)]
    (tmp_path / "out").mkdir()
    jobs[1].target.write_text("precious")
    with pytest.raises(UserError, match=r"1\.png"):  # of the other process's share
        Log(tmp_path / "out", {}, 0, {}).begin(jobs, jobs[:1], overwrite=False, alone=False)
    assert not (tmp_path / "out" / LOG).exists()


def test_networks_that_differ_are_named_by_name(weights: Path, images: Path) -> None:
    out = images.parent / "out"
    restore(weights, images)
    log = json.loads((out / LOG).read_text())
    for before, words in (
        ({"a": "1", "b": "2"}, "weights a, b, now c;"),
        ({"c": "2"}, "c, now other files of the same"),
    ):
        (out / LOG).write_text(json.dumps(log | {"settings": {"weights": before, "scale": 2}}))
        with pytest.raises(UserError, match=words):
            Log(out, {"weights": {"c": "1"}, "scale": 1}, 0, {}).begin([], [], overwrite=False, alone=True)


def test_renamed_weights_continue_their_run(weights: Path, images: Path) -> None:
    restore(weights, images)
    weights.rename(weights.with_name("v2.safetensors"))
    restore(weights.with_name("v2.safetensors"), images)
    assert set(statuses(images.parent / "out").values()) == {"kept"}


def test_files_of_unknown_origin_are_not_overwritten_unasked(weights: Path, images: Path) -> None:
    out = images.parent / "out"
    write_image(out / "2.png", np.full((8, 9, 3), 7, np.uint8))
    write_image(out / "3.png", np.full((8, 9, 3), 7, np.uint8))
    with pytest.raises(UserError, match=r"2\.png and 1 more: already exists, and no restore-log\.json says how"):
        restore(weights, images)
    assert read_image(out / "2.png")[0, 0, 0] == 7
    assert restore(weights, images, "--overwrite") == 0
    assert read_image(out / "2.png")[0, 0, 0] == 20


def other_image(image: Path) -> Path:
    """Of the same name and time, in another folder."""
    other = image.parent.parent / "other" / image.name
    write_image(other, np.full((8, 9, 3), 77, np.uint8))
    state = image.stat()
    os.utime(other, ns=(state.st_atime_ns, state.st_mtime_ns))
    return other


def test_a_result_of_another_input_is_neither_taken_for_this_one_nor_replaced_unasked(
    weights: Path, images: Path
) -> None:
    out = images.parent / "out"
    restore(weights, images / "1.png")
    other = other_image(images / "1.png")
    with pytest.raises(UserError, match=rf"out/1\.png: made of {images / '1.png'}; --overwrite, or choose another"):
        restore(weights, other)
    assert read_image(out / "1.png")[0, 0, 0] == 10
    assert restore(weights, other, "--overwrite") == 0
    assert read_image(out / "1.png")[0, 0, 0] == 77


def test_a_result_that_was_kept_is_known_by_its_input_too(weights: Path, images: Path) -> None:
    """The run that made it was killed before its log named it."""
    out = images.parent / "out"
    restore(weights, images / "1.png")
    log = json.loads((out / LOG_NAME).read_text())
    (out / LOG_NAME).write_text(json.dumps(log | {"images": {}, "summary": None}))
    restore(weights, images / "1.png")
    assert statuses(out) == {"1.png": "kept"}
    other = other_image(images / "1.png")
    with pytest.raises(UserError, match=rf"out/1\.png: made of {images / '1.png'}; --overwrite, or choose another"):
        restore(weights, other)


def test_a_file_that_the_log_does_not_know_is_no_result(weights: Path, images: Path) -> None:
    restore(weights, images / "1.png")
    write_image(images.parent / "out/2.png", np.full((8, 9, 3), 7, np.uint8))
    with pytest.raises(UserError, match=r"2\.png: already exists, and restore-log\.json does not know it"):
        restore(weights, images)
    assert read_image(images.parent / "out/2.png")[0, 0, 0] == 7


def test_an_image_that_failed_fails_again_although_its_older_result_is_there(weights: Path, images: Path) -> None:
    restore(weights, images)
    source = images / "1.png"
    whole = source.read_bytes()
    source.write_bytes(whole[:40])
    os.utime(source, (0, 0))
    for _ in range(2):
        assert restore(weights, images) == 1
        assert statuses(images.parent / "out")["1.png"] == "failed"
    source.write_bytes(whole)
    assert restore(weights, images) == 0


def test_only_logs_are_taken_for_logs(weights: Path, images: Path) -> None:
    restore(weights, images)
    others = [images.parent / f"out/restore-log{end}.json" for end in ("-backup", ".rank", ".rank1.old")]
    for path in others:
        path.write_text("{}")
    assert restore(weights, images) == 0
    assert all(path.read_text() == "{}" for path in others)


def test_a_damaged_log_is_named(weights: Path, images: Path) -> None:
    restore(weights, images)
    (images.parent / "out" / LOG).write_text("{")
    with pytest.raises(UserError, match=r"restore-log\.json: not a log that this version wrote; use --overwrite"):
        restore(weights, images)
    assert restore(weights, images, "--overwrite") == 0


def test_results_inside_the_input_folder_are_no_input_of_the_next_run(
    weights: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (images / "diary.txt").touch()
    for extra in ([], ["--overwrite"]):
        arguments = ["--weights", str(weights), "--input", str(images), "--compare", str(images / "sheets"), *extra]
        infer.main([*arguments, "--output", str(images / "restored"), *PLAIN])
        assert "passed over: 1 .txt\n" in capsys.readouterr().out
    assert len(list_images(images)) == 4 + 4 + 4


def test_an_input_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"phto\.jpg: no such file or folder"):
        plan([tmp_path / "phto.jpg"], tmp_path / "out")


def test_a_result_keeps_its_name_where_the_format_is_the_same(tmp_path: Path) -> None:
    for name in ("a.JPEG", "b.bmp", "c.d.png"):
        write_image(tmp_path / "in/sub" / name, np.zeros((2, 2, 3), np.uint8))
    jobs = plan([tmp_path / "in", tmp_path / "in/sub/b.bmp"], tmp_path / "out", "jpg")
    targets = [job.target.relative_to(tmp_path / "out").as_posix() for job in jobs]
    assert targets == ["sub/a.JPEG", "sub/b.jpg", "sub/c.d.jpg", "b.jpg"]


KILLED_WHILE_WRITING = """
import itertools, os, signal
from functools import partial
from restore import cli, infer

calls, sync = itertools.count(1), os.fsync

def die_at_the_ninth(handle):
    if next(calls) == 9:
        os.kill(os.getpid(), signal.SIGKILL)
    sync(handle)

os.fsync = die_at_the_ninth
cli.run(infer.main)
"""


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **more}


def test_a_run_that_is_killed_leaves_whole_files_only_and_is_continued(weights: Path, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for number in range(20):
        write_image(tmp_path / f"in/{number:02}.png", random.integers(0, 256, (64, 64, 3), np.uint8))
    out = tmp_path / "out"
    arguments = ["--weights", str(weights), "--input", str(tmp_path / "in"), "--output", str(out), *PLAIN]
    killed = subprocess.run(
        [sys.executable, "-c", KILLED_WHILE_WRITING, *arguments], env=environment(), capture_output=True, check=False
    )
    assert killed.returncode == -signal.SIGKILL
    done = list_images(out)
    assert 0 < len(done) < 20
    for path in done:
        np.testing.assert_array_equal(read_image(path), read_image(tmp_path / "in" / path.name))
    assert any(path.name.startswith(".") for path in out.iterdir())  # what was being written has another name

    assert infer.main(arguments) == 0
    assert sorted(path.name for path in out.iterdir()) == [*(f"{number:02}.png" for number in range(20)), LOG]
    assert sum(status == "kept" for status in statuses(out).values()) == len(done)
    for path in list_images(out):
        np.testing.assert_array_equal(read_image(path), read_image(tmp_path / "in" / path.name))


def test_two_processes_share_a_folder_and_the_next_one_gathers_their_logs(weights: Path, images: Path) -> None:
    out = images.parent / "out"
    command = [sys.executable, "-m", "restore.infer", "--weights", str(weights), "--input", str(images)]
    processes = [
        subprocess.Popen(
            [*command, "--output", str(out), *PLAIN],
            env=environment(RANK=str(rank), WORLD_SIZE="2"),
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    printed = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    for rank, text in enumerate(printed):
        assert text.startswith(f"rank {rank}: 2 of 2 images restored")
    assert statuses(out) == {"0.png": "restored", "2.png": "restored"}
    assert statuses(out, "restore-log.rank1.json") == {"1.png": "restored", "3.png": "restored"}

    assert restore(weights, images) == 0
    assert statuses(out) == dict.fromkeys(("0.png", "2.png", "1.png", "3.png"), "kept")
    assert read_log(out)["images"]["3.png"]["height"] == 8
    assert [path.name for path in out.glob("restore-log*")] == [LOG]


def test_names_of_every_kind_get_through_with_sheets_and_a_page(weights: Path, tmp_path: Path) -> None:
    odd = [
        "\u5199" * 82 + ".png",
        "x" * 251 + ".png",
        os.fsdecode(b"caf\xe9.png"),
        "a [1] *?.png",
        "line\nfeed\x1b.png",
    ]
    for name in odd:
        write_image(tmp_path / "photos [old]" / name, np.full((8, 9, 3), 10, np.uint8))
    command = [
        sys.executable,
        "-m",
        "restore.infer",
        "--weights",
        str(weights),
        "--input",
        str(tmp_path / "photos [old]"),
    ]
    command += ["--output", str(tmp_path / "out"), "--report", str(tmp_path / "page.html"), *PLAIN]
    command += ["--compare", str(tmp_path / "sheets")]
    done = subprocess.run(command, env=environment(LC_ALL="C.UTF-8"), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert b"5 of 5 images restored" in done.stdout
    assert {path.name for path in list_images(tmp_path / "out")} == set(odd)
    assert len(list_images(tmp_path / "sheets")) == 5
    assert "caf\\udce9" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_an_input_that_was_replaced_by_an_older_file_is_restored_again(weights: Path, images: Path) -> None:
    restore(weights, images)
    write_image(images / "1.png", np.full((8, 9, 3), 77, np.uint8))
    os.utime(images / "1.png", (1e9, 1e9))
    restore(weights, images)
    assert statuses(images.parent / "out") == {"0.png": "kept", "1.png": "restored", "2.png": "kept", "3.png": "kept"}
    assert read_image(images.parent / "out/1.png")[0, 0, 0] == 77


def test_a_network_whose_results_are_not_finite_fails_its_images(
    tmp_path: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for channels in (1, 3):
        network = DnCNN(channels=channels, depth=2, features=4, bias=True).eval()
        torch.nn.init.ones_(network.body[0].bias)
        torch.nn.init.constant_(network.body[-1].weight, 3e38)
        spoilt = tmp_path / f"spoilt{channels}.safetensors"
        save_weights(spoilt, Weights(network))
        assert restore(spoilt, images, "--overwrite") == 1
        captured = capsys.readouterr()
        assert captured.out.startswith("0 of 4 images restored")
        assert f"failed: {images / '0.png'}: the network's output is not finite" in captured.err
        assert not (tmp_path / "out/0.png").exists()


def test_weights_that_are_not_finite_are_refused(tmp_path: Path, images: Path) -> None:
    spoilt = save_denoiser(tmp_path / "w.safetensors", added=float("nan"))
    with pytest.raises(UserError, match=r"w\.safetensors: body\.2\.bias is not finite; the file is damaged, or its tr"):
        restore(spoilt, images)
    with pytest.raises(UserError, match=r"in: a folder, not a weights file$"):
        restore(images, images)


def test_what_was_finished_before_is_in_the_report_and_on_sheets_too(
    weights: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert restore(weights, images) == 0
    (images.parent / "out/1.png").unlink()
    (images / "3.png").touch()
    places = images.parent / "page.html", images.parent / "sheets"
    assert restore(weights, images, "--report", str(places[0]), "--compare", str(places[1])) == 0
    assert {path.name for path in list_images(places[1])} == {f"{number}.png.png" for number in range(4)}
    page = places[0].read_text()
    assert all(f"{number}.png" in page for number in range(4))
    assert "4 images" in page
    (images.parent / "out/0.png").write_bytes(b"no image")
    capsys.readouterr()
    assert restore(weights, images, "--report", str(places[0])) == 0
    assert "note: 1 written without its place in the report or its sheet (" in capsys.readouterr().out


def test_what_could_not_be_written_is_not_among_the_restored_images_of_the_report(weights: Path, images: Path) -> None:
    (images.parent / "out").mkdir()
    (images.parent / "out/sub").touch()
    write_image(images / "sub/x.png", np.zeros((8, 9, 3), np.uint8))
    page = images.parent / "page.html"
    assert restore(weights, images, "--report", str(page)) == 1
    assert "4 images" in page.read_text()
    assert page.read_text().count("sub/x.png") == 2  # as not restored, and why
    with pytest.raises(UserError, match=r"--report .*x\.png: expected a name that ends in \.html"):
        restore(weights, images, "--report", str(images.parent / "x.png"))


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        (["--compare", "in"], "in: is an input folder; results and sheets need folders of their own"),
        (["--compare", "out"], r"out/1\.png\.png: a sheet would overwrite an input, a result or a sheet"),
        (["--output", "in", "--format", "jpg"], "in: is an input folder; results and sheets need folders of their own"),
    ],
)
def test_nothing_is_written_over_inputs_or_results(
    weights: Path, images: Path, more: list[str], complaint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(images.parent)
    write_image(images / "1.png.png", np.zeros((8, 9, 3), np.uint8))
    with pytest.raises(UserError, match=complaint):
        restore(weights, images, *more)
    assert len(list_images(images)) == 5


def test_a_sheet_that_cannot_be_written_costs_no_image(
    weights: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (images.parent / "sheets/1.png.png").mkdir(parents=True)
    assert restore(weights, images, "--compare", str(images.parent / "sheets")) == 0
    assert len(list_images(images.parent / "out")) == 4
    assert "note: 1 written without a sheet (" in capsys.readouterr().out


def test_targets_that_cannot_be_written_are_named_before_anything_is_restored(weights: Path, images: Path) -> None:
    (images.parent / "file").touch()
    for option, name in (("--report", "file/page.html"), ("--compare", "file")):
        with pytest.raises(UserError, match=r"cannot be written \(Not a directory|File exists"):
            restore(weights, images, option, str(images.parent / name))
        assert not (images.parent / "out").exists()


def test_a_full_disk_ends_with_the_summary(
    weights: Path, images: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls, sync = iter(range(1000)), os.fsync

    def full(handle: int) -> None:
        if next(calls) >= 4:  # the log twice, and two images
            raise OSError(28, "No space left on device")
        sync(handle)

    monkeypatch.setattr("os.fsync", full)
    assert restore(weights, images, "--workers", "1") == 1
    captured = capsys.readouterr()
    assert captured.out.startswith("2 of 4 images restored")
    assert captured.err.count("No space left on device") == 3
