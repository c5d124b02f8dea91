"""Maps inputs to output files."""

from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

from restore.errors import UserError
from restore.images.io import list_images
from restore.images.picture import FORMATS, PICTURE_SUFFIXES


class Job(NamedTuple):
    """One image to restore."""

    source: Path
    target: Path


def plan(
    inputs: Sequence[Path], output: Path, format_name: str | None = None, apart: Collection[Path] = ()
) -> list[Job]:
    """The images of `inputs` with their places below `output`, sub-folders mirrored.

    Args:
        inputs: images and folders of images.
        output: folder of the results; what lies in it is no input, even if it is inside an input folder.
        format_name: one of `FORMATS`, for results of another format than their inputs.
        apart: more folders whose files are no inputs.

    Raises:
        UserError: an input isn't there, or a result would fall on an input or on another result.
    """
    jobs: dict[Path, Path] = {}
    for path in inputs:
        if path.is_file():
            found = [(path, Path(path.name))]
        else:
            images = _outside(list_images(path, PICTURE_SUFFIXES), path, [output, *apart])
            found = [(file, file.relative_to(path)) for file in images]
        for file, name in found:
            target = output / _renamed(name, format_name)
            if (other := jobs.setdefault(target, file)) != file:
                raise UserError(f"{target}: both {other} and {file} would be written there")
    sources = {source.resolve() for source in jobs.values()}
    for target in jobs:
        if target.resolve() in sources:
            raise UserError(f"{target}: would overwrite an input; choose another --output")
    return [Job(source, target) for target, source in jobs.items()]


def passed_over(inputs: Sequence[Path], apart: Collection[Path]) -> Counter[str]:
    """How many files below `inputs` are no images by their suffix, which `plan` passes over; hidden ones aside."""
    others: Counter[str] = Counter()
    for path in inputs:
        files = [file for file in path.rglob("[!.]*") if file.is_file()]
        suffixes = (file.suffix.lower() for file in _outside(files, path, apart))
        others.update(suffix or "no suffix" for suffix in suffixes if suffix not in PICTURE_SUFFIXES)
    return others


def _outside(files: Sequence[Path], folder: Path, apart: Collection[Path]) -> list[Path]:
    """Of `files` below `folder`, those that are in none of the folders `apart` that are inside it."""
    inner = {other.resolve() for other in apart if folder.resolve() in other.resolve().parents}
    return [file for file in files if not inner or inner.isdisjoint(file.resolve().parents)]


def _renamed(name: Path, format_name: str | None) -> Path:
    suffixes = FORMATS[format_name].suffixes if format_name else (name.suffix.lower(),)
    return name if name.suffix.lower() in suffixes else name.with_suffix(suffixes[0])
