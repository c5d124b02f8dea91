"""Rows and images -> something people look at: contact sheets and tables."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont
from rich.console import Console
from rich.table import Table
from torch import Tensor

from restore.data.pairs import ImagePair
from restore.images.color import with_channels
from restore.images.io import Image, write_atomically, write_image
from restore.images.tensors import to_image
from restore.metrics import Score

CAPTION_HEIGHT = 22
GAP = 6


class Panel(NamedTuple):
    """One picture of a contact sheet: (H, W, 1 or 3) uint8 and the line below it."""

    image: Image
    caption: str


def comparison(pair: ImagePair, outcomes: Mapping[str, tuple[Tensor, Score]]) -> list[Panel]:
    """The row of a contact sheet for one image: each result, (1, C, H, W), 0 to 255, with PSNR, and the truth."""
    panels = [Panel(to_image(image), f"{model} {score.psnr:.2f} dB") for model, (image, score) in outcomes.items()]
    return [*panels, Panel(to_image(pair.clean), f"{pair.name} (truth)")]


def contact_sheet(path: Path, rows: Sequence[Sequence[Panel]], size: int = 320) -> None:
    """Write rows of captioned pictures as one PNG.

    The centre of each picture is shown, at most `size` pixels high and wide, one screen pixel per image pixel.
    """
    strips = [_row(row, size) for row in rows]
    width = max(strip.shape[1] for strip in strips)
    sheet = np.concatenate([np.pad(s, ((0, 0), (0, width - s.shape[1]), (0, 0)), constant_values=255) for s in strips])
    write_image(path, sheet)


def _row(panels: Sequence[Panel], size: int) -> Image:
    cells = []
    for image, caption in panels:
        top, left = (max(0, (extent - size) // 2) for extent in image.shape[:2])
        shown = with_channels(image[top : top + size, left : left + size], 3)
        canvas = Pillow.new("RGB", (shown.shape[1] + GAP, shown.shape[0] + CAPTION_HEIGHT + GAP), "white")
        canvas.paste(Pillow.fromarray(np.ascontiguousarray(shown)), (0, 0))
        ImageDraw.Draw(canvas).text((2, shown.shape[0] + 3), caption, "black", ImageFont.load_default(13))
        cells.append(np.asarray(canvas))
    height = max(cell.shape[0] for cell in cells)
    padded = [np.pad(cell, ((0, height - cell.shape[0]), (0, 0), (0, 0)), constant_values=255) for cell in cells]
    return np.concatenate(padded, axis=1)


def print_rows(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print the summaries of rows as a table, each number beside its protocol."""
    table = Table()
    table.add_column("model", overflow="fold")
    for heading in ("set", "degradation", "protocol"):
        table.add_column(heading, no_wrap=True)
    for heading in ("PSNR (dB)", "SSIM", "images"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        numbers = f"{row['psnr']:.2f}", f"{row['ssim']:.4f}", str(row["images"])
        table.add_row(row["model"], row["set"], row["degradation"], row["protocol"], *numbers)
    Console().print(table)


def write_csv(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Write rows of the same keys as a CSV file with a header."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(path, text.getvalue())
