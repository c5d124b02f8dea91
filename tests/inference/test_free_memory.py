"""Free memory as Linux reports it, and what a forward pass needs."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from restore.inference.memory import free_memory

CPU = torch.device("cpu")
MEMINFO = "MemTotal: 8000 kB\nMemFree: 100 kB\nMemAvailable: 4000 kB\n"
UNLIMITED = "9223372036854771712"


def machine(root: Path, **files: str) -> Path:
    """A root folder with these files in `proc` and `sys/fs/cgroup`."""
    for name, text in {"proc/meminfo": MEMINFO, **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def group(folder: str, limit: str, usage: int, files: int) -> dict[str, str]:
    """A control group of version 2."""
    path = f"sys/fs/cgroup/{folder}/memory"
    return {
        f"{path}.max": f"{limit}\n",
        f"{path}.current": f"{usage}\n",
        f"{path}.stat": f"anon 5\ninactive_file {files}\n",
    }


def old_group(folder: str, limit: str, usage: int, files: int) -> dict[str, str]:
    """A control group of version 1."""
    path = f"sys/fs/cgroup/memory/{folder}/memory"
    return {
        f"{path}.limit_in_bytes": f"{limit}\n",
        f"{path}.usage_in_bytes": f"{usage}\n",
        f"{path}.stat": f"inactive_file 1\ntotal_inactive_file {files}\n",
    }


@pytest.mark.parametrize(("files", "free"), [
    ({}, 4096000),
    ({"proc/self/cgroup": "0::/\n"}, 4096000),
    ({"proc/self/cgroup": "0::/job/step\n"} | group("job/step", "3000", 1500, 200), 1700),
    ({"proc/self/cgroup": "0::/job/step\n"} | group("job/step", "max", 0, 0) | group("job", "3000", 2900, 0), 100),
    ({"proc/self/cgroup": "0::/job\n"} | group("job", "9999999999", 0, 0), 4096000),
    ({"proc/self/cgroup": "0::/job\n"} | group("job", "1000", 1200, 0), 0),
    ({"proc/self/cgroup": "9:cpu:/\n8:memory:/job\n0::/\n"} | old_group("job", "3000", 1000, 500), 2500),
    ({"proc/self/cgroup": "8:memory:/docker/3f\n"} | old_group("", "2000", 1000, 0), 1000),
    ({"proc/self/cgroup": "8:memory:/job\n"} | old_group("job", UNLIMITED, 1000, 0), 4096000),
])  # fmt: skip
def test_free_is_what_linux_has_to_give_within_every_limit(files: dict[str, str], free: int, tmp_path: Path) -> None:
    assert free_memory(CPU, machine(tmp_path, **files)) == free


def test_elsewhere_it_cannot_be_told(tmp_path: Path) -> None:
    assert free_memory(CPU, tmp_path) is None


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
