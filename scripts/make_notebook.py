"""Write and execute docs/contrast.ipynb: python scripts/make_notebook.py [--output FILE.ipynb]"""

import argparse
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]

CELLS = [
    (
        "markdown",
        """# The same network with and without batch norm

DnCNN's authors say that batch norm makes training faster and better; EDSR's authors removed it. Here one small DnCNN is
trained twice, on the same patches, noise and initial weights. The only difference is the word `norm`. This takes a few
minutes on two CPU cores and needs no download: the photographs come with scikit-image.""",
    ),
    (
        "code",
        """from pathlib import Path

from restore.__main__ import dispatch

STEPS = 300
for norm in ("batch", "none"):
    settings = f"--config quickstart --model.norm {norm} --output runs/{norm}"
    length = f"--trainer.max_steps {STEPS} --data.steps_per_epoch 50"
    dispatch(["train", "--quiet", *settings.split(), *length.split()])""",
    ),
    (
        "markdown",
        """## How they learned

Validation PSNR on four photographs with noise of sigma 25, from the CSV log of each run. One short run of each says
nothing about long training; the [studies](studies.md) do, over many seeds and with tuned learning rates.""",
    ),
    (
        "code",
        """import csv

import matplotlib.pyplot as plt

figure, axes = plt.subplots(figsize=(6, 3.5), layout="constrained")
for norm, style in (("batch", "o-"), ("none", "s--")):
    (log,) = Path("runs", norm).glob("csv/**/metrics.csv")
    rows = [row for row in csv.DictReader(log.open()) if row.get("val/psnr")]
    steps = [int(row["step"]) + 1 for row in rows]
    scores = [float(row["val/psnr"]) for row in rows]
    axes.plot(steps, scores, style, label=f"norm: {norm}")
axes.set(xlabel="step", ylabel="validation PSNR (dB)")
axes.legend();""",
    ),
    (
        "markdown",
        """## What they make of a photograph

The noise is drawn from a seed that depends on the image's name only, so both see the same.""",
    ),
    (
        "code",
        """import numpy as np
import torch

import restore
from restore.data.catalog import find_images
from restore.images.io import read_image

photo = read_image(find_images("photos", "test", Path()).clean[0])[100:228, 180:308]
clean = torch.from_numpy(photo.astype(np.float32) / 255).permute(2, 0, 1)[None]
noisy = clean + 25 / 255 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))

pictures = {"noisy": noisy}
for norm in ("batch", "none"):
    with torch.inference_mode():
        pictures[f"norm: {norm}"] = restore.load(f"runs/{norm}/weights.safetensors")(noisy)
pictures["clean"] = clean

figure, panels = plt.subplots(1, 4, figsize=(10, 3), layout="constrained")
for axes, (name, picture) in zip(panels, pictures.items(), strict=True):
    pixels = (255 * picture).clamp(0, 255).round()
    psnr = restore.psnr(pixels, (255 * clean).round()).item()
    axes.imshow(pixels[0, 0], cmap="gray", vmin=0, vmax=255)
    axes.set_title(name if name == "clean" else f"{name}, {psnr:.2f} dB")
    axes.axis("off")""",
    ),
    (
        "markdown",
        """## What batch norm costs in memory

The forecast of a training step of DnCNN-17 as published, batch 128 of 40x40 patches, in MiB. `recompute` is batch norm
whose outputs are computed again in the backward pass, with the same gradients.""",
    ),
    (
        "code",
        """from restore.models import NetworkSpec
from restore.profiling import Step, forecast

peaks = {}
for name, settings in {
    "batch": {"norm": "batch"},
    "batch, recompute": {"norm": "batch", "recompute": "norm"},
    "none": {"norm": "none"},
}.items():
    spec = NetworkSpec("DnCNN", {"channels": 1, "depth": 17, "features": 64, **settings})
    peaks[name] = forecast(Step(spec, batch=128, patch=40)).memory.peak / 2**20

for name, peak in peaks.items():
    print(f"{name:18}{peak:8.0f} MiB{1 - peak / peaks['batch']:8.1%} less")""",
    ),
]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "contrast.ipynb")
    args = parser.parse_args()
    write(args.output)
    print(f"written: {args.output}")
    return 0


def write(path: Path, replacing: tuple[str, str] = ("", "")) -> nbformat.NotebookNode:
    """Execute the notebook in a temporary folder and write it; a text in its code can be replaced by another."""
    new: dict[str, Callable[[str], nbformat.NotebookNode]] = {
        "markdown": nbformat.v4.new_markdown_cell,
        "code": nbformat.v4.new_code_cell,
    }
    cells = [new[kind](text.replace(*replacing) if kind == "code" and replacing[0] else text) for kind, text in CELLS]
    for number, cell in enumerate(cells):
        cell.id = f"cell-{number}"
    notebook: nbformat.NotebookNode = nbformat.v4.new_notebook(cells=cells)
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(notebook, timeout=1200, resources={"metadata": {"path": folder}}).execute()
    for cell in cells:
        cell.metadata.pop("execution", None)  # times of this run
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)
    return notebook


if __name__ == "__main__":
    raise SystemExit(main())
