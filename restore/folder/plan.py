"""Maps inputs to output files."""

import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

from restore.errors import UserError
from restore.images.io import list_images, walk
from restore.images.picture import FORMATS, PICTURE_SUFFIXES

LONGEST_NAME = 255  # bytes, on all common file systems


class Job(NamedTuple):
    """One image to restore."""

    source: Path
    target: Path


def plan(inputs: Sequence[Path], output: Path, format_name: str | None = None, sheets: Path | None = None) -> list[Job]:
    """The images of `inputs` with their places below `output`, sub-folders mirrored.

    Args:
        inputs: images and folders of images.
        output: folder of the results; what lies in it is no input, even if it is inside an input folder.
        format_name: one of `FORMATS`, for results of another format than their inputs.
        sheets: folder of the sheets, if there are any, which are no inputs either; see `sheet_of`.

    Raises:
        UserError: an input isn't there; a result or a sheet would fall on an input, a result or a sheet; `output` or
            `sheets` is an input folder; or `output` is named like an image.
    """
    if output.suffix.lower() in PICTURE_SUFFIXES and not output.is_dir():
        raise UserError(
            f"{output}: expected a folder, where results keep the names of their inputs, found an image's name"
        )
    folders = list(filter(None, (output, sheets)))
    for folder in folders:
        if folder.resolve() in {path.resolve() for path in inputs}:
            raise UserError(f"{folder}: is an input folder; results and sheets need folders of their own")
    jobs: dict[Path, Path] = {}
    for path in inputs:
        if path.is_file():
            found = [(path, Path(path.name))]
        else:
            found = [(file, file.relative_to(path)) for file in _images(path, folders)]
        for file, name in found:
            target = output / _renamed(name, format_name)
            if (other := jobs.setdefault(target, file)) != file:
                raise UserError(f"{target}: both {other} and {file} would be written there")
    sources = {source.resolve() for source in jobs.values()}
    for target in jobs:
        if target.resolve() in sources:
            raise UserError(f"{target}: would overwrite an input; choose another --output")
    if sheets:
        _check_sheets([sheet_of(target.relative_to(output), sheets) for target in jobs], sources, jobs)
    return [Job(source, target) for target, source in jobs.items()]


def sheet_of(name: Path, folder: Path) -> Path:
    """The sheet of a result of that name: the name, shortened if it and `.png` are too long for a file system."""
    end = ".png"
    kept = os.fsencode(name.name)[: LONGEST_NAME - len(end)]
    return folder / name.with_name(os.fsdecode(kept) + end)


def _check_sheets(sheets: Sequence[Path], sources: Collection[Path], targets: Collection[Path]) -> None:
    taken = {*sources, *(target.resolve() for target in targets)}
    for sheet in sheets:
        if sheet.resolve() in taken:
            raise UserError(f"{sheet}: a sheet would overwrite an input, a result or a sheet; choose another --compare")
        taken.add(sheet.resolve())


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
