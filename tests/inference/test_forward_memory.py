"""What a forward pass is said to need, and what it takes."""

import importlib.util
import subprocess
import sys

import pytest

RESIDENT = """
import sys
from pathlib import Path
import torch
from restore.models import EDSR, DnCNN

def resident(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))
"""
PEAK = """
from restore.inference.memory import bytes_per_pixel

network = {"denoise": DnCNN, "enlarge": lambda: EDSR(blocks=1, scale=4)}[sys.argv[1]]().eval()
side = int(sys.argv[2])
network.requires_grad_(False)
image = torch.rand(1, network.channels, side, side)
network(image[..., :64, :64])
before = resident("VmRSS")
network(image)
print((resident("VmHWM") - before) / side**2 / bytes_per_pixel(network))
"""

SIZES = """
from restore.inference import accelerate

engine = accelerate(DnCNN(depth=20, features=16).eval(), backend="openvino", precision="fp32")
for number in range(600):
    if number == 300:
        before = resident("RssAnon")
    engine(torch.rand(1, 1, 40 + number // 25, 40 + number % 25))
print((resident("RssAnon") - before) / 2**20)
"""
reads_memory = pytest.mark.skipif(sys.platform != "linux", reason="reads the process's memory as Linux shows it")


def printed(code: str, *arguments: str) -> float:
    command = [sys.executable, "-c", RESIDENT + code, *arguments]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@reads_memory
@pytest.mark.parametrize("network", ["denoise 380", "enlarge 150"])
def test_the_estimate_is_what_a_forward_pass_takes_but_for_workspace(network: str) -> None:
    assert 0.9 < printed(PEAK, *network.split()) < 1.5


@reads_memory
@pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="the extra is not installed")
def test_images_that_all_differ_in_size_do_not_fill_the_memory() -> None:
    assert printed(SIZES) < 25  # MiB for 300 of them
