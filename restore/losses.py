"""Training losses: pure functions of (N, C, H, W) tensors in [0, 1], one value per image."""

from collections.abc import Callable
from typing import Literal

from torch import Tensor


def half_squared_error(restored: Tensor, clean: Tensor) -> Tensor:
    """Half the summed squared error of each image, (N,): equation (1) of the DnCNN paper before its mean over N."""
    return (restored - clean).square().flatten(1).sum(1) / 2


def l1(restored: Tensor, clean: Tensor) -> Tensor:
    """Mean absolute error of each image, (N,), as EDSR is trained."""
    return (restored - clean).abs().flatten(1).mean(1)


LossName = Literal["half_squared_error", "l1"]
LOSSES: dict[LossName, Callable[[Tensor, Tensor], Tensor]] = {"half_squared_error": half_squared_error, "l1": l1}
