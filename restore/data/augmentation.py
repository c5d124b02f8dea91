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


def augment(transforms: Sequence[BasicTransform], patches: Tensor, seed: int) -> Tensor:
    """Apply `transforms` in order to each of the patches (N, C, H, W) uint8; all chance follows from `seed`.

    Raises:
        UserError: a transform changed the size or type of a patch.
    """
    pipeline = Compose(list(transforms), seed=seed)
    augmented = [pipeline(image=to_image(patch[None]))["image"] for patch in patches]
    for image in augmented:
        if image.dtype != np.uint8 or image.shape != (*patches.shape[2:], patches.shape[1]):
            raise UserError(
                f"data.transforms turned a patch of {tuple(patches.shape[2:])} uint8 into {image.shape} {image.dtype}; "
                "only transforms that keep size and type can be used"
            )
    return torch.from_numpy(np.stack(augmented)).permute(0, 3, 1, 2)


__all__ = ["BasicTransform", "augment"]
