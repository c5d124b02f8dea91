"""Whatever a command is given, it works or says in one line what is wrong."""

import contextlib
import io
import json
import struct
import subprocess
import sys
import tomllib
import zipfile
import zlib
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from packaging.requirements import Requirement
from safetensors.torch import save_file

from restore import bundled, cli, evaluate, infer, memory, train
from restore.checkpoint import Weights, load_weights, save_weights
from restore.errors import UserError
from restore.images.io import write_image
from restore.models import DnCNN

ROOT = Path(__file__).parents[1]
COMMANDS = (train, infer, evaluate, memory)
GENTLE = settings(
    max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
DNCNN: dict[str, Any] = {"channels": 1, "depth": 3, "features": 4}


def ending(module: ModuleType, *args: str) -> int | str | None:
    """The code with which a command ends, or its last line."""
    with (
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
        pytest.raises(SystemExit) as end,
    ):
        cli.run(partial(module.main, list(args)))
    return end.value.code


@pytest.mark.skipif(sys.platform != "linux", reason="measures memory by /proc")
def test_damaged_files_never_lead_to_tracebacks_hangs_or_partial_files(request: pytest.FixtureRequest) -> None:
    args = [sys.executable, ROOT / "scripts" / "fuzz.py", "--cases", str(request.config.getoption("--fuzz-cases"))]
    done = subprocess.run(args, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert "\n0 faults; " in done.stdout


@GENTLE
@given(module=st.sampled_from(COMMANDS), words=st.lists(st.text(max_size=12), min_size=1, max_size=3))
def test_any_words_on_the_command_line_are_refused_in_one_line(module: ModuleType, words: list[str]) -> None:
    words = [f"-{word}" if number == 0 else word for number, word in enumerate(words)]
    end = ending(module, "--nothing-of-that-name", *words)
    assert isinstance(end, str)
    assert end.startswith("error: ")
    assert len(end.splitlines()) == 1


@GENTLE
@given(name=st.sampled_from(["depth", "features", "norm", "bn_eps", "residual", "recompute", "network"]), value=JSON)
def test_weights_that_misdescribe_their_network_are_refused(tmp_path: Path, name: str, value: object) -> None:
    """Whatever the argument, the network can be built and used, or the file is refused."""
    path = tmp_path / "bad.safetensors"
    network: Any = {"name": "DnCNN", "arguments": DNCNN | {name: value}} if name != "network" else value
    header = {"format": 1, "network": network, "degradation": {}, "training": {}, "results": []}
    save_file(DnCNN(**DNCNN).state_dict(), path, {"restore": json.dumps(header)})
    with contextlib.suppress(UserError):
        weights = load_weights(path)
        assert weights.network(torch.zeros(1, 1, 8, 8)).shape == (1, 1, 8, 8)


@pytest.fixture
def denoiser(tmp_path: Path) -> Path:
    """A weights file of a small network."""
    save_weights(tmp_path / "w.safetensors", Weights(DnCNN(**DNCNN).eval()))
    return tmp_path / "w.safetensors"


def restoring(folder: Path, *args: str) -> int | str | None:
    """How `restore.infer` ends with the images of `folder`, on the plainest engine."""
    plain = ("--backend", "torch", "--precision", "fp32")
    return ending(infer, "--input", str(folder / "images"), "--output", str(folder / "out"), *plain, *args)


def assert_clear(end: int | str | None) -> None:
    assert end in (0, 1) or (str(end).startswith("error: ") and len(str(end).splitlines()) == 1), end


@GENTLE
@given(name=st.sampled_from(["degradation", "training"]), value=st.dictionaries(st.sampled_from(
    ["class_path", "init_args", "train"]), JSON | st.sampled_from(["Bicubic", "GaussianNoise"])))  # fmt: skip
@pytest.mark.usefixtures("image_folder")
def test_whatever_weights_say_of_their_training_they_are_used_or_refused(
    tmp_path: Path, name: str, value: object
) -> None:
    path = tmp_path / "odd.safetensors"
    header = {"format": 1, "network": {"name": "DnCNN", "arguments": DNCNN}, "degradation": {}, "training": {}}
    header |= {"results": [], name: value}
    save_file(DnCNN(**DNCNN).state_dict(), path, {"restore": json.dumps(header)})
    assert_clear(restoring(tmp_path, "--weights", str(path), "--overwrite"))


@GENTLE
@given(
    name=st.sampled_from(["tile", "quality", "workers", "max-megapixels", "format", "scale", "compare"]),
    value=st.integers().map(str) | st.floats().map(str) | st.text(max_size=8),
)
@pytest.mark.usefixtures("image_folder")
def test_whatever_its_settings_restoring_works_or_says_what_is_wrong(
    tmp_path: Path, denoiser: Path, name: str, value: str
) -> None:
    value = value.replace("/", "").lstrip(".~")  # a folder for sheets, where it is one, inside of tmp_path
    value = str(tmp_path / value) if name == "compare" else value
    assert_clear(restoring(tmp_path, "--weights", str(denoiser), "--overwrite", f"--{name}={value}"))


@GENTLE
@given(key=st.sampled_from(["settings", "since", "images", "a.png", "status"]), value=JSON)
@pytest.mark.usefixtures("image_folder")
def test_a_log_that_says_something_else_is_refused_or_continued(
    tmp_path: Path, denoiser: Path, key: str, value: object
) -> None:
    log = tmp_path / "out" / "restore-log.json"
    if not log.exists():
        assert restoring(tmp_path, "--weights", str(denoiser)) == 0
        (tmp_path / "log.json").write_bytes(log.read_bytes())
    document = json.loads((tmp_path / "log.json").read_text())
    place = {"a.png": document["images"], "status": document["images"]["a.png"]}.get(key, document)
    place[key] = value
    log.write_text(json.dumps(document))
    assert_clear(restoring(tmp_path, "--weights", str(denoiser)))


@pytest.mark.usefixtures("image_folder")
def test_no_name_in_a_log_is_followed(tmp_path: Path, denoiser: Path) -> None:
    """A run that continues neither writes nor deletes what a log names, only what the input folder holds."""
    assert restoring(tmp_path, "--weights", str(denoiser)) == 0
    log = tmp_path / "out" / "restore-log.json"
    document = json.loads(log.read_text())
    for name in ("../outside.png", str(tmp_path / "outside.png")):
        document["images"][name] = {"input": "../images/a.png", "status": "restored"}
    log.write_text(json.dumps(document))
    (tmp_path / "outside.png").write_text("precious")
    before = set(tmp_path.rglob("*"))
    assert restoring(tmp_path, "--weights", str(denoiser)) == 0
    assert set(tmp_path.rglob("*")) == before
    assert (tmp_path / "outside.png").read_text() == "precious"


def test_the_name_of_an_image_is_no_output_folder(tmp_path: Path, denoiser: Path) -> None:
    write_image(tmp_path / "a.png", np.full((12, 12, 1), 90, np.uint8))
    args = ["--weights", str(denoiser), "--input", str(tmp_path / "a.png"), "--output", str(tmp_path / "clean.JPG")]
    with pytest.raises(UserError, match=r"clean.JPG: expected a folder, .*, found an image's name"):
        infer.main(args)
    assert not (tmp_path / "clean.JPG").exists()


def test_links_among_the_images_are_read_and_never_written_through(tmp_path: Path, denoiser: Path) -> None:
    kept, source, out = tmp_path / "kept", tmp_path / "images", tmp_path / "out"
    for folder in (kept, source, out):
        folder.mkdir()
    write_image(kept / "x.png", np.full((12, 12, 1), 90, np.uint8))
    before = (kept / "x.png").read_bytes()
    (source / "link.png").symlink_to(kept / "x.png")
    (source / "folder").symlink_to(kept)
    (out / "link.png").symlink_to(kept / "x.png")
    assert "would overwrite an input" in str(restoring(tmp_path, "--weights", str(denoiser), "--overwrite"))
    (out / "link.png").unlink()
    (tmp_path / "y.png").write_text("precious")
    (out / "link.png").symlink_to(tmp_path / "y.png")
    assert restoring(tmp_path, "--weights", str(denoiser), "--overwrite") == 0
    assert (kept / "x.png").read_bytes() == before
    assert (tmp_path / "y.png").read_text() == "precious"
    assert not (out / "link.png").is_symlink()


def test_weights_cannot_have_a_folder_searched_for_images(image_folder: Path) -> None:
    """What int8 is calibrated on is a known data set, never a path in the file."""
    for named, taken in ((str(image_folder), "photos"), ("BSDS500", "BSDS500")):
        weights = Weights(DnCNN(**DNCNN), {}, {"train": {"set": named}})
        assert bundled.calibration_of(image_folder / "w.safetensors", weights, image_folder).train == taken


def bomb(path: Path) -> str:
    """A PNG of 30000 x 30000 pixels in a few kilobytes: its folder."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    size = struct.pack(">IIBBBBB", 30000, 30000, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(10**6))
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", data) + chunk(b"IEND", b""))
    return str(path.parent)


def test_every_command_refuses_a_decompression_bomb_by_its_size(
    tmp_path: Path, image_folder: Path, denoiser: Path
) -> None:
    bombs = bomb(tmp_path / "bombs" / "x.png")
    small = ("--model.depth", "3", "--model.features", "4", "--output", str(tmp_path / "run"))
    refused = "x.png: 30000 x 30000 (900 megapixels) exceed the limit of 500 (RESTORE_MAX_MEGAPIXELS, "
    ends = [
        ending(train, "--data.train", bombs, *small),
        ending(train, "--data.train", str(image_folder), "--data.val", bombs, "--data.patch_size", "8", *small),
        ending(evaluate, "--weights", str(denoiser), "--sigma", "25", "--data", bombs),
        ending(evaluate, "--restored", bombs, "--reference", bombs, "--protocol", "denoise-rgb"),
    ]
    assert [refused in str(end) for end in ends] == [True] * 4, ends
    assert not (tmp_path / "run" / "weights.safetensors").exists()


def test_weights_cannot_ask_for_a_network_larger_than_their_tensors(tmp_path: Path) -> None:
    for name in ("depth", "features"):
        arguments = DNCNN | {name: 10**9}
        header = {"format": 1, "network": {"name": "DnCNN", "arguments": arguments}}
        save_file(DnCNN(**DNCNN).state_dict(), tmp_path / "bomb", {"restore": json.dumps(header)})
        with pytest.raises(UserError, match=f"{name} is 1000000000, far more than its tensors hold"):
            load_weights(tmp_path / "bomb")


@pytest.mark.parametrize("key", ["model.depth", "data.batch_size", "optim.ema_decay", "data.sizes", "optim"])
def test_settings_beyond_all_measure_name_their_key(key: str, tmp_path: Path) -> None:
    value = {"optim.ema_decay": "null", "data.sizes": "[1, 1e300]"}.get(key, str(2**62))
    end = ending(train, f"--{key}", value, "--output", str(tmp_path))
    assert str(end).startswith("error: ")
    assert key.rpartition(".")[2] in str(end)


def aliases_of_aliases(levels: int) -> str:
    """A few lines that stand for 9 ** levels entries."""
    lines = ["a0: &a0 [" + ",".join("x" * 9) + "]"]
    lines += [f"a{level}: &a{level} [" + ",".join([f"*a{level - 1}"] * 9) + "]" for level in range(1, levels)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (aliases_of_aliases(12), "its aliases expand to 4e+11 entries, more than 10000"),
        ("a: " + "[" * 5000, "nested too deeply"),
        ("a: &a [*a]", "nested too deeply"),
    ],
)
def test_a_configuration_that_multiplies_is_refused_before_it_is_read(
    tmp_path: Path, text: str, complaint: str
) -> None:
    (tmp_path / "bomb.yaml").write_text(text)
    for args in (["--config", str(tmp_path / "bomb.yaml")], [f"--data={tmp_path}/bomb.yaml"]):
        assert ending(train, *args) == f"error: {tmp_path}/bomb.yaml: {complaint}"


EVIL = [
    ("data", "transforms", [{"class_path": "evil.Thing"}]),
    ("data", "transforms", [{"class_path": "albumentations.Lambda", "init_args": {"image": "evil.run"}}]),
    ("data", "degradation", {"class_path": "evil.Thing"}),
    ("trainer", "callbacks", [{"class_path": "evil.Thing"}]),
    (
        "trainer",
        "callbacks",
        [{"class_path": "pytorch_lightning.callbacks.LambdaCallback", "init_args": {"on_fit_start": "os.abort"}}],
    ),
    ("trainer", "logger", {"class_path": "evil.Thing"}),
    ("trainer", "strategy", {"class_path": "evil.Thing"}),
    ("trainer", "profiler", {"class_path": "evil.Thing"}),
]


@pytest.mark.parametrize(("group", "key", "value"), EVIL)
def test_a_configuration_cannot_import_what_it_likes(
    group: str, key: str, value: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "evil.py").write_text(
        f"open({str(tmp_path / 'executed')!r}, 'w')\nclass Thing: pass\ndef run(): pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"model": "DnCNN", group: {key: value}}))
    end = ending(train, "--config", str(tmp_path / "config.yaml"), "--output", str(tmp_path / "run"))
    assert str(end).startswith("error: ")
    assert "to the environment variable RESTORE_EXTENSIONS" in str(end)
    assert not (tmp_path / "executed").exists()
    assert not (tmp_path / "run").exists()


def test_a_configuration_can_name_what_is_documented() -> None:
    parser = train.build_parser()
    parsed = parser.parse_object(
        {
            "model": "EDSR",
            "data": {"transforms": [{"class_path": "albumentations.RandomGamma"}], "degradation": "Bicubic"},
            "trainer": {
                "callbacks": [{"class_path": "pytorch_lightning.callbacks.Timer"}],
                "logger": {"class_path": "CSVLogger", "init_args": {"save_dir": "x"}},
            },
        }
    )
    assert parser.instantiate(parsed).trainer.callbacks[0].__class__.__name__ == "Timer"
    assert "interval: step" in train._dump(parser, parsed)


def test_nothing_but_tensors_and_plain_values_is_read_from_a_checkpoint(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "executed",))

    torch.save({"state_dict": {}, "evil": Evil()}, tmp_path / "evil.ckpt")
    end = ending(train, "--resume", str(tmp_path / "evil.ckpt"), "--output", str(tmp_path / "run"))
    assert str(end).startswith(f"error: {tmp_path}/evil.ckpt: not a checkpoint, or damaged")
    assert not (tmp_path / "executed").exists()


def test_every_dependency_is_bounded_on_both_sides_and_pinned_within() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    pins = [Requirement(line) for line in (ROOT / "requirements.txt").read_text().splitlines() if line[0] != "#"]
    pinned = {pin.name.lower(): next(iter(pin.specifier)).version for pin in pins}
    for dependency in map(Requirement, declared):
        assert {bound.operator for bound in dependency.specifier} == {">=", "<"}
        assert dependency.specifier.contains(pinned.pop(dependency.name.lower()))
    assert not pinned


def test_a_checkpoint_that_is_damaged_or_of_another_network_is_refused(image_folder: Path, tmp_path: Path) -> None:
    run, other = tmp_path / "run", tmp_path / "other"
    args = f"--data.train {image_folder} --data.val {image_folder} --data.patch_size 8 --data.steps_per_epoch 1"
    args += " --model.depth 3 --model.features 4 --trainer.max_steps 1 --trainer.accelerator cpu"
    args += " --trainer.enable_progress_bar false"
    assert ending(train, *args.split(), "--output", str(run)) == 0
    checkpoint = run / "checkpoints" / "last.ckpt"
    end = ending(train, *args.split(), "--model.features", "5", "--output", str(other), "--resume", str(checkpoint))
    assert "belongs to another network than the one to train: " in str(end)
    assert "(4x1x3x3 in the file, 5x1x3x3 expected)" in str(end)
    content = bytearray(checkpoint.read_bytes())
    with zipfile.ZipFile(checkpoint) as archive:
        largest = max(archive.infolist(), key=lambda entry: entry.file_size)
        content[largest.header_offset + 500] ^= 1
    checkpoint.write_bytes(content)
    end = ending(train, *args.split(), "--output", str(other), "--resume", str(checkpoint))
    assert str(end) == f"error: {checkpoint}: damaged ({largest.filename} does not match its checksum)"


def test_a_lack_of_memory_is_one_line() -> None:
    with pytest.raises(SystemExit) as end:
        cli.run(lambda: len(torch.empty(2**45)))
    assert end.value.code == "error: not enough memory; try a smaller batch, patch, image or network"
