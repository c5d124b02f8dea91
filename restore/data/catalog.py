"""The images of a data set: of a known one, in the layouts that it is distributed in, or of any folder."""

import importlib.util
import logging
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from restore.data.known_sets import PHOTOS, SETS, Layout, Split
from restore.data.pairing import MAX_IMAGES_NAMED, by_name, pair
from restore.errors import UserError, nearest
from restore.images.io import list_images

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class ImageSet:
    """The images of one data set.

    Attributes:
        name: as printed in tables.
        clean: the images, in the order of their names.
        degraded: their degraded versions by scale, in the same order, if there are files of them: published
            low-resolution images, or those of a folder that the user names.
    """

    name: str
    clean: tuple[Path, ...]
    degraded: dict[int, tuple[Path, ...]]

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Of each image: its path below the folder that holds them all, without suffix."""
        top = os.path.commonpath([path.parent for path in self.clean])
        return tuple(path.relative_to(top).with_suffix("").as_posix() for path in self.clean)

    def files(self, scale: int) -> list[Path]:
        """All that is read at that scale: the images and their degraded versions, if there are any."""
        return [*self.clean, *self.degraded.get(scale, ())]

    def first(self, count: int | None) -> "ImageSet":
        """Its first `count` images; all for None."""
        return self._only(range(len(self.clean))[:count])

    def hold_out(self, count: int) -> tuple["ImageSet", "ImageSet"]:
        """All images but `count` of them, and those, evenly spread over the order of the names.

        Raises:
            UserError: no image would be left.
        """
        images = len(self.clean)
        if not 0 < count < images:
            raise UserError(f"{self.name}: {count} of its {images} images cannot be held out")
        held = {(2 * place + 1) * images // (2 * count) for place in range(count)}
        kept = [index for index in range(images) if index not in held]
        return self._only(kept), replace(self._only(sorted(held)), name=f"{self.name}, {count} held out")

    def _only(self, indices: Iterable[int]) -> "ImageSet":
        chosen = list(indices)

        def those(paths: tuple[Path, ...]) -> tuple[Path, ...]:
            return tuple(paths[index] for index in chosen)

        return ImageSet(self.name, those(self.clean), {scale: those(paths) for scale, paths in self.degraded.items()})


NAMES = ("photos", *SETS)

# What the names of folders say of the images in them; a word after "_" counts if it is only a part of the name.
_ROLES = {
    "degraded": frozenset({
        "lr", "_lr", "lq", "_lq", "noisy", "_noisy", "degraded", "_degraded", "low", "input", "x2", "x3", "x4", "x8",
    }),
    "original": frozenset({"hr", "_hr", "gt", "_gt", "clean", "_clean", "original", "originals", "target", "high"}),
    "training": frozenset({"train", "training"}),
    "test": frozenset({"test", "testing", "val", "valid", "validation"}),
}  # fmt: skip


def has_real_noise(name: str) -> bool:
    """Whether a name is that of a known data set of noisy and clean photographs of the same scenes."""
    return name in SETS and any(
        layout.noisy is not None for part in SETS[name].parts.values() for layout in part.layouts
    )


def default_root() -> Path:
    """Where data sets are looked for: the environment variable RESTORE_DATA, else `data`."""
    return Path(os.environ.get("RESTORE_DATA", "data")).expanduser()


def find_images(name: str, split: Split, root: Path, degraded: Path | None = None, scale: int = 1) -> ImageSet:
    """The images of a known data set, or of any folder.

    A folder that holds `HR` and `LR_bicubic` is taken as a super-resolution benchmark of that layout.

    Args:
        name: a name of the catalog or the path of a folder.
        split: which part of a known data set; a folder is taken whole.
        root: where known data sets lie.
        degraded: a folder of degraded versions of all images, in place of published ones; see `pairing.py`.
        scale: how many times smaller than the images those in `degraded` are.

    Raises:
        UserError: no such data set or folder, no such split, files missing or without partner, or a folder whose
            images are originals and degraded ones, or of a training and a test set.
    """
    base, layout = _layout(name, split, root)
    clean = {folder: _images_of(folder, layout) for folder in (base / part for part in layout.clean)}
    if missing := sorted(layout.scenes - {path.stem for paths in clean.values() for path in paths}):
        raise UserError(f"{base / layout.clean[0]}: {missing[0]} is missing, which belongs to {name}")
    images = tuple(path for paths in clean.values() for path in paths)
    label = name if name in NAMES else base.resolve().name
    if degraded is None and layout.noisy is not None:
        degraded, scale = base / layout.noisy, 1
    degraded = degraded and degraded.expanduser()
    if degraded is None and layout.lr is None:
        return ImageSet(label, images, {})
    by_path = {key: path for folder, paths in clean.items() for key, path in by_name(folder, paths).items()}
    if degraded is not None:
        partners = by_name(degraded, _of_one_role(degraded))
        return ImageSet(label, images, {scale: pair(by_path, partners, scale, degraded)})
    return ImageSet(label, images, _published(base / str(layout.lr), by_path))


def _layout(name: str, split: Split, root: Path) -> tuple[Path, Layout]:
    """Where a data set, or any folder, lies and what it is made of."""
    if name == "photos":
        if Path(name).is_dir():
            LOG.warning("photos: scikit-image's photographs are taken; write ./photos for the folder of this name")
        spec = importlib.util.find_spec("skimage")  # found, not imported: that takes seconds
        assert spec is not None
        assert spec.origin is not None
        return Path(spec.origin).parent, Layout(("data",), files=PHOTOS[split])
    if name not in SETS:
        folder = Path(name).expanduser()
        if not folder.is_dir():
            meant = nearest(name, NAMES)
            raise UserError(f"{name}: neither a folder nor a known data set{meant}; known: {', '.join(NAMES)}")
        benchmark = all((folder / part).is_dir() for part in ("HR", "LR_bicubic"))
        return folder, Layout(("HR",), "LR_bicubic") if benchmark else Layout((".",))
    root = root.expanduser()
    parts = SETS[name].parts
    if split not in parts:
        raise UserError(f"{name} has no {split} split, only {', '.join(parts)}")
    layouts = parts[split].layouts
    for layout in layouts:
        if all((root / folder).is_dir() for folder in layout.clean):
            return root, layout
    expected = " or ".join(" + ".join(str(root / folder) for folder in layout.clean) for layout in layouts)
    raise UserError(
        f"{name} ({split}) not found: looked for {expected}; `restore data {name} --root {root}` gets it or says how"
    )


def _images_of(folder: Path, layout: Layout) -> list[Path]:
    if layout.files:
        return [folder / file for file in layout.files]
    images = _of_one_role(folder)
    return [path for path in images if path.stem in layout.scenes] if layout.scenes else images


def _of_one_role(folder: Path) -> list[Path]:
    """The images of a folder.

    Raises:
        UserError: there are none, or their sub-folders' names say that they have several roles.
    """
    images = list_images(folder)
    roles: dict[str, set[str]] = {}
    for parent in {image.relative_to(folder).parent for image in images}:
        named = (role for role, words in _ROLES.items() if any(_is_named(part, words) for part in parent.parts))
        roles.setdefault(next(named, "unknown"), set()).add(parent.as_posix())
    if ("degraded" in roles and len(roles) > 1) or {"training", "test"} <= roles.keys():
        found = sorted(set().union(*roles.values()), key=lambda parent: (parent in roles.get("degraded", ()), parent))
        raise UserError(
            f"{folder}: holds images of different kinds (in {', '.join(found[:MAX_IMAGES_NAMED])}); name one, such as "
            f"{folder / found[0]}"
        )
    return images


def _is_named(folder: str, words: frozenset[str]) -> bool:
    """Whether a folder's name, or one word of it, is among `words`."""
    return folder.lower() in words or not words.isdisjoint(f"_{word}" for word in re.split(r"[\W_]+", folder.lower()))


def _published(folder: Path, clean: Mapping[str, Path]) -> dict[int, tuple[Path, ...]]:
    """The low-resolution images below `folder`/X{scale} (`0001x2.png` or `0001.png`)."""
    places = {scale: folder / f"X{scale}" for scale in (2, 3, 4, 8)}
    return {
        scale: pair(clean, by_name(place, list_images(place)), scale, place)
        for scale, place in places.items()
        if place.is_dir()
    }
