"""A page of images before and after, collected one by one, of which only what is shown is kept."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from restore.images.color import with_channels
from restore.images.pixels import Image
from restore.page.sections import Comparison, Section, Table, View, data_uri, decimals, write_page

LONGEST_SIDE = 1200  # of an image in the page; larger ones are reduced
CROP = 96
WEBP_QUALITY = 92


class ComparisonPage:
    """Collects images and scores, and writes the page.

    Args:
        sliders: how many images are shown, the first ones; the table lists all.
    """

    def __init__(self, sliders: int = 24) -> None:
        self._sliders = sliders
        self._comparisons: list[Comparison] = []
        self._rows: list[dict[str, str | float]] = []

    def add(
        self,
        name: str,
        before: Image,
        after: Image,
        truth: Image | None = None,
        scores: Mapping[str, float] | None = None,
        network: str = "",
    ) -> None:
        """Take in an image.

        Args:
            name: as it is listed.
            before: (h, w, 1 or 3) uint8; enlarged bicubically if `after` is larger.
            after: (H, W, 1 or 3) uint8.
            truth: of the size of `after`.
            scores: for the table, such as {"PSNR (dB)": 29.2}.
            network: the name of the one that restored it, for the table.
        """
        height, width = after.shape[:2]
        restored_by = {"network": network} if network else {}
        self._rows.append({"image": name, "width": width, "height": height, **restored_by, **(scores or {})})
        if len(self._comparisons) == self._sliders:
            return
        if before.shape[:2] != (height, width):
            before = _resized(before, (width, height), cv2.INTER_CUBIC)
        versions = {"input": before, "restored": after} | ({} if truth is None else {"truth": truth})
        top, left = _most_changed(before, after)
        views = [_view(label, image, top, left) for label, image in versions.items()]
        facts = [f"{label} {decimals(label, value)}" for label, value in (scores or {}).items()]
        self._comparisons.append(Comparison(name, views, width, height, facts))

    def add_restored(self, name: str, before: Image, after: Image, network: str) -> None:
        """Take in an image without truth, as `folder.Writing.show`."""
        self.add(name, before, after, network=network)

    def discard(self, names: Collection[str]) -> None:
        """Take images out again, by their names."""
        self._rows = [row for row in self._rows if row["image"] not in names]
        self._comparisons = [it for it in self._comparisons if it.title not in names]

    def write(self, path: Path, title: str, settings: Mapping[str, object], more: Sequence[Section] = ()) -> None:
        """Write the page atomically.

        Args:
            path: an HTML file.
            title: its heading.
            settings: what the images were made with.
            more: sections after the table.
        """
        shown, listed = len(self._comparisons), len(self._rows)
        summary = f"{listed} image{'s' if listed != 1 else ''}"
        if shown < listed:
            summary += f", of which the first {shown} are shown; the table lists all"
        sections: list[Section] = [*([Table("Images", self._rows)] if self._rows else []), *more, *self._comparisons]
        write_page(path, title, sections, settings, summary)


def _view(label: str, image: Image, top: int, left: int) -> View:
    height, width = image.shape[:2]
    factor = LONGEST_SIDE / max(height, width)
    whole = image
    if factor < 1:
        whole = _resized(image, (max(1, round(width * factor)), max(1, round(height * factor))), cv2.INTER_AREA)
    crop = image[top : top + CROP, left : left + CROP]
    return View(label, _webp(whole), data_uri(_encoded(".png", crop, []), "image/png"))


def _webp(image: Image) -> str:
    return data_uri(_encoded(".webp", image, [cv2.IMWRITE_WEBP_QUALITY, WEBP_QUALITY]), "image/webp")


def _encoded(suffix: str, image: Image, options: list[int]) -> bytes:
    _, content = cv2.imencode(suffix, with_channels(image, 3)[:, :, ::-1], options)
    return content.tobytes()


def _most_changed(before: Image, after: Image) -> tuple[int, int]:
    """Top and left of the CROP x CROP window in which the two images differ most."""
    change: Any = np.abs(with_channels(before, 3).astype(np.float32) - with_channels(after, 3)).mean(2)
    height, width = change.shape
    if height <= CROP and width <= CROP:
        return 0, 0
    window = min(CROP, width), min(CROP, height)
    sums = cv2.boxFilter(change, -1, window, anchor=(0, 0), normalize=False, borderType=cv2.BORDER_CONSTANT)
    inside = sums[: height - window[1] + 1, : width - window[0] + 1]
    top, left = np.unravel_index(int(inside.argmax()), inside.shape)
    return int(top), int(left)


def _resized(image: Image, size: tuple[int, int], interpolation: int) -> Image:
    resized: Any = cv2.resize(image, size, interpolation=interpolation)
    return np.atleast_3d(resized)
