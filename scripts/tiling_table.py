"""Whole images against the same in tiles: difference, memory and time, each in a process of its own (on Linux).

Usage: python scripts/tiling_table.py                        a table of networks and tiles
       python scripts/tiling_table.py large 8000 6000 auto   DnCNN-17 on one gray image of that width and height

Networks have fresh weights of seed 0; images are a photograph, mirrored until it is large enough. Memory is what the
process holds at its peak beyond what it held before, the result left out; time is the processor's.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from restore.data.catalog import default_root, find_images
from restore.images.color import with_channels
from restore.images.io import read_image
from restore.images.pixels import Image, Pixels, to_uint8
from restore.images.tensors import quantize, to_tensor
from restore.inference import restore_image, restore_tensor, tiled
from restore.inference.receptive_field import receptive_field
from restore.models import EDSR, DnCNN, RestorationNetwork, SRResNet
from restore.runner_options import tile as parse_tile
from restore.tables import print_table

MIB = 2**20
CASES: dict[str, tuple[Callable[[], RestorationNetwork], tuple[int, int], tuple[str, ...]]] = {
    # name: network, width and height, tiles
    "DnCNN-17": (DnCNN, (1200, 900), ("0", "512", "256", "128")),
    "EDSR-baseline x2": (EDSR, (640, 480), ("0", "256", "128")),
    "EDSR-baseline x4": (lambda: EDSR(scale=4), (480, 360), ("0", "256", "128")),
    "SRResNet x4": (SRResNet, (480, 360), ("0", "256", "128")),
}


def main() -> None:
    match sys.argv[1:]:
        case []:
            for name in CASES:
                print_table(_title(name), list(_rows(name)))
        case ["measure", name, tile, result]:
            _measure(name, tile, Path(result))
        case ["large", width, height, tile]:
            _large(int(width), int(height), tile)
        case _:
            sys.exit(__doc__)


def _title(name: str) -> str:
    network, (width, height), _ = CASES[name]
    return f"{name}, {width}x{height}, halo {receptive_field(network().eval()).halo}"


def _rows(name: str) -> Iterator[dict[str, str]]:
    with tempfile.TemporaryDirectory() as folder:
        whole = None
        for tile in CASES[name][2]:
            path = Path(folder) / f"{tile}.npy"
            command = [sys.executable, __file__, "measure", name, tile, str(path)]
            measured = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
            restored = torch.from_numpy(np.load(path))
            whole = restored if whole is None else whole
            differing = int((quantize(restored) != quantize(whole)).sum())
            yield {
                "tile": "whole" if tile == "0" else tile,
                "largest difference": f"{(restored - whole).abs().max().item():.1e}",
                "uint8 differing": f"{differing} of {whole.numel():,}",
                "peak MiB": f"{measured['peak_bytes'] / MIB:,.0f}",
                "time s": f"{measured['cpu_s']:.1f}",
            }


def _measure(name: str, tile: str, result: Path) -> None:
    network = _fresh(name)
    width, height = CASES[name][1]
    image = to_tensor(_photograph(width, height, network.channels))
    runner = tiled(network, parse_tile(tile))
    restore_tensor(network, image[..., :64, :64])  # so that libraries are loaded
    before, start = _resident("VmRSS"), time.process_time()
    restored = restore_tensor(runner, image)
    measured = {"cpu_s": time.process_time() - start, "peak_bytes": _resident("VmHWM") - before - restored.nbytes}
    np.save(result, restored.numpy())
    print(json.dumps(measured))


def _large(width: int, height: int, tile: str) -> None:
    network = _fresh("DnCNN-17")
    image = _photograph(width, height, 1)
    runner = tiled(network, parse_tile(tile))
    restore_image(network, image[:64, :64])
    before, start = _resident("VmRSS"), time.process_time()
    restored = restore_image(runner, image)
    elapsed_s = time.process_time() - start
    held = sum(array.size * size for array, size in ((image, 4), (restored, 4 + 1)))  # float in and out, and the result
    peak = _resident("VmHWM") - before
    print(
        f"DnCNN-17 on {width}x{height}, tile {tile}: {elapsed_s:.0f} s, {image.size / 1e6 / elapsed_s:.3f} megapixels/s"
    )
    print(
        f"peak {peak / MIB:,.0f} MiB above the {before / MIB:,.0f} MiB before, of which the image {held / MIB:,.0f} MiB"
    )
    for name, differing, number in _check(network, image, restored):
        print(f"{name}: {differing} of {number:,} pixels differ from the same restored on its own")


def _check(network: RestorationNetwork, image: Image, restored: Pixels) -> Iterator[tuple[str, int, int]]:
    """Windows of 300x300 against what becomes of them with 50 pixels around, more than the network reaches."""
    height, width = image.shape[:2]
    places = {"top left": (0, 0), "middle": (height // 2, width // 2), "bottom right": (height - 300, width - 300)}
    for name, (top, left) in places.items():
        first_row, first_column = max(0, top - 50), max(0, left - 50)
        around = restore_image(network, image[first_row : top + 350, first_column : left + 350])
        alone = around[top - first_row :, left - first_column :][:300, :300]
        window = restored[top : top + 300, left : left + 300]
        yield name, int(np.count_nonzero(alone != window)), window.size


def _fresh(name: str) -> RestorationNetwork:
    torch.manual_seed(0)
    return CASES[name][0]().eval()


def _photograph(width: int, height: int, channels: int) -> Image:
    photograph = with_channels(to_uint8(read_image(find_images("photos", "test", default_root()).clean[-1])), channels)
    missing = [(0, max(0, extent - size)) for extent, size in zip((height, width), photograph.shape, strict=False)]
    return np.pad(photograph, [*missing, (0, 0)], mode="symmetric")[:height, :width]


def _resident(field: str) -> int:
    """Bytes of this process, now (VmRSS) or at the peak so far (VmHWM)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


if __name__ == "__main__":
    main()
