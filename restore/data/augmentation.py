"""The door to Albumentations, for augmentation beyond flips and turns."""

import os
from collections.abc import Sequence

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # without it, the import asks a server for a newer version

import numpy as np
import torch
from albumentations import BasicTransform, Compose
from torch import Tensor

from restore.errors import UserError
from restore.images.tensors import to_image


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


__all__ = ["BasicTransform", "augment"]
