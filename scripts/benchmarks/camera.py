"""Real noise: what networks, and OpenCV's non-local means, make of PolyU's photographs of static scenes.

The scenes are halved by their names. On the first half a network is trained, if that is asked for, and the strength of
non-local means is chosen; the second half is measured: PSNR and SSIM before and after, by camera.
"""

import argparse
import shutil
import statistics
import tempfile
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from restore import bundled
from restore.benchmark import measure
from restore.data.catalog import ImageSet, default_root, find_images
from restore.data.degradation import Paired
from restore.foreign_checkpoints import load_any
from restore.images.tensors import quantize, to_image, to_tensor
from restore.inference import Runner, tiled
from restore.metrics import PROTOCOLS, Row
from restore.models import RestorationNetwork
from restore.optim import Optimization
from restore.report import markdown_table
from restore.training import PatchData, fit

STRENGTHS = (1, 2, 3, 4, 6, 8)  # of non-local means
START = "dncnn-color-blind"  # whose weights training on pairs starts from


class NonLocalMeans:
    """OpenCV's non-local means for color images, as it comes but for its strength."""

    channels, inputs, scale, multiple_of = 3, 3, 1, 1
    device = torch.device("cpu")

    def __init__(self, strength: float) -> None:
        self.strength = strength

    def __call__(self, degraded: Tensor) -> Tensor:
        image = np.ascontiguousarray(to_image(quantize(degraded))[:, :, ::-1])
        clean = cv2.fastNlMeansDenoisingColored(image, None, self.strength, self.strength)
        return to_tensor(np.ascontiguousarray(clean[:, :, ::-1]))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--root", type=Path, default=default_root(), help="where known data sets lie")
    parser.add_argument("--weights", type=Path, nargs="+", default=[], help="weights files beside the bundled models")
    parser.add_argument("--train", type=int, default=0, metavar="STEPS", help=f"train {START} on the first half")


def run(args: argparse.Namespace) -> None:
    first, second = halves(find_images("PolyU", "test", args.root))
    models = [model for model in bundled.available() if model.channels == 3 and model.scale == 1]
    runners: dict[str, Runner | None] = {"noisy": None}
    for name, path in {**{model.name: model.weights for model in models}, **{p.stem: p for p in args.weights}}.items():
        runners[name] = tiled(load_any(path).network)
    if args.train:
        runners[f"{START}, {args.train} steps on pairs"] = tiled(trained(first, args.train))
    strengths = {str(strength): NonLocalMeans(strength) for strength in STRENGTHS}
    chosen = max(scored(strengths, first), key=lambda row: row.psnr).model
    runners[f"non-local means, h {chosen}"] = strengths[chosen]
    rows = scored(runners, second)
    cameras = sorted({camera(one.name) for one in rows[0].per_image})
    table = [{"": row.model, **{name: cell(row, name) for name in cameras}, "all": cell(row, "")} for row in rows]
    counts = {name: sum(camera(one.name) == name for one in rows[0].per_image) for name in cameras}
    print(f"PSNR (dB) / SSIM, all channels; images: {', '.join(f'{name} {count}' for name, count in counts.items())}\n")
    print("\n".join(markdown_table(table)))


def halves(images: ImageSet) -> tuple[ImageSet, ImageSet]:
    """Every other scene, by name, and the rest; all photographs of a scene are in the same half."""
    scenes = sorted({scene(path.stem) for path in images.clean})

    def part(number: int) -> ImageSet:
        kept = [i for i, path in enumerate(images.clean) if scenes.index(scene(path.stem)) % 2 == number]
        clean, noisy = ([paths[i] for i in kept] for paths in (images.clean, images.degraded[1]))
        return ImageSet(images.name, tuple(clean), {1: tuple(noisy)})

    return part(0), part(1)


def scene(name: str) -> str:
    """`Sony_4-5_125_3200_plant` of `Sony_4-5_125_3200_plant_11`."""
    return name.rpartition("_")[0].rstrip("_")


def camera(name: str) -> str:
    return Path(name).name.partition("_")[0]


def scored(runners: Mapping[str, Runner | None], images: ImageSet) -> list[Row]:
    return measure(runners, images, Paired(), PROTOCOLS["denoise-rgb"], 3)


def cell(row: Row, name: str) -> str:
    found = [one for one in row.per_image if name in ("", camera(one.name))]
    return f"{statistics.fmean(one.psnr for one in found):.2f} / {statistics.fmean(one.ssim for one in found):.4f}"


def trained(images: ImageSet, steps: int) -> RestorationNetwork:
    """A bundled network after some more steps on pairs of real photographs."""
    network = load_any(bundled.find(START).weights).network
    with tempfile.TemporaryDirectory() as place:
        clean, noisy = Path(place, "clean"), Path(place, "noisy")
        for folder, paths in ((clean, images.clean), (noisy, images.degraded[1])):
            folder.mkdir()
            for path in paths:
                shutil.copy(path, folder)
        data = PatchData(
            str(clean), str(clean), train_degraded=noisy, val_degraded=noisy, cache=Path(place, "cache"),
            batch_size=16, steps_per_epoch=steps,
        )  # fmt: skip
        optim = Optimization(lr=1e-4, schedule="cosine")
        trainer = {"max_steps": steps, "num_sanity_val_steps": 0, "limit_val_batches": 0, "logger": False}
        fit(network, data, optim, Path(place, "run"), trainer=trainer)
        return load_any(Path(place, "run", "weights.safetensors")).network
