"""Albumentations transforms, for augmentation beyond flips and rotations. Imported only if some are given."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # without it, the import asks a server for a newer version

import numpy as np
import torch
from albumentations import BasicTransform, Compose
from jsonargparse import ArgumentError, ArgumentParser, set_parsing_settings
from jsonargparse._common import parsing_settings
from torch import Tensor

from restore import extensions
from restore.errors import UserError
from restore.images.tensors import to_image


def make_transforms(descriptions: Sequence[Mapping[str, Any]]) -> list[BasicTransform]:
    """The transforms that are described by `class_path` and `init_args`, of Albumentations or the user's packages.

    Raises:
        ValueError: there is no such class, it must not be imported, or it does not take these arguments.
    """
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--transforms", type=list[BasicTransform])
    try:
        with _importing_only("albumentations", *extensions.packages()):
            made = parser.instantiate(parser.parse_object({"transforms": descriptions}))
    except ArgumentError as error:
        raise ValueError(f"data.{error}") from error
    return list(made.transforms)


@contextmanager
def _importing_only(*packages: str) -> Iterator[None]:
    """What jsonargparse may import besides what the process allows already; it has one list for the whole process."""
    before = parsing_settings.copy()
    set_parsing_settings(import_path_denylist=["*"], import_path_allowlist=list(packages))
    try:
        yield
    finally:
        parsing_settings.update(before)


def augment(transforms: Sequence[BasicTransform], patches: Tensor, seeds: Sequence[int]) -> Tensor:
    """Apply `transforms` in order to each of the patches (N, C, H, W) uint8; all chance follows from a patch's seed.

    Raises:
        UserError: a transform changed the size or type of a patch.
    """
    pipeline = Compose(list(transforms))
    augmented = []
    for patch, seed in zip(patches, seeds, strict=True):
        pipeline.set_random_seed(seed)
        image = pipeline(image=to_image(patch[None]))["image"]
        if image.dtype != np.uint8 or image.shape != (*patches.shape[2:], patches.shape[1]):
            raise UserError(
                f"data.transforms turned a patch of {tuple(patches.shape[2:])} uint8 into {image.shape} {image.dtype}; "
                "only transforms that keep size and type can be used"
            )
        augmented.append(image)
    return torch.from_numpy(np.stack(augmented)).permute(0, 3, 1, 2)
