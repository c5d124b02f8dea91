"""Known data sets: which files they are made of, in the layouts they are distributed in."""

import os
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import skimage

from restore.errors import UserError
from restore.images.io import list_images

Split = Literal["train", "test"]


@dataclass(frozen=True)
class ImageSet:
    """The images of one data set.

    Attributes:
        name: as printed in tables.
        clean: the images, in the order of their names.
        degraded: their published low-resolution versions by scale, in the same order; empty where there are none.
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
        """All that is read for a network of that scale: the images and their low-resolution versions, if any."""
        return [*self.clean, *self.degraded.get(scale, ())]

    def first(self, count: int | None) -> "ImageSet":
        """Its first `count` images; all for None."""
        degraded = {scale: paths[:count] for scale, paths in self.degraded.items()}
        return ImageSet(self.name, self.clean[:count], degraded)


@dataclass(frozen=True)
class _Layout:
    """Where a data set lies below the root: folders (or files) of clean images, and of `X{scale}` LR images.

    `scenes`, where there are any, are the stems of those images that belong to it.
    """

    clean: tuple[str, ...]
    lr: str | None = None
    scenes: frozenset[str] = frozenset()


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


def default_root() -> Path:
    """Where data sets are looked for: the environment variable RESTORE_DATA, else `data`."""
    return Path(os.environ.get("RESTORE_DATA", "data")).expanduser()


def find_images(name: str, split: Split, root: Path) -> ImageSet:
    """The images of a known data set, or of any folder.

    Args:
        name: a name of the catalogue or the path of a folder.
        split: which part of a known data set; a folder is taken whole.
        root: where known data sets lie.

    Raises:
        UserError: no such data set or folder, no such split, or files missing.
    """
    if name == "photos":
        folder = Path(skimage.__file__).parent / "data"
        return ImageSet("photos", tuple(folder / file for file in PHOTOS[split]), {})
    if name not in _SETS:
        folder = Path(name).expanduser()
        if not folder.is_dir():
            raise UserError(f"{name}: neither a folder nor a known data set ({', '.join(NAMES)})")
        return ImageSet(folder.resolve().name, tuple(list_images(folder)), {})
    root = root.expanduser()
    layouts: tuple[_Layout, ...] = getattr(_SETS[name], split)
    if not layouts:
        known = [other for other in ("train", "test") if getattr(_SETS[name], other)]
        raise UserError(f"{name} has no {split} split, only {', '.join(known)}")
    for layout in layouts:
        if all((root / folder).is_dir() for folder in layout.clean):
            clean = tuple(path for folder in layout.clean for path in list_images(root / folder))
            if layout.scenes:
                clean = tuple(path for path in clean if path.stem in layout.scenes)
                if missing := sorted(layout.scenes - {path.stem for path in clean}):
                    raise UserError(f"{root / layout.clean[0]}: without {missing[0]}, which belongs to {name}")
            degraded = _published_lr(root / layout.lr, clean) if layout.lr else {}
            return ImageSet(name, clean, degraded)
    expected = " or ".join(" + ".join(str(root / folder) for folder in layout.clean) for layout in layouts)
    raise UserError(f"{name} ({split}) not found: expected {expected}")


def _published_lr(folder: Path, clean: tuple[Path, ...]) -> dict[int, tuple[Path, ...]]:
    """The LR images below `folder`/X{scale}, paired with `clean` by name (`0001.png` with `0001x2.png`)."""
    found: dict[int, tuple[Path, ...]] = {}
    for scale in (2, 3, 4, 8):
        if not (folder / f"X{scale}").is_dir():
            continue
        by_stem = {path.stem: path for path in list_images(folder / f"X{scale}")}
        names = [(f"{path.stem}x{scale}", path.stem) for path in clean]
        pairs = [by_stem.get(marked) or by_stem.get(plain) for marked, plain in names]
        missing = [path.name for path, pair in zip(clean, pairs, strict=True) if pair is None]
        if missing:
            raise UserError(f"{folder / f'X{scale}'}: no low-resolution image for {', '.join(missing[:5])}")
        found[scale] = tuple(pair for pair in pairs if pair is not None)
    return found
