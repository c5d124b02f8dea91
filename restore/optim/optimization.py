"""What is optimized and how: the loss, the optimizer with its groups of parameters, the schedule of learning rates."""

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR

from restore.errors import UserError, nearest
from restore.extensions import load
from restore.losses import find_loss
from restore.optim.muon import Muon, muon_groups

Schedule = Literal["constant", "step", "exponential", "cosine", "wsd", "onecycle"]
OPTIMIZERS = ("adam", "adamw", "sgd", "muon")
OF_ANY_LENGTH: tuple[Schedule, ...] = ("constant", "step")
DECAY_SHARE = 0.2  # of the run, at the end of `wsd`
USED_BY = {  # by which optimizers or schedules
    "betas": ("adam", "adamw", "muon"),
    "eps": ("adam", "adamw", "muon"),
    "muon_lr": ("muon",),
    "step_size": ("step",),
    "gamma": ("step",),
    "final_lr": ("exponential", "cosine", "wsd"),
}


@dataclass(frozen=True)
class Optimization:
    """How a network is optimized. The defaults are DnCNN's with Adam.

    Attributes:
        loss: `half_squared_error` (DnCNN: summed over each image's pixels, mean over the batch), `l1` (EDSR),
            `charbonnier`, or the path `package.module.function` of one of your own.
        optimizer: `adam`, `adamw` (weight decay apart from the gradient), `sgd`, `muon` (orthogonalized momentum for
            hidden convolutions, Adam for the rest), or the path of a class, e.g. `torch.optim.NAdam`.
        lr: learning rate at the start, or at the end of the warm-up; the peak for `onecycle`.
        betas: of Adam.
        eps: of Adam.
        momentum: of SGD; Muon's is 0.95.
        muon_lr: of Muon's convolutions, in place of `lr`.
        optimizer_args: more arguments of an optimizer that is named by its path.
        weight_decay: on the weights of convolutions; norms and biases have none (see `parameter_groups`).
        schedule: `constant`; `step`: times `gamma` every `step_size` steps; `exponential` and `cosine`: from `lr` to
            `final_lr` over the run; `wsd` (warm-up, stable, decay): constant, and linearly down to `final_lr` in the
            last fifth of the run; `onecycle`: up to `lr` and down to nothing (Smith & Topin 2018), while
            momentum, or Adam's first beta, goes from 0.95 down to 0.85 and back, even if another is set.
        warmup_steps: steps in which the rate rises linearly to what the schedule says; `onecycle` has its own.
        step_size, gamma: of `step`.
        final_lr: of `exponential`, `cosine` and `wsd`.
        ema_decay: above 0, the weights that are validated and kept are an exponential moving average, buffers
            (BN's running statistics) included; the decay rises to this (see `averaging.py`).

    Raises:
        UserError: a setting is impossible, or a path names nothing that may be imported.
    """

    loss: str = "half_squared_error"
    optimizer: str = "adam"
    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    momentum: float = 0.9
    muon_lr: float = 0.02
    optimizer_args: dict[str, Any] = field(default_factory=dict)
    weight_decay: float = 0.0
    schedule: Schedule = "constant"
    warmup_steps: int = 0
    step_size: int = 200_000
    gamma: float = 0.5
    final_lr: float = 0.0
    ema_decay: float = 0.0

    def __post_init__(self) -> None:
        for name in ("lr", "muon_lr", "gamma"):
            if not getattr(self, name) > 0:
                raise UserError(f"optim.{name} must be positive, not {getattr(self, name)}")
        for name in ("eps", "weight_decay", "final_lr"):
            if not getattr(self, name) >= 0:
                raise UserError(f"optim.{name} must be at least 0, not {getattr(self, name)}")
        for name, values in (("ema_decay", (self.ema_decay,)), ("momentum", (self.momentum,)), ("betas", self.betas)):
            if not all(0 <= value < 1 for value in values):
                raise UserError(f"optim.{name} must lie in [0, 1), not {getattr(self, name)}")
        if self.schedule not in get_args(Schedule):
            raise UserError(f"optim.schedule must be one of {', '.join(get_args(Schedule))}, not {self.schedule!r}")
        if self.schedule == "exponential" and not self.final_lr > 0:
            raise UserError("optim.final_lr must be positive for the exponential schedule")
        if self.warmup_steps < 0 or (self.warmup_steps and self.schedule == "onecycle"):
            raise UserError("optim.warmup_steps must be at least 0, and 0 for onecycle, which has a warm-up of its own")
        if self.step_size < 1:
            raise UserError(f"optim.step_size must be at least 1, not {self.step_size}")
        find_loss(self.loss)
        if self.optimizer not in OPTIMIZERS:
            _optimizer_class(self.optimizer)
        elif self.optimizer_args:
            raise UserError(
                f"optim.optimizer_args ({', '.join(self.optimizer_args)}) are not used by {self.optimizer}: leave them "
                "out, or name the optimizer by its path, such as torch.optim.Adam"
            )
        if self.momentum != type(self).momentum and self.optimizer != "sgd":
            raise UserError(f"optim.momentum is that of sgd and not used by {self.optimizer}: leave it out")

    @property
    def unused(self) -> list[str]:
        """What is set although neither the optimizer nor the schedule uses it, as where a flag overrides a recipe."""
        chosen = {self.optimizer, self.schedule}
        return [
            name
            for name, users in USED_BY.items()
            if getattr(self, name) != getattr(type(self), name) and not chosen & {*users}
        ]

    def optimizer_of(self, network: nn.Module, *, fused: bool = True) -> Optimizer:
        """The optimizer of a network's parameters.

        Args:
            network: whose parameters are trained.
            fused: run Adam and SGD in one kernel.

        Raises:
            UserError: the optimizer, named by its path, refuses its arguments or this network's parameters.
        """
        groups, lr, decay = parameter_groups(network), self.lr, self.weight_decay
        match self.optimizer:
            case "adam":
                return Adam(groups, lr, self.betas, self.eps, decay, fused=fused)
            case "adamw":
                return AdamW(groups, lr, self.betas, self.eps, decay, fused=fused)
            case "sgd":
                return SGD(groups, lr, self.momentum, weight_decay=decay, fused=fused)
            case "muon":
                return Muon(muon_groups(network), lr, self.muon_lr, betas=self.betas, eps=self.eps, weight_decay=decay)
        chosen = _optimizer_class(self.optimizer)
        decays = decay or "weight_decay" in inspect.signature(chosen).parameters  # some have a default of their own
        try:
            settings = {"lr": lr} | ({"weight_decay": decay} if decays else {}) | self.optimizer_args
            optimizer = chosen(groups, **settings)
            _check_step(chosen, settings)
        except (TypeError, ValueError, RuntimeError) as error:
            raise UserError(f"optim.optimizer {self.optimizer}: {error}") from error
        return optimizer

    def build(self, network: nn.Module, steps: int | None, *, fused: bool = True) -> tuple[Optimizer, LRScheduler]:
        """The optimizer and its schedule in steps.

        Args:
            network: whose parameters are trained.
            steps: of the whole run; None if only its time is limited.
            fused: see `optimizer_of`.

        Raises:
            UserError: see `optimizer_of`; or the schedule needs to know the number of steps. The schedule's
                `load_state_dict` raises it if the steps of the run so far had other rates than it gives them.
        """
        if steps is None and self.schedule not in OF_ANY_LENGTH:
            raise UserError(
                f"optim.schedule {self.schedule} needs to know how many steps the run has: set trainer.max_steps, or "
                f"use a schedule of any length ({', '.join(OF_ANY_LENGTH)})"
            )
        optimizer = self.optimizer_of(network, fused=fused)
        if self.schedule == "onecycle":
            assert steps is not None
            peaks = [group["lr"] for group in optimizer.param_groups]
            has_momentum = bool({"momentum", "betas"} & optimizer.defaults.keys())
            return optimizer, _OneCycle(optimizer, peaks, total_steps=steps + 1, cycle_momentum=has_momentum)

        def factor(step: int) -> float:
            return self._factor(step, steps)

        kind = _Factors if self.schedule in OF_ANY_LENGTH else _FactorsOfLength
        return optimizer, kind(optimizer, factor)

    def _factor(self, step: int, steps: int | None) -> float:
        """What the learning rates are multiplied with in a step of a run of `steps` steps."""
        warmed_up = min(1.0, (step + 1) / (self.warmup_steps + 1))
        if steps is None or self.schedule in OF_ANY_LENGTH:
            return warmed_up * (self.gamma ** (step // self.step_size) if self.schedule == "step" else 1.0)
        end, done = self.final_lr / self.lr, min(1.0, step / steps)
        match self.schedule:
            case "exponential":
                return warmed_up * float(end**done)
            case "cosine":
                return warmed_up * (end + (1 - end) * (1 + math.cos(math.pi * done)) / 2)
            case _:
                return warmed_up * (end + (1 - end) * min(1.0, (1 - done) / DECAY_SHARE))


class _Factors(LambdaLR):
    """Rates by their factors."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if "lr_lambdas" not in state_dict:  # of `_OneCycle`
            raise _other_rates(state_dict)
        super().load_state_dict(state_dict)


class _FactorsOfLength(_Factors):
    """Rates by factors that depend on the length of the run."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        rates = [base * factor(self.last_epoch) for base, factor in zip(self.base_lrs, self.lr_lambdas, strict=True)]
        if not all(math.isclose(*pair, rel_tol=1e-6) for pair in zip(rates, self.get_last_lr(), strict=True)):
            raise _other_rates(state_dict)


class _OneCycle(OneCycleLR):
    """PyTorch's, which would keep the length of the run that is continued."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if state_dict.get("total_steps") != self.total_steps:
            raise _other_rates(state_dict)
        super().load_state_dict(state_dict)


def _other_rates(state: dict[str, Any]) -> UserError:
    return UserError(
        f"with these settings the learning rates of the first {state['last_epoch']} steps would differ from those they "
        "had; use the run's optim.schedule and trainer.max_steps, or start another run from its weights "
        "(--weights, --output)"
    )


def parameter_groups(network: nn.Module) -> list[dict[str, Any]]:
    """The parameters of a network for an optimizer: weights of convolutions, and all others without weight decay.

    The others are gains and shifts of norms, biases, and slopes of PReLU, as in DnCNN's released training code.
    """
    weights: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for parameter in network.parameters():
        is_one_for_each_feature = parameter.dim() <= 1 or parameter[0].numel() == 1  # also the gains of weight norm
        (others if is_one_for_each_feature else weights).append(parameter)
    groups: list[dict[str, Any]] = [{"params": weights}, {"params": others, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def state_tensors(optimizer: Optimizer) -> list[Tensor]:
    """What an optimizer keeps from step to step."""
    values = (value for state in optimizer.state.values() for value in state.values())
    return [value for value in values if isinstance(value, Tensor)]


def _optimizer_class(path: str) -> Callable[..., Optimizer]:
    if "." not in path:
        meant, known = nearest(path, OPTIMIZERS), ", ".join(OPTIMIZERS)
        raise UserError(f"unknown optimizer {path!r}{meant}; known: {known}; or a path like torch.optim.NAdam")
    found: object = load(path, "torch.optim")
    if not (isinstance(found, type) and issubclass(found, Optimizer)):
        raise UserError(f"optim.optimizer {path}: not a subclass of torch.optim.Optimizer")
    return found


def _check_step(optimizer: Callable[..., Optimizer], settings: dict[str, Any]) -> None:
    """Step with a dense gradient and without a closure, as training does; raises what the optimizer raises."""
    parameter = nn.Parameter(torch.zeros(2, 2))
    parameter.grad = torch.ones_like(parameter)
    optimizer([parameter], **settings).step()
