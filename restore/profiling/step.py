"""A training step, and what takes it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, assert_never

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from restore.choices import Quantity, StepPrecision
from restore.errors import UserError
from restore.losses import find_loss
from restore.models import NetworkSpec, RestorationNetwork, build
from restore.optim import Optimization, state_tensors
from restore.torch_internals import activation_budget, without_data

AUTOCAST: dict[StepPrecision, torch.dtype] = {"bf16-mixed": torch.bfloat16, "fp16-mixed": torch.float16}


@dataclass(frozen=True)
class Step:
    """A training step.

    Attributes:
        network: what is trained, with all its arguments, as `RestorationNetwork.spec` gives it.
        batch: patches.
        patch: height and width of the network's input.
        loss: see `losses.py`.
        optimizer: see `Optimization`, as for `optimizer_args`.
        precision: `fp32`, or autocast to bfloat16 or float16.
        channels_last: memory format of weights and images.
        compile: None, or torch.compile with this share of activations that may be kept (1: as it likes).
    """

    network: NetworkSpec
    batch: int
    patch: int
    loss: str = Optimization.loss
    optimizer: str = Optimization.optimizer
    precision: StepPrecision = "fp32"
    channels_last: bool = False
    compile: float | None = None
    optimizer_args: Mapping[str, Any] = field(default_factory=dict)

    def having(self, quantity: Quantity, value: int) -> "Step":
        """The step with another batch or patch size, or a network of another width or depth."""
        match quantity:
            case "batch":
                return replace(self, batch=value)
            case "patch":
                return replace(self, patch=value)
            case "features" | "depth":
                name = "blocks" if quantity == "depth" and "blocks" in self.network.arguments else quantity
                spec = NetworkSpec(self.network.name, self.network.arguments | {name: value})
                return replace(self, network=spec)
            case _:
                assert_never(quantity)

    def value(self, quantity: Quantity) -> int:
        """The batch or patch size, or the width or depth of the network."""
        known: dict[str, int] = {"batch": self.batch, "patch": self.patch} | self.network.arguments
        return known["blocks" if quantity == "depth" and "blocks" in known else quantity]


class Trial:
    """A network, its optimizer and a batch.

    Raises:
        UserError: the network does not take patches of this size.
    """

    def __init__(self, step: Step, device: torch.device) -> None:
        form = torch.channels_last if step.channels_last else torch.contiguous_format
        self.step = step
        self.device = device
        self.network: RestorationNetwork = build(step.network)
        if step.patch % self.network.multiple_of:
            multiple = f"a multiple of {self.network.multiple_of}"
            raise UserError(f"{step.network.name}: the patch size must be {multiple}, not {step.patch}")
        if device.type != "cpu":  # tensors without data cannot be moved
            self.network.to(device)
        for parameter in self.network.parameters():
            if parameter.dim() == 4:
                parameter.data = parameter.data.contiguous(memory_format=form)
        n, channels, size = step.batch, self.network.channels, step.patch
        self.degraded = torch.rand(n, self.network.inputs, size, size, device=device).to(memory_format=form)
        self.clean = torch.rand(n, channels, size * self.network.scale, size * self.network.scale, device=device)
        self._run: Callable[[Tensor], Tensor] = self.network
        if step.compile is not None:
            self._run = torch.compile(self.network)
        optim = Optimization(step.loss, step.optimizer, optimizer_args=dict(step.optimizer_args))
        self.optimizer = optim.optimizer_of(self.network, fused=False)

    def warm_up(self) -> None:
        """Take a step, so that the next is one of many."""
        self.backward(self.forward())
        self.optimizer.zero_grad()

    def forward(self) -> Tensor:
        dtype = AUTOCAST.get(self.step.precision)
        budget = 1.0 if self.step.compile is None else self.step.compile
        with (
            activation_budget(budget),
            torch.autocast(self.device.type, dtype, enabled=dtype is not None),
        ):
            restored = self._run(self.degraded)
        return find_loss(self.step.loss)(restored.float(), self.clean).mean()

    def backward(self, loss: Tensor) -> None:
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()

    @property
    def state(self) -> list[Tensor]:
        """The optimizer's."""
        return state_tensors(self.optimizer)


def flops(step: Step) -> int:
    """Floating-point operations of a step, with backward at twice the forward pass. Needs no hardware."""
    with without_data():
        trial = Trial(replace(step, compile=None), torch.device("cpu"))
        with FlopCounterMode(display=False) as counter:
            trial.forward()
    total: int = counter.get_total_flops()
    return 3 * total


def reduced(step: Step, most: float) -> Step:
    """The step on fewer and, if one is still too much, smaller patches, so that it takes at most `most` FLOPs."""
    smaller = replace(step, batch=max(1, min(step.batch, int(step.batch * most / flops(step)))))
    excess = flops(smaller) / most
    return smaller if excess <= 1 else replace(smaller, patch=max(1, int(smaller.patch / excess**0.5)))
