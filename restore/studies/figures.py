"""What a study shows: curves with bands over seeds, heat maps, bars, crops; for print and for color-blind readers."""

import base64
import io
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Picture
from matplotlib.image import imread
from matplotlib.ticker import LogFormatter

from restore.report import COLORS, HATCHES, MARKERS

LINE_COLORS = [*(color for color in COLORS if color != "#F0E442"), "#7F7F7F"]  # yellow lines vanish on paper
TICKS = 8  # up to this many points of a logarithmic axis each have a name,
APART = 1.5  # if each is at least this many times the one before
CROWDED = 8  # columns of a heat map, beyond which its words are turned
DASHES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)))


@dataclass(frozen=True)
class Curves:
    """Lines over x, each the mean over seeds with a band from the lowest to the highest.

    Attributes:
        title: what is seen.
        x_label, y_label: with units.
        lines: by name, points (x, one y for each seed).
        log_x, log_y: logarithmic axes.
        y_from: lowest y that is shown, so that the first steps do not hide all else.
        margin: for differences: a line at 0, and shade between minus and plus this value, which does not matter.
    """

    title: str
    x_label: str
    y_label: str
    lines: Mapping[str, Sequence[tuple[float, Sequence[float]]]]
    log_x: bool = False
    log_y: bool = False
    y_from: float | None = None
    margin: float | None = None


@dataclass(frozen=True)
class Forest:
    """Effects one below the other, each with its interval.

    Attributes:
        title, x_label: what is seen.
        rows: name, effect, the ends of its interval, and a margin: between minus and plus that value, which does not
            matter, its row is shaded.
    """

    title: str
    x_label: str
    rows: Sequence[tuple[str, float, float, float, float]]


@dataclass(frozen=True)
class HeatMap:
    """Numbers by row and column, written into their cells; NaN stands for runs that all diverged.

    Attributes:
        title, x_label, y_label: what is seen.
        rows, columns: headings.
        values: (rows, columns).
        low: below this value all cells look the same.
        notes: below the number of each cell; none if empty.
    """

    title: str
    x_label: str
    y_label: str
    rows: Sequence[str]
    columns: Sequence[str]
    values: Sequence[Sequence[float]]
    low: float | None = None
    notes: Sequence[Sequence[str]] = ()


@dataclass(frozen=True)
class Bars:
    """Groups of bars with whiskers from the lowest to the highest seed.

    Attributes:
        title, y_label: what is seen.
        groups: by name, bars by name, one value for each seed; all groups have the same bars.
        y_from: where the bars begin.
    """

    title: str
    y_label: str
    groups: Mapping[str, Mapping[str, Sequence[float]]]
    y_from: float | None = None


@dataclass(frozen=True)
class Crops:
    """The same part of an image, before and after, side by side at one size.

    Attributes:
        title: what is seen.
        pictures: by caption, PNG files in base 64.
    """

    title: str
    pictures: Mapping[str, str]


Figure = Curves | Forest | HeatMap | Bars | Crops


def draw(figure: Figure) -> bytes:
    """The figure as PNG."""
    picture = Picture(figsize=(7, 4), dpi=100, layout="constrained")
    if isinstance(figure, Crops):
        _draw_crops(picture, figure)
    else:
        _draw_plot(picture.add_subplot(), figure)
    png = io.BytesIO()
    picture.savefig(png, format="png")
    return png.getvalue()


