"""Rows and images -> something people look at: contact sheets, tables and plots."""

import csv
import io
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont
from torch import Tensor

from restore.data.pairs import ImagePair
from restore.files import printable, write_atomically
from restore.images.color import with_channels
from restore.images.io import write_image
from restore.images.pixels import Image
from restore.images.tensors import to_image
from restore.metrics import Score
from restore.tables import print_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe & Ito: told apart by color-blind readers; the hatching, in print.
COLORS = ("#0072B2", "#E69F00", "#009E73", "#56B4E9", "#F0E442", "#D55E00", "#CC79A7", "#000000")
HATCHES = ("", "//", "..", "\\\\", "xx", "--")
MARKERS = "osD^vP*X"
STYLES = ("-", "--", ":")  # one after all colors are used, then the next

MANY = 10_000  # from which numbers on an axis are thousands (k) and millions (M)

SHEET_SIZE = 320  # pixels of a picture on a contact sheet, at most
CAPTION_HEIGHT = 22
GAP = 6


class Panel(NamedTuple):
    """One picture of a contact sheet: (H, W, 1 or 3) uint8 and the line below it."""

    image: Image
    caption: str


def comparison(
    pair: ImagePair, outcomes: Mapping[str, tuple[Tensor, Score]], size: int = SHEET_SIZE, about: str = ""
) -> list[Panel]:
    """The row of a contact sheet for one image: each result, (1, C, H, W), 0 to 255, with PSNR, and the truth.

    Of each only the center is kept, at most `size` pixels high and wide; `about` stands in the caption of the truth.
    """
    captions = {f"{score.psnr:.2f} dB  {model}": image for model, (image, score) in outcomes.items()}
    captions[f"{pair.name}{about} (truth)"] = pair.clean
    return [Panel(_center(to_image(image), size).copy(), caption) for caption, image in captions.items()]


def contact_sheet(path: Path, rows: Sequence[Sequence[Panel]], size: int = SHEET_SIZE) -> Image:
    """Write rows of captioned pictures as one, in the format that the suffix says, and return it: (H, W, 3).

    The center of each picture is shown, at most `size` pixels high and wide, one screen pixel per image pixel.
    """
    strips = [_row(row, size) for row in rows]
    width = max(strip.shape[1] for strip in strips)
    sheet = np.concatenate([np.pad(s, ((0, 0), (0, width - s.shape[1]), (0, 0)), constant_values=255) for s in strips])
    write_image(path, sheet)
    return sheet


def _center(image: Image, size: int) -> Image:
    top, left = (max(0, (extent - size) // 2) for extent in image.shape[:2])
    return image[top : top + size, left : left + size]


def _row(panels: Sequence[Panel], size: int) -> Image:
    cells = []
    for image, caption in panels:
        shown = with_channels(_center(image, size), 3)
        canvas = Pillow.new("RGB", (shown.shape[1] + GAP, shown.shape[0] + CAPTION_HEIGHT + GAP), "white")
        canvas.paste(Pillow.fromarray(np.ascontiguousarray(shown)), (0, 0))
        ImageDraw.Draw(canvas).text((2, shown.shape[0] + 3), printable(caption), "black", ImageFont.load_default(13))
        cells.append(np.asarray(canvas))
    height = max(cell.shape[0] for cell in cells)
    padded = [np.pad(cell, ((0, height - cell.shape[0]), (0, 0), (0, 0)), constant_values=255) for cell in cells]
    return np.concatenate(padded, axis=1)


def print_rows(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print the summaries of rows, one table for each protocol."""
    for protocol in dict.fromkeys(row["protocol"] for row in rows):
        table = [
            {
                "model": printable(row["model"]),
                "set": printable(row["set"]),
                "degradation": row["degradation"],
                "PSNR (dB)": f"{row['psnr']:.2f}",
                "SSIM": f"{row['ssim']:.4f}",
                **({"PSNR-B (dB)": f"{row['psnr_b']:.2f}"} if "psnr_b" in row else {}),
                "images": str(row["images"]),
            }
            for row in rows
            if row["protocol"] == protocol
        ]
        print_table(f"protocol {protocol}", table)


def markdown_table(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """The lines of a table in Markdown; rows have the same keys. Nothing without rows."""
    if not rows:
        return []
    return [
        "| " + " | ".join(rows[0]) + " |",
        "|" + "---|" * len(rows[0]),
        *("| " + " | ".join(value.replace("|", "\\|") for value in row.values()) + " |" for row in rows),
    ]


def plot_stacks(path: Path, groups: Mapping[str, Mapping[str, Mapping[str, float]]], label: str) -> None:
    """Write a picture of groups of horizontal bars, each stacked from named parts; all bars have the same parts.

    Every group has its own scale; `label` names the numbers at the ends of the bars.
    """
    from matplotlib.figure import Figure

    heights = [len(bars) for bars in groups.values()]
    size = (8, 1.0 + 0.3 * sum(heights) + 0.4 * len(groups))
    figure = Figure(figsize=size, dpi=110, layout="constrained")
    grid = figure.subplots(len(groups), squeeze=False, gridspec_kw={"height_ratios": heights})
    for axes, (title, bars) in zip(grid[:, 0], groups.items(), strict=True):
        ends = dict.fromkeys(bars, 0.0)
        for part, color, hatch in zip(next(iter(bars.values())), COLORS, HATCHES, strict=False):
            sizes = [parts[part] for parts in bars.values()]
            axes.barh(list(bars), sizes, left=list(ends.values()), label=part, color=color, hatch=hatch, edgecolor="w")
            ends = {name: end + bars[name][part] for name, end in ends.items()}
        for row, end in enumerate(ends.values()):
            axes.text(end, row, f" {end:,.0f}", va="center")
        axes.set_xlim(0, 1.1 * max(ends.values()))
        axes.set_xticks([])
        axes.invert_yaxis()
        axes.set_title(title, loc="left", fontsize=10, fontweight="bold")
        axes.spines[["top", "right", "bottom"]].set_visible(False)
    axes.set_xlabel(f"{label}; each network to its own scale")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=3, frameon=False)
    _write_figure(path, figure)


def plot_lines(path: Path, lines: Mapping[str, Sequence[tuple[float, float]]], x_label: str, y_label: str) -> None:
    """Write a picture of named lines through (x, y), x on a logarithmic scale."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter

    figure = Figure(figsize=(7, 4.5), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    for (name, points), (style, (color, marker)) in zip(
        lines.items(), product(STYLES, zip(COLORS, MARKERS, strict=True)), strict=False
    ):
        axes.plot(*zip(*points, strict=True), label=name, color=color, marker=marker, linestyle=style)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(lambda x, _: f"{x:g}" if x < MANY else EngFormatter(places=0, sep="")(x))
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.grid(alpha=0.3)
    figure.legend(loc="outside upper center", ncols=3, frameon=False)
    _write_figure(path, figure)


def _write_figure(path: Path, figure: "Figure") -> None:
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    write_atomically(path, picture.getvalue())


def write_csv(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Write rows as a CSV file with a header; what only some rows have stays empty in the others."""
    text = io.StringIO()
    columns = dict.fromkeys(name for row in rows for name in row)
    writer = csv.DictWriter(text, fieldnames=list(columns), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(path, text.getvalue())
