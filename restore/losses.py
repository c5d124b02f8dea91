"""Training losses: pure functions of (N, C, H, W) tensors in [0, 1], one value per image."""

from collections.abc import Callable

from torch import Tensor

from restore.errors import UserError, nearest
from restore.extensions import load

Loss = Callable[[Tensor, Tensor], Tensor]

CHARBONNIER_EPS = 1e-3


def half_squared_error(restored: Tensor, clean: Tensor) -> Tensor:
    """Half the summed squared error of each image, (N,): equation (1) of the DnCNN paper before its mean over N."""
    return (restored - clean).square().flatten(1).sum(1) / 2


def l1(restored: Tensor, clean: Tensor) -> Tensor:
    """Mean absolute error of each image, (N,), as EDSR is trained."""
    return (restored - clean).abs().flatten(1).mean(1)


def charbonnier(restored: Tensor, clean: Tensor) -> Tensor:
    """Mean of sqrt(error^2 + 0.001^2) of each image, (N,): smooth at zero (Lai et al. 2017, equation 2)."""
    return ((restored - clean).square() + CHARBONNIER_EPS**2).sqrt().flatten(1).mean(1)


LOSSES: dict[str, Loss] = {loss.__name__: loss for loss in (half_squared_error, l1, charbonnier)}


def find_loss(name: str) -> Loss:
    """A loss by its name here, or by the path `package.module.function` of one of the user's.

    Raises:
        UserError: there is no such loss, or its package is not allowed.
    """
    if name in LOSSES:
        return LOSSES[name]
    if "." not in name:
        meant, known = nearest(name, LOSSES), ", ".join(LOSSES)
        raise UserError(f"unknown loss {name!r}{meant}; known: {known}; or the path package.module.function")
    loss: Loss = load(name)
    return loss
