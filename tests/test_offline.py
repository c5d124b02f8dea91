"""Nothing is asked of a network: not by imports, not by training, not by restoring."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from restore.checkpoint import Weights, save_weights
from restore.models import DnCNN

ROOT = Path(__file__).parents[1]

# Python tells its audit hooks of whatever asks for a connection or the address of a name, C extensions aside.
WATCH = """
import sys

def watch(event, args):
    inet = event.startswith("socket.") and getattr(args[0], "family", 2) in (2, 10) if args else False
    if inet and event in ("socket.connect", "socket.sendto", "socket.sendmsg", "socket.getaddrinfo"):
        print("asked for a network:", event, args[1:], file=open(WITNESS, "a"))
        raise OSError("there is no network")

sys.addaudithook(watch)
"""
TRAINING = """
model: {class_path: restore.models.DnCNN, init_args: {channels: 1, depth: 3, features: 4, norm: batch}}
data: {train: IMAGES, val: IMAGES, batch_size: 2, patch_size: 8, steps_per_epoch: 2, workers: 1,
  transforms: [{class_path: albumentations.RandomBrightnessContrast, init_args: {p: 0.3}}]}
trainer: {max_steps: 2, accelerator: cpu, enable_progress_bar: false}
"""


def watched(folder: Path, program: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a Python that refuses and notes down every use of a network, in `folder`/asked."""
    (folder / "sitecustomize.py").write_text(WATCH.replace("WITNESS", repr(str(folder / "asked"))))
    environment = {name: value for name, value in os.environ.items() if name != "NO_ALBUMENTATIONS_UPDATE"}
    environment["PYTHONPATH"] = os.pathsep.join([str(folder), str(ROOT)])
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=folder, env=environment, check=False
    )


def test_training_and_restoring_ask_nothing_of_a_network(tmp_path: Path, image_folder: Path) -> None:
    save_weights(tmp_path / "w.safetensors", Weights(DnCNN(channels=1, depth=3, features=4).eval()))
    (tmp_path / "config.yaml").write_text(TRAINING.replace("IMAGES", str(image_folder)))
    program = (
        "import restore\nfrom restore import convert, evaluate, export, infer, memory, train\n"
        "assert train.main(['--config', 'config.yaml', '--output', 'run']) == 0\n"
        f"images = {str(image_folder)!r}\n"
        "options = ['--output', 'out', '--precision', 'fp32']\n"
        "assert infer.main(['--weights', 'w.safetensors', '--input', images, *options]) == 0\n"
    )
    done = watched(tmp_path, program)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "asked").exists(), (tmp_path / "asked").read_text()
    assert (tmp_path / "run/weights.safetensors").exists()


@pytest.mark.parametrize("asking", ["socket.create_connection(('127.0.0.1', 9))", "socket.getaddrinfo('localhost', 9)"])
def test_who_asks_is_noticed(tmp_path: Path, asking: str) -> None:
    """The test above can fail."""
    done = watched(tmp_path, f"import socket\n{asking}")
    assert "there is no network" in done.stderr
    assert (tmp_path / "asked").read_text().startswith("asked for a network: socket.")
