"""Files as people have them: what `infer --denoise` and each bundled network make of noise in PNG and JPEG files.

Gaussian noise is added to photographs, in color, in gray, in gray that is saved in RGB, and in that with a slight noise
of its own in each channel. Files are written by Pillow and restored by the command itself; results are read from PNG
files. Gray files have no chroma to subsample. Numbers are the mean PSNR over the photographs, all channels of 8 bits.
"""

import argparse
import contextlib
import io
import json
import statistics
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image as Pillow

from restore import bundled, infer
from restore.data.catalog import default_root, find_images
from restore.folder import LOG_NAME
from restore.images.color import with_channels
from restore.images.io import read_image, write_image
from restore.images.pixels import Image, to_uint8
from restore.images.tensors import as_tensor
from restore.metrics import psnr
from restore.report import markdown_table

KINDS = ("color", "gray", "gray in RGB", "slight chroma noise")
QUALITIES = (98, 95, 90, 75)
SUBSAMPLINGS = {"4:4:4": 0, "4:2:0": 2}  # as Pillow numbers them
SLIGHT = 3.0  # deviation of the slight noise in each channel, of 255 levels


@dataclass(frozen=True)
class Cell:
    """One row of the table; quality 0 is PNG."""

    kind: str
    sigma: float
    quality: int
    subsampling: str

    @property
    def folder(self) -> str:
        return "-".join(map(str, (self.kind, self.sigma, self.quality, self.subsampling))).replace(":", "")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", default="Kodak24", help="a set or folder of photographs in color")
    parser.add_argument("--root", type=Path, default=default_root(), help="where known data sets lie")
    parser.add_argument("--images", type=int, default=2, help="the first so many photographs of the set")
    parser.add_argument("--crop", type=int, default=256, help="pixels of the square that is cut from their middle")
    parser.add_argument("--sigma", type=float, nargs="+", default=[10.0, 25.0, 50.0])
    denoisers = [model.name for model in bundled.available() if model.name.startswith("dncnn-") and not model.norm]
    parser.add_argument("--models", nargs="+", default=denoisers, help="bundled models beside --denoise")


def run(args: argparse.Namespace) -> None:
    paths = find_images(args.data, "test", args.root).clean
    photos = [_middle(to_uint8(read_image(path)), args.crop) for path in paths]
    photos = [photo for photo in photos if photo.shape[2] == 3][: args.images]
    cells = _cells(args.sigma)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for cell in cells:
            for number, photo in enumerate(photos):
                _write(folder / "in" / cell.folder, number, _noisy(photo, cell, number), cell)
        ways = {"--denoise": ["--denoise"], **{name: ["--model", name] for name in args.models}}
        for name, way in ways.items():
            with contextlib.redirect_stdout(io.StringIO()):
                places = ["--input", str(folder / "in"), "--output", str(folder / name), "--format", "png"]
                infer.main([*way, *places])
        rows = [_row(cell, photos, folder, list(ways)) for cell in cells]
    print("\n".join(markdown_table(rows)))


def _cells(sigmas: list[float]) -> list[Cell]:
    formats = [(0, "4:4:4"), *((quality, subsampling) for quality in QUALITIES for subsampling in SUBSAMPLINGS)]
    return [
        Cell(kind, sigma, quality, subsampling)
        for kind in KINDS
        for sigma in sigmas
        for quality, subsampling in formats
        if kind != "gray" or subsampling == "4:4:4"
    ]


def _row(cell: Cell, photos: list[Image], folder: Path, ways: list[str]) -> dict[str, str]:
    truths = [photo if cell.kind == "color" else with_channels(photo, 1) for photo in photos]
    inputs = sorted((folder / "in" / cell.folder).iterdir())
    scores = {"input": [_psnr(file, truth) for file, truth in zip(inputs, truths, strict=True)]}
    for way in ways:
        results = [folder / way / cell.folder / f"{number}.png" for number in range(len(photos))]
        scores[way] = [_psnr(file, truth) for file, truth in zip(results, truths, strict=True)]
    log = json.loads((folder / "--denoise" / LOG_NAME).read_text())["images"]
    chosen = {log[f"{cell.folder}/{number}.png"]["network"] for number in range(len(photos))}
    return {
        "kind": cell.kind,
        "sigma": f"{cell.sigma:g}",
        "file": f"JPEG {cell.quality}" if cell.quality else "PNG",
        "chroma": "" if cell.kind == "gray" or not cell.quality else cell.subsampling,
        "chosen": ", ".join(sorted(chosen)),
        **{name: f"{statistics.fmean(values):.2f}" for name, values in scores.items()},
    }


def _psnr(file: Path, truth: Image) -> float:
    image = to_uint8(read_image(file))
    return psnr(as_tensor(image), as_tensor(with_channels(truth, image.shape[2]))).item()


def _middle(image: Image, size: int) -> Image:
    top, left = ((extent - size) // 2 for extent in image.shape[:2])
    return image[max(0, top) :, max(0, left) :][:size, :size]


def _noisy(photo: Image, cell: Cell, number: int) -> Image:
    """The same noise in all files of a photograph and level, in color or in gray."""
    clean = photo if cell.kind == "color" else with_channels(photo, 1)
    random = np.random.default_rng(zlib.crc32(f"{clean.shape[2]} {cell.sigma} {number}".encode()))
    noisy = clean + random.normal(0, cell.sigma, clean.shape)
    if cell.kind in ("gray in RGB", "slight chroma noise"):
        noisy = noisy.repeat(3, axis=2)
    if cell.kind == "slight chroma noise":
        noisy = noisy + random.normal(0, SLIGHT, noisy.shape)
    pixels: Image = noisy.clip(0, 255).round().astype(np.uint8)
    return pixels


def _write(folder: Path, number: int, image: Image, cell: Cell) -> None:
    if not cell.quality:
        write_image(folder / f"{number}.png", image)
        return
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{number}.jpg"
    if image.shape[2] == 1:
        Pillow.fromarray(image[:, :, 0]).save(file, quality=cell.quality)
    else:
        Pillow.fromarray(image).save(file, quality=cell.quality, subsampling=SUBSAMPLINGS[cell.subsampling])
