"""Muon for convolutions: momentum, orthogonalized, with Adam for what is no matrix between hidden layers.

Jordan, Jin, Boza, You, Cesista, Newhouse, Bernstein: Muon, an optimizer for hidden layers in neural networks. 2024,
https://kellerjordan.github.io/posts/muon/. A convolution's weight (out, in, k, k) is the matrix (out, in*k*k).
"""

from collections.abc import Callable, Sequence
from typing import Any, overload

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

STEPS = 5  # of the Newton-Schulz iteration
COEFFICIENTS = 3.4445, -4.7750, 2.0315  # of its polynomial, which takes singular values to between 0.7 and 1.2


class Muon(Optimizer):
    """Orthogonalized momentum for groups that say `"muon": True`, Adam for all other groups.

    The update of a matrix (rows, columns) is scaled by sqrt(max(1, rows / columns)), as in the reference
    implementation. Weight decay is decoupled.

    Args:
        groups: parameters with their settings, as `muon_groups` makes them.
        lr: learning rate of Adam's groups that have none of their own.
        muon_lr: learning rate of Muon's groups that have none of their own.
        momentum: of Muon, with Nesterov's look ahead.
        betas, eps: of Adam.
        weight_decay: of groups that have none of their own.
    """

    def __init__(
        self,
        groups: Sequence[dict[str, Any]],
        lr: float = 1e-3,
        muon_lr: float = 0.02,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "muon": False,
        }
        super().__init__([{"lr": muon_lr if group.get("muon") else lr} | group for group in groups], defaults)

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            if group["weight_decay"]:
                for parameter in parameters:
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
            if group["muon"]:
                self._step_muon(parameters, group["lr"], group["momentum"])
            else:
                for parameter in parameters:
                    self._step_adam(parameter, group["lr"], group["betas"], group["eps"])
        return loss

    def _step_muon(self, parameters: Sequence[Tensor], lr: float, momentum: float) -> None:
        """Matrices of one shape are orthogonalized together."""
        by_shape: dict[tuple[int, int], list[tuple[Tensor, Tensor]]] = {}
        for parameter in parameters:
            assert parameter.grad is not None
            state = self.state[parameter]
            if not state:
                state["momentum_buffer"] = torch.zeros_like(parameter)
            average = state["momentum_buffer"].lerp_(parameter.grad, 1 - momentum)
            update = parameter.grad.lerp(average, momentum).flatten(1)
            rows, columns = update.shape
            by_shape.setdefault((rows, columns), []).append((parameter, update))
        for (rows, columns), members in by_shape.items():
            updates = orthogonalize(torch.stack([update for _, update in members]))
            scale = max(1.0, rows / columns) ** 0.5
            for (parameter, _), update in zip(members, updates, strict=True):
                parameter.add_(update.view(parameter.shape).to(parameter.dtype), alpha=-lr * scale)

    def _step_adam(self, parameter: Tensor, lr: float, betas: tuple[float, float], eps: float) -> None:
        assert parameter.grad is not None
        beta1, beta2 = betas
        state = self.state[parameter]
        if not state:
            state["step"] = 0
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        state["step"] += 1
        step: int = state["step"]
        average = state["exp_avg"].lerp_(parameter.grad, 1 - beta1)
        square = state["exp_avg_sq"].mul_(beta2).addcmul_(parameter.grad, parameter.grad, value=1 - beta2)
        deviation = (square / (1 - beta2**step)).sqrt_().add_(eps)
        parameter.addcdiv_(average, deviation, value=-lr / (1 - beta1**step))


def orthogonalize(matrices: Tensor) -> Tensor:
    """Roughly the nearest (semi-)orthogonal matrices, by five Newton-Schulz steps.

    Args:
        matrices: (N, rows, columns).

    Returns:
        Matrices of the same shape with singular values between about 0.7 and 1.2; bfloat16 on a GPU, as in the
        reference, else float32.
    """
    a, b, c = COEFFICIENTS
    x: Tensor = matrices.bfloat16() if matrices.is_cuda else matrices.float()
    tall = x.shape[1] > x.shape[2]
    if tall:
        x = x.mT
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(STEPS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


def muon_groups(network: nn.Module) -> list[dict[str, Any]]:
    """The parameters of a network for `Muon`: hidden convolutions, its ends, and all others without weight decay.

    The ends are the first convolution and the last, and those beside all others, as WDSR's skip, that read what the
    first reads and make what the last makes.
    """
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    ends = {id(parameter) for convolution in _ends(convolutions) for parameter in convolution.parameters()}
    kinds: tuple[list[Tensor], list[Tensor], list[Tensor]] = [], [], []
    for parameter in network.parameters():
        is_matrix = parameter.dim() > 1 and parameter[0].numel() > 1
        kinds[2 if not is_matrix else 1 if id(parameter) in ends else 0].append(parameter)
    groups = {"params": kinds[0], "muon": True}, {"params": kinds[1]}, {"params": kinds[2], "weight_decay": 0.0}
    return [group for group in groups if group["params"]]


def _ends(convolutions: Sequence[nn.Conv2d]) -> list[nn.Conv2d]:
    """Those of a network's convolutions, in its order, that read or make pixels."""
    if not convolutions:
        return []
    first, last = convolutions[0], convolutions[-1]
    outer, hidden = (first.in_channels, last.out_channels), (first.out_channels, last.in_channels)
    beside = [it for it in convolutions if (it.in_channels, it.out_channels) == outer] if outer != hidden else []
    return [first, last, *beside]
