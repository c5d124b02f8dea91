"""Known data sets: which files they are made of, in the layouts they are distributed in."""

import importlib.util
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

from restore.data.pairing import MAX_IMAGES_NAMED, by_name, pair
from restore.errors import UserError
from restore.images.io import list_images

Split = Literal["train", "test"]


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
        degraded = {scale: paths[:count] for scale, paths in self.degraded.items()}
        return ImageSet(self.name, self.clean[:count], degraded)


@dataclass(frozen=True)
class _Layout:
    """Where a data set lies below the root: folders (or files) of clean images, and of `X{scale}` LR images, or of
    `noisy` ones of the same size.

    `scenes`, if any, are the stems of those images that belong to it; `files`, if any, the names of all.
    """

    clean: tuple[str, ...]
    lr: str | None = None
    noisy: str | None = None
    scenes: frozenset[str] = frozenset()
    files: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Entry:
    """Layouts by split, the first that exists is taken."""

    train: tuple[_Layout, ...] = ()
    test: tuple[_Layout, ...] = ()


def _benchmark(name: str) -> tuple[_Layout, ...]:
    return _Layout((f"{name}/HR",), f"{name}/LR_bicubic"), _Layout((name,))


# The scenes of BSD68, among those of BSDS500's val, in the order of its names.
BSD68 = (
    101085, 101087, 102061, 103070, 105025, 106024, 108005, 108070, 108082, 109053, 119082, 12084, 123074, 126007,
    130026, 134035, 14037, 143090, 145086, 147091, 148026, 148089, 157055, 159008, 160068, 16077, 163085, 167062,
    167083, 170057, 175032, 175043, 182053, 189080, 19021, 196073, 197017, 208001, 210088, 21077, 216081, 219090,
    220075, 223061, 227092, 229036, 236037, 24077, 241004, 241048, 253027, 253055, 260058, 271035, 285079, 291000,
    295087, 296007, 296059, 299086, 300091, 302008, 304034, 304074, 306005, 3096, 33039, 351093,
)  # fmt: skip

# BSDS500's val is B100 and holds the scenes of BSD68: training uses train and test.
_BSDS500_ROOTS = ("BSDS500/data/images", "BSR/BSDS500/data/images", "BSDS500/images", "BSDS500")
_BSDS500_VAL = tuple(_Layout((f"{root}/val",)) for root in _BSDS500_ROOTS)
_BSDS500_VAL_68 = tuple(replace(layout, scenes=frozenset(map(str, BSD68))) for layout in _BSDS500_VAL)

_SETS: dict[str, _Entry] = {
    "DIV2K": _Entry(
        train=(_Layout(("DIV2K/DIV2K_train_HR",), "DIV2K/DIV2K_train_LR_bicubic"),),
        test=(_Layout(("DIV2K/DIV2K_valid_HR",), "DIV2K/DIV2K_valid_LR_bicubic"),),
    ),
    "BSDS500": _Entry(
        train=tuple(_Layout((f"{root}/train", f"{root}/test")) for root in _BSDS500_ROOTS), test=_BSDS500_VAL
    ),
    "Train400": _Entry(train=(_Layout(("Train400",)),)),
    "Set5": _Entry(test=_benchmark("Set5")),
    "Set14": _Entry(test=_benchmark("Set14")),
    "B100": _Entry(test=(*_benchmark("B100"), *_BSDS500_VAL)),
    "Urban100": _Entry(test=_benchmark("Urban100")),
    "Set12": _Entry(test=_benchmark("Set12")),
    "BSD68": _Entry(test=_benchmark("BSD68")),
    "CBSD68": _Entry(test=(*_benchmark("CBSD68"), *_BSDS500_VAL_68)),
    "Kodak24": _Entry(test=_benchmark("Kodak24")),
    "McMaster": _Entry(test=_benchmark("McMaster")),
    "classic5": _Entry(test=_benchmark("classic5")),
    "LIVE1": _Entry(test=_benchmark("LIVE1")),
    "PolyU": _Entry(test=(_Layout(("PolyU/clean",), noisy="PolyU/noisy"),)),
}

# Photographs inside the scikit-image package: real images that need no download. No scene is in both parts.
PHOTOS: dict[Split, tuple[str, ...]] = {
    "train": (
        "astronaut.png", "brick.png", "coins.png", "grass.png", "gravel.png", "hubble_deep_field.jpg", "ihc.png",
        "moon.png", "motorcycle_left.png", "motorcycle_right.png", "retina.jpg", "text.png",
    ),
    "test": ("camera.png", "chelsea.png", "coffee.png", "rocket.jpg"),
}  # fmt: skip

NAMES = ("photos", *_SETS)

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
    return name in _SETS and any(layout.noisy is not None for layout in _SETS[name].test)


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
    if degraded is None and layout.lr is None:
        return ImageSet(label, images, {})
    by_path = {key: path for folder, paths in clean.items() for key, path in by_name(folder, paths).items()}
    if degraded is not None:
        partners = by_name(degraded, _of_one_role(degraded))
        return ImageSet(label, images, {scale: pair(by_path, partners, scale, degraded)})
    return ImageSet(label, images, _published(base / str(layout.lr), by_path))


def _layout(name: str, split: Split, root: Path) -> tuple[Path, _Layout]:
    """Where a data set, or any folder, lies and what it is made of."""
    if name == "photos":
        spec = importlib.util.find_spec("skimage")  # found, not imported: that takes seconds
        assert spec is not None
        assert spec.origin is not None
        return Path(spec.origin).parent, _Layout(("data",), files=PHOTOS[split])
    if name not in _SETS:
        folder = Path(name).expanduser()
        if not folder.is_dir():
            raise UserError(f"{name}: neither a folder nor a known data set ({', '.join(NAMES)})")
        benchmark = all((folder / part).is_dir() for part in ("HR", "LR_bicubic"))
        return folder, _Layout(("HR",), "LR_bicubic") if benchmark else _Layout((".",))
    root = root.expanduser()
    layouts: tuple[_Layout, ...] = getattr(_SETS[name], split)
    if not layouts:
        known = [other for other in ("train", "test") if getattr(_SETS[name], other)]
        raise UserError(f"{name} has no {split} split, only {', '.join(known)}")
    for layout in layouts:
        if all((root / folder).is_dir() for folder in layout.clean):
            return root, layout
    expected = " or ".join(" + ".join(str(root / folder) for folder in layout.clean) for layout in layouts)
    from restore.data.sources import SOURCES  # which imports this module

    how = f"`restore data {name} --root {root}` gets it or says how" if name in SOURCES else "put its images there"
    raise UserError(f"{name} ({split}) not found: looked for {expected}; {how}")


def _images_of(folder: Path, layout: _Layout) -> list[Path]:
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
