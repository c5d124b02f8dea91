"""Figures as PNG."""

import base64
import io
import math

import numpy as np
import pytest
from PIL import Image as Pillow

from restore.studies.figures import Bars, Crops, Curves, Figure, HeatMap, draw

CURVES = Curves(
    "t", "x", "y", {"a": [(1, [1.0, 2.0]), (2, [2.0, 3.0])], "b": [(1, [0.5]), (2, [math.nan])]}, log_x=True
)
HEAT = HeatMap("t", "x", "y", ["r"], ["1", "2"], [[20.0, math.nan]])
BARS = Bars("t", "y", {"g": {"a": [1.0, 2.0], "b": [2.0]}, "h": {"a": [0.0], "b": [1.0]}})


@pytest.mark.parametrize("figure", [CURVES, HEAT, BARS], ids=["curves", "heat map", "bars"])
def test_a_figure_is_a_picture_with_something_in_it(figure: Figure) -> None:
    picture = Pillow.open(io.BytesIO(draw(figure)))
    assert picture.format == "PNG"
    assert picture.size == (700, 400)
    assert np.asarray(picture.convert("L")).std() > 5


def test_crops_are_shown_side_by_side_in_their_own_colours() -> None:
    def png(color: tuple[int, int, int]) -> str:
        file = io.BytesIO()
        Pillow.new("RGB", (8, 8), color).save(file, "PNG")
        return base64.b64encode(file.getvalue()).decode()

    red, blue = (200, 10, 10), (10, 10, 200)
    picture = Pillow.open(io.BytesIO(draw(Crops("t", {"before": png(red), "after": png(blue)}))))
    width, middle = picture.width, picture.height // 2
    pixels = picture.convert("RGB")
    assert [pixels.getpixel((width // 4, middle)), pixels.getpixel((3 * width // 4, middle))] == [red, blue]


def test_the_same_figure_gives_the_same_bytes() -> None:
    assert draw(CURVES) == draw(CURVES)


def test_a_run_that_diverged_leaves_its_cell_without_colour() -> None:
    def colored(values: list[float]) -> int:
        figure = HeatMap("t", "x", "y", ["r"], ["1", "2"], [values])
        picture = np.asarray(Pillow.open(io.BytesIO(draw(figure))).convert("RGB")).astype(int)
        return int((np.ptp(picture, axis=2) > 20).sum())

    assert colored([20.0, math.nan]) < 0.6 * colored([20.0, 30.0])


def test_bars_without_any_run_that_ended_are_drawn_all_the_same() -> None:
    failed = Bars("t", "y", {"g": {"a": [math.nan], "b": []}, "h": {"a": [1.0, math.nan], "b": [2.0]}})
    assert draw(failed) != draw(BARS)
    assert draw(Bars("t", "y", {}))
