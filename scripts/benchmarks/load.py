"""Batches of patches: ours from the memory-mapped store against decoding a PNG for each patch.

The reference opens, decodes and crops one file for each patch, as today's projects do. With --simulate there is no
reference: the stores are holes in sparse files, of which the index alone is real, so any number fits on a disk. They
are timed on one batch again and again, whose pages are in memory, and on new batches, whose pages the system must find.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from benchmarks.turns import take_turns
from restore.data.catalog import ImageSet
from restore.data.pairs import PatchSampler
from restore.data.store import PatchStore, StoredImage, StoreSpec, open_store
from restore.files import write_atomically
from restore.provenance import provenance
from restore.tables import print_table

SIZE_2K = (1356, 2040)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--images", type=int, nargs="+", default=[4, 16, 64], help="of 2040x1356; default: 4 16 64")
    parser.add_argument("--simulate", type=int, nargs="+", metavar="IMAGES", help="stores of so many images, all holes")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--patch", type=int, default=96)
    parser.add_argument("--seconds", type=float, default=5, help="of measuring each variant")
    parser.add_argument("--json", type=Path)


def run(args: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder:
        if args.simulate:
            table = _simulated(Path(folder), args)
        else:
            table = [_row(Path(folder), count, args) for count in args.images]
    title = f"{args.batch} patches of {args.patch}x{args.patch} from images of {SIZE_2K[1]}x{SIZE_2K[0]}"
    print_table(title, table)
    if args.json:
        write_atomically(
            args.json,
            json.dumps({"title": title, "rows": table, "provenance": provenance(torch.device("cpu"))}, indent=1),
        )


def _row(folder: Path, count: int, args: argparse.Namespace) -> dict[str, str]:
    files = _photographs(folder, count)
    variants: dict[str, tuple[Any, ...]] = {
        "png": (decode_for_each_patch, files, args.batch, args.patch),
        "store": (gather, files, folder / "cache", args.batch, args.patch),
    }
    found = take_turns(variants, args.seconds)
    ratio, low, high = found["store"].ratio(found["png"])
    return {
        "images": str(count),
        "PNG per patch, ms": f"{1e3 * found['png'].median:.1f}",
        "store, ms": f"{1e3 * found['store'].median:.3f}",
        "times as fast": f"{ratio:.0f} ({low:.0f} to {high:.0f})",
        "peak RSS MiB": f"{found['store'].peak_rss_mib:.0f}",
    }


def _simulated(folder: Path, args: argparse.Namespace) -> list[dict[str, str]]:
    stores = {count: _sparse_store(folder / str(count), count) for count in args.simulate}
    opened = {}
    for count, store in stores.items():
        start = time.perf_counter()
        PatchSampler(PatchStore(store), args.patch, args.batch, seed=0).batch(0)
        opened[count] = time.perf_counter() - start
    variants = {
        f"{count} {pages}": (gather_from, store, args.batch, args.patch, pages == "new")
        for count, store in stores.items()
        for pages in ("same", "new")
    }
    found = take_turns(variants, args.seconds)
    first = found[f"{args.simulate[0]} same"]
    table = []
    for count, store in stores.items():
        pixels = (store / "pixels.u8").stat()
        same, new = found[f"{count} same"], found[f"{count} new"]
        ratio, low, high = first.ratio(same)
        table.append({
            "images": f"{count:,}",
            "size, GB": f"{pixels.st_size / 1e9:.1f}",
            "on disk, MB": f"{512 * pixels.st_blocks / 1e6:.1f}",
            "opened, s": f"{opened[count]:.2f}",
            "ms/batch, in memory": f"{1e3 * same.median:.3f}",
            "x first": f"{ratio:.2f} ({low:.2f} to {high:.2f})",
            "ms/batch, new pages": f"{1e3 * new.median:.1f}",
            "memory, MiB": f"{new.anonymous_mib:.0f}",
            "with mapped pages, MiB": f"{new.peak_rss_mib:.0f}",
        })  # fmt: skip
    return table


def _sparse_store(folder: Path, count: int) -> Path:
    """A store of `count` black images of which the disk holds nothing but the index."""
    height, width = SIZE_2K
    size = height * width * 3
    folder.mkdir()
    images = [asdict(StoredImage(f"{n:06d}.png", height, width, n * size, n * size)) for n in range(count)]
    (folder / "index.json").write_text(json.dumps({**asdict(StoreSpec(channels=3)), "images": images}))
    with (folder / "pixels.u8").open("wb") as file:
        file.truncate(count * size)
    return folder


def _photographs(folder: Path, count: int) -> list[Path]:
    """Photographs of scikit-image, enlarged to 2K, with grain so that they are as hard to decode as real ones."""
    from skimage import data

    photographs = [data.astronaut(), data.coffee(), data.chelsea(), data.rocket()]
    files = []
    for number in range(count):
        path = folder / f"{number:04d}.png"
        files.append(path)
        if path.exists():
            continue
        image = cv2.resize(photographs[number % len(photographs)], SIZE_2K[::-1], interpolation=cv2.INTER_CUBIC)
        grain = np.random.default_rng(number).normal(0, 3, image.shape)
        cv2.imwrite(str(path), (image + grain).clip(0, 255).astype(np.uint8))
    return files


def decode_for_each_patch(files: list[Path], batch: int, patch: int) -> Callable[[], None]:
    """A batch in the manner of today's projects."""
    random = np.random.default_rng(0)

    def work() -> None:
        patches = []
        for number in random.integers(len(files), size=batch):
            bgr = cv2.imread(str(files[number]))
            assert bgr is not None, f"{files[number]} cannot be read"
            image = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
            top, left = random.integers(image.shape[0] - patch), random.integers(image.shape[1] - patch)
            patches.append(np.ascontiguousarray(image[top : top + patch, left : left + patch].transpose(2, 0, 1)))
        torch.from_numpy(np.stack(patches))

    return work


def gather(files: list[Path], cache: Path, batch: int, patch: int) -> Callable[[], None]:
    """A batch of ours."""
    return _batches(open_store(ImageSet("benchmark", tuple(files), {}), StoreSpec(channels=3), cache), batch, patch)


def gather_from(store: Path, batch: int, patch: int, new: bool) -> Callable[[], None]:
    """A batch of ours from a store that is there: always the same, whose pages are in memory then, or a new one."""
    return _batches(PatchStore(store), batch, patch, new)


def _batches(store: PatchStore, batch: int, patch: int, new: bool = True) -> Callable[[], None]:
    sampler = PatchSampler(store, patch, batch, seed=0)
    step = iter(range(10**9))
    return lambda: sampler.batch(next(step) if new else 0) and None
