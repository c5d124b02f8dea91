"""Which file becomes which."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from restore.errors import UserError
from restore.images.io import list_images
from restore.images.picture import FORMATS, PICTURE_SUFFIXES


class Job(NamedTuple):
    """One image to restore."""

    source: Path
    target: Path


def plan(inputs: Sequence[Path], output: Path, format_name: str | None = None) -> list[Job]:
    """The images of `inputs`, files and folders, with their places below `output`, sub-folders mirrored.

    What lies in `output` is no input, even where `output` is inside an input folder.

    Args:
        inputs: images and folders of images.
        output: folder of the results.
        format_name: one of `FORMATS`, for results of another format than their inputs.

    Raises:
        UserError: an input isn't there, or a result would fall on an input or on another result.
    """
    jobs: dict[Path, Path] = {}
    for path in inputs:
        if path.is_file():
            found = [(path, Path(path.name))]
        else:
            found = [(file, file.relative_to(path)) for file in list_images(path, PICTURE_SUFFIXES)]
            if path.resolve() in (results := output.resolve()).parents:
                found = [(file, name) for file, name in found if results not in file.resolve().parents]
        for file, name in found:
            target = output / _renamed(name, format_name)
            if (other := jobs.setdefault(target, file)) != file:
                raise UserError(f"{target}: both {other} and {file} would be written there")
    sources = {source.resolve() for source in jobs.values()}
    for target in jobs:
        if target.resolve() in sources:
            raise UserError(f"{target}: would overwrite an input; choose another --output")
    return [Job(source, target) for target, source in jobs.items()]


def _renamed(name: Path, format_name: str | None) -> Path:
    suffixes = FORMATS[format_name].suffixes if format_name else (name.suffix.lower(),)
    return name if name.suffix.lower() in suffixes else name.with_suffix(suffixes[0])
