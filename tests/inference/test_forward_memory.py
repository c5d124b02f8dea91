"""What a forward pass is said to need, and what it takes."""

import subprocess
import sys

import pytest

PEAK = """
import sys
from pathlib import Path
import torch
from restore.inference.memory import bytes_per_pixel
from restore.models import EDSR, DnCNN

def resident(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))

network = {"denoise": DnCNN, "enlarge": lambda: EDSR(blocks=1, scale=4)}[sys.argv[1]]().eval()
side = int(sys.argv[2])
network.requires_grad_(False)
image = torch.rand(1, network.channels, side, side)
network(image[..., :64, :64])
before = resident("VmRSS")
network(image)
print((resident("VmHWM") - before) / side**2 / bytes_per_pixel(network))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the process's memory as Linux shows it")
@pytest.mark.parametrize("network", ["denoise 380", "enlarge 150"])
def test_the_estimate_is_what_a_forward_pass_takes_but_for_workspace(network: str) -> None:
    done = subprocess.run([sys.executable, "-c", PEAK, *network.split()], capture_output=True, text=True, check=True)
    assert 0.9 < float(done.stdout) < 1.5
