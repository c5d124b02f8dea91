"""What Linux alone has is not needed: the modules and functions that Windows or macOS lack are taken away."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from restore import hardware

ROOT = Path(__file__).parents[1]

WITHOUT = """
import sys, os, mmap, ctypes
for name in ("resource", "fcntl"):
    sys.modules[name] = None
for name in ("sched_getaffinity", "sysconf", "fork"):
    delattr(os, name)
for name in [name for name in dir(mmap) if name.startswith("MADV_")]:
    delattr(mmap, name)
"""
IMPORT_ALL = """
import importlib, pkgutil, restore
for module in pkgutil.walk_packages(restore.__path__, "restore."):
    if module.name != "restore.inference.openvino_runner" and not module.name.endswith("__main__"):
        importlib.import_module(module.name)
"""
TRAIN = """
from restore.__main__ import dispatch
assert dispatch(["train", *sys.argv[1].split()]) == 0
assert dispatch(["infer", "--weights", "run/weights.safetensors", "--input", sys.argv[2], "--output", "out"]) == 0
"""
SMALL = (
    "--model.depth 3 --model.features 4 --data.batch_size 2 --data.patch_size 16 --data.steps_per_epoch 2 "
    "--data.workers 0 --trainer.max_steps 2 --trainer.accelerator cpu --output run --quiet"
)


def without_linux(program: str, folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-W", "ignore", "-c", WITHOUT + program, *args]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_every_module_is_imported_without_what_linux_alone_has(tmp_path: Path) -> None:
    done = without_linux(IMPORT_ALL, tmp_path)
    assert done.returncode == 0, done.stderr


def test_a_network_is_trained_and_used_without_what_linux_alone_has(tmp_path: Path, image_folder: Path) -> None:
    settings = f"{SMALL} --data.train {image_folder} --data.val {image_folder}"
    done = without_linux(TRAIN, tmp_path, settings, str(image_folder))
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (tmp_path / "out").glob("*.png")) == ["a.png", "b.png", "c.png"]


@pytest.mark.parametrize(("system", "unit"), [("linux", 2**10), ("darwin", 1)])
def test_peak_memory_is_in_bytes_on_every_system(system: str, unit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(sys, "platform", system)
    counted = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert hardware.peak_memory(torch.device("cpu")) == pytest.approx(counted * unit, rel=0.1)


def test_peak_memory_is_unknown_if_the_system_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "resource", None)
    assert hardware.peak_memory(torch.device("cpu")) is None


@pytest.mark.parametrize(("cuda", "mps", "expected"), [
    (True, False, "cuda:0"), (False, True, "mps"), (False, False, "cpu"),
])  # fmt: skip
def test_the_fastest_device_that_is_there_is_chosen(
    cuda: bool, mps: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    assert str(hardware.available_device()) == expected