def _draw_crops(picture: Picture, figure: Crops) -> None:
    picture.set_figheight(7 / len(figure.pictures) + 0.8)  # square places, and the lines of text
    picture.suptitle(figure.title, x=0.01, ha="left", fontsize=11)
    axes: Any = picture.subplots(1, len(figure.pictures), squeeze=False)[0]
    for place, (caption, png) in zip(axes, figure.pictures.items(), strict=True):
        place.imshow(imread(io.BytesIO(base64.b64decode(png))), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        place.set_xlabel(caption, fontsize=8)
        place.set_xticks([])
        place.set_yticks([])


def _draw_plot(axes: Axes, figure: Curves | Forest | HeatMap | Bars) -> None:
    axes.set_title(figure.title, loc="left", fontsize=11)
    match figure:
        case Curves():
            _draw_curves(axes, figure)
        case Forest():
            _draw_forest(axes, figure)
        case HeatMap():
            _draw_heat_map(axes, figure)
        case Bars():
            _draw_bars(axes, figure)


class _PlainLogFormatter(LogFormatter):
    """0.4, not 4e-01."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        return f"{x:g}" if super().__call__(x, pos) else ""


def _draw_curves(axes: Axes, figure: Curves) -> None:
    if figure.margin is not None:
        axes.axhspan(-figure.margin, figure.margin, color="0.9")
        axes.axhline(0, color="0.4", lw=0.8)
    for number, (name, points) in enumerate(figure.lines.items()):
        kept = [(x, [y for y in ys if math.isfinite(y)]) for x, ys in points]
        kept = [(x, ys) for x, ys in kept if ys]
        color, style = LINE_COLORS[number % len(LINE_COLORS)], DASHES[number % len(DASHES)]
        xs = [x for x, _ in kept]
        means = [statistics.fmean(ys) for _, ys in kept]
        marker = MARKERS[number % len(MARKERS)] if len(xs) <= 20 else None
        axes.plot(xs, means, label=name, color=color, linestyle=style, marker=marker, markersize=4)
        axes.fill_between(xs, [min(ys) for _, ys in kept], [max(ys) for _, ys in kept], color=color, alpha=0.15, lw=0)
    if figure.log_x:
        axes.set_xscale("log")
        places = sorted({x for points in figure.lines.values() for x, _ in points})
        if len(places) <= TICKS and all(later >= APART * earlier for earlier, later in pairwise(places)):
            axes.set_xticks(places, [f"{place:g}" for place in places], minor=False)
            axes.set_xticks([], minor=True)
        else:
            axes.xaxis.set_major_formatter(_PlainLogFormatter())
            axes.xaxis.set_minor_formatter(_PlainLogFormatter(minor_thresholds=(2, 0.4)))
    if figure.log_y:
        axes.set_yscale("log")
    if figure.y_from is not None:
        axes.set_ylim(bottom=figure.y_from)
    axes.set_xlabel(figure.x_label)
    axes.set_ylabel(figure.y_label)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=8)


def _draw_forest(axes: Axes, figure: Forest) -> None:
    places = range(len(figure.rows), 0, -1)
    axes.axvline(0, color="0.4", lw=0.8)
    for place, (_, effect, low, high, margin) in zip(places, figure.rows, strict=True):
        axes.fill_betweenx([place - 0.5, place + 0.5], -margin, margin, color="0.9", zorder=0)
        axes.errorbar(effect, place, xerr=[[effect - low], [high - effect]], fmt="o", color=COLORS[0], capsize=3)
    axes.set_yticks(list(places), [name for name, *_ in figure.rows], fontsize=7)
    axes.set_ylim(0.5, len(figure.rows) + 0.5)
    axes.set_xlabel(figure.x_label)
    axes.grid(alpha=0.3, axis="x")


def _draw_heat_map(axes: Axes, figure: HeatMap) -> None:
    finite = [value for row in figure.values for value in row if math.isfinite(value)]
    high = max(finite, default=1.0)
    low = min(finite, default=0.0) if figure.low is None else min(figure.low, high)
    shown: Any = [[max(value, low) if math.isfinite(value) else math.nan for value in row] for row in figure.values]
    axes.imshow(shown, cmap="cividis", vmin=low, vmax=high if high > low else low + 1, aspect="auto")
    crowded = len(figure.columns) > CROWDED
    axes.set_xticks(range(len(figure.columns)), figure.columns, rotation=45 if crowded else 0)
    axes.set_yticks(range(len(figure.rows)), figure.rows)
    for i, row in enumerate(figure.values):
        for j, value in enumerate(row):
            dark = math.isfinite(value) and value < (low + high) / 2
            text = f"{value:.1f}" if math.isfinite(value) else "diverged"
            if figure.notes and (note := figure.notes[i][j]):
                text += f"\n{note}"
            color, turned = "white" if dark else "black", 90 if crowded else 0
            axes.text(j, i, text, ha="center", va="center", fontsize=8, color=color, rotation=turned)
    axes.set_xlabel(figure.x_label)
    axes.set_ylabel(figure.y_label)


def _draw_bars(axes: Axes, figure: Bars) -> None:
    names = list(dict.fromkeys(name for bars in figure.groups.values() for name in bars))
    width = 0.8 / max(1, len(names))
    for number, name in enumerate(names):
        places = [group + (number - (len(names) - 1) / 2) * width for group in range(len(figure.groups))]
        seeds = [
            [value for value in bars[name] if math.isfinite(value)] or [math.nan] for bars in figure.groups.values()
        ]
        means = [statistics.fmean(values) for values in seeds]
        whiskers = [
            [mean - min(values) for mean, values in zip(means, seeds, strict=True)],
            [max(values) - mean for mean, values in zip(means, seeds, strict=True)],
        ]
        axes.bar(
            places, means, width, yerr=whiskers, capsize=2, label=name, edgecolor="white",
            color=COLORS[number % len(COLORS)], hatch=HATCHES[number % len(HATCHES)],
        )  # fmt: skip
    axes.set_xticks(range(len(figure.groups)), list(figure.groups))
    axes.set_ylabel(figure.y_label)
    axes.grid(alpha=0.3, axis="y")
    axes.set_axisbelow(True)
    if len(names) > 1:
        axes.figure.legend(frameon=False, fontsize=8, ncols=min(5, len(names)), loc="outside lower center")
    if figure.y_from is not None:
        axes.set_ylim(bottom=figure.y_from)
