"""Maps inputs to output files."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

from restore.errors import UserError
from restore.images.io import list_images, walk
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
        UserError: an input isn't there, a result would fall on an input or on another result, or `output` is named like
            an image.
    """
    if output.suffix.lower() in PICTURE_SUFFIXES and not output.is_dir():
        raise UserError(
            f"{output}: expected a folder, where results keep the names of their inputs, found an image's name"
        )
    jobs: dict[Path, Path] = {}
    for path in inputs:
        if path.is_file():
            found = [(path, Path(path.name))]
        else:
            found = [(file, file.relative_to(path)) for file in _images(path, [output, *apart])]
        for file, name in found:
            target = output / _renamed(name, format_name)
            if (other := jobs.setdefault(target, file)) != file:
                raise UserError(f"{target}: both {other} and {file} would be written there")
    sources = {source.resolve() for source in jobs.values()}
    for target in jobs:
        if target.resolve() in sources:
            raise UserError(f"{target}: would overwrite an input; choose another --output")
    return [Job(source, target) for target, source in jobs.items()]


def _images(folder: Path, apart: Collection[Path]) -> list[Path]:
    if files := walk(folder, PICTURE_SUFFIXES, apart).files if folder.is_dir() else []:
        return files
    if not folder.exists():
        raise UserError(f"{folder}: no such file or folder")
    return list_images(folder, PICTURE_SUFFIXES)  # which says why there are none


def passed_over(inputs: Sequence[Path], apart: Collection[Path]) -> str:
    """What lies below `inputs` that `plan` passes over, in words; empty if nothing does."""
    remarks = [walk(path, PICTURE_SUFFIXES, apart).remark() for path in inputs if path.is_dir()]
    return "; ".join(filter(None, remarks))


def _renamed(name: Path, format_name: str | None) -> Path:
    suffixes = FORMATS[format_name].suffixes if format_name else (name.suffix.lower(),)
    return name if name.suffix.lower() in suffixes else name.with_suffix(suffixes[0])
