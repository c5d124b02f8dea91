"""What is optimised and how: a network, a loss and a schedule as a Lightning module."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, assert_never

import torch
from pytorch_lightning import LightningModule
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.optim import SGD, Adam, Optimizer
from torch.optim.lr_scheduler import (
    ConstantLR,
    CosineAnnealingLR,
    ExponentialLR,
    LRScheduler,
    OneCycleLR,
    StepLR,
)
from torchmetrics import MeanMetric

from restore.data.pairs import ImagePair, Pair
from restore.errors import UserError
from restore.hardware import Hardware
from restore.images.tensors import quantise
from restore.inference import Runner, restore_tensor, tiled
from restore.losses import LOSSES, LossName
from restore.metrics import Protocol
from restore.models import RestorationNetwork, build

AS_IT_IS = Hardware(channels_last=False)

Schedule = Literal["constant", "step", "exponential", "cosine", "onecycle"]


@dataclass(frozen=True)
class Optimization:
    """How a network is optimised. The defaults are DnCNN's with Adam.

    Attributes:
        loss: `half_squared_error` (DnCNN: summed over each image's pixels, mean over the batch) or `l1` (EDSR).
        optimizer: `adam` or `sgd`.
        lr: learning rate at the start; the peak for `onecycle`.
        betas: of Adam.
        eps: of Adam.
        momentum: of SGD.
        weight_decay: L2 penalty on all parameters.
        schedule: `constant`; `step`: times `gamma` every `step_size` steps; `exponential` and `cosine`: from `lr` to
            `final_lr` over the run; `onecycle`: up to `lr` and down to nothing (Smith & Topin 2018).
        step_size, gamma: of `step`.
        final_lr: of `exponential` and `cosine`.
        ema_decay: above 0, the weights that are validated and kept are an exponential moving average, buffers
            (BN's running statistics) included.
    """

    loss: LossName = "half_squared_error"
    optimizer: Literal["adam", "sgd"] = "adam"
    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    momentum: float = 0.9
    weight_decay: float = 0.0
    schedule: Schedule = "constant"
    step_size: int = 200_000
    gamma: float = 0.5
    final_lr: float = 0.0
    ema_decay: float = 0.0

    def __post_init__(self) -> None:
        if not self.lr > 0:
            raise UserError(f"optim.lr must be positive, not {self.lr}")
        if not 0 <= self.ema_decay < 1:
            raise UserError(f"optim.ema_decay must lie in [0, 1), not {self.ema_decay}")
        if self.schedule == "exponential" and not self.final_lr > 0:
            raise UserError("optim.final_lr must be positive for the exponential schedule")

    def build(
        self, parameters: Iterator[nn.Parameter], steps: int, *, fused: bool = True
    ) -> tuple[Optimizer, LRScheduler]:
        """The optimiser, in one kernel where `fused`, and its schedule in steps, for a run of `steps` steps."""
        optimizer: Optimizer
        match self.optimizer:
            case "adam":
                optimizer = Adam(parameters, self.lr, self.betas, self.eps, self.weight_decay, fused=fused)
            case "sgd":
                optimizer = SGD(parameters, self.lr, self.momentum, weight_decay=self.weight_decay, fused=fused)
            case _:
                assert_never(self.optimizer)
        schedule: LRScheduler
        match self.schedule:
            case "constant":
                schedule = ConstantLR(optimizer, factor=1.0)
            case "step":
                schedule = StepLR(optimizer, self.step_size, self.gamma)
            case "exponential":
                schedule = ExponentialLR(optimizer, (self.final_lr / self.lr) ** (1 / steps))
            case "cosine":
                schedule = CosineAnnealingLR(optimizer, steps, self.final_lr)
            case "onecycle":
                schedule = OneCycleLR(optimizer, self.lr, total_steps=steps + 1)
            case _:
                assert_never(self.schedule)
        return optimizer, schedule


class RestorationModule(LightningModule):
    """Trains a network on pairs and validates it on whole images under a protocol.

    Args:
        network: any restoration network.
        optim: loss, optimiser, schedule.
        protocol: how validation images are scored; they are restored in float32 whatever the training's precision.
        hardware: memory format and compilation of the training step.
    """

    def __init__(
        self, network: RestorationNetwork, optim: Optimization, protocol: Protocol, hardware: Hardware = AS_IT_IS
    ) -> None:
        super().__init__()
        self._format = torch.channels_last if hardware.channels_last else torch.contiguous_format
        self.network = network.to(memory_format=self._format)
        views = {scale: network.at(scale) for scale in network.all_scales}
        self._restore: dict[int, Callable[[Tensor], Tensor]] = {
            scale: torch.compile(view.forward) if hardware.compile else view.__call__  # not submodules once more
            for scale, view in views.items()
        }
        self.optim = optim
        self.protocol = protocol
        self.val_psnr = MeanMetric()
        self.val_ssim = MeanMetric()
        self._loss = LOSSES[optim.loss]
        self._runner: Runner | None = None

    def configure_model(self) -> None:
        """Spread parameters, gradients and the optimiser's state over all processes where the strategy is FSDP.

        The whole module is one unit, so that parameters are gathered once a step or validation image, on all processes
        equally often, into how many tiles an image may be cut.
        """
        if self.device_mesh is not None and not isinstance(self, FSDPModule):
            self.network.to(memory_format=torch.contiguous_format)  # FSDP knows no other
            fully_shard(self)
            for method in ("training_step", "on_validation_start", "validation_step"):
                register_fsdp_forward_method(self, method)

    def whole_network(self) -> RestorationNetwork:
        """The network with all its weights, also where they are spread over processes, which then all must call this;
        the first gets them."""
        trained: RestorationNetwork = self.network
        if not isinstance(self, FSDPModule):
            return trained
        options = StateDictOptions(full_state_dict=True, cpu_offload=True)
        state = get_model_state_dict(trained, options=options)
        network = build(trained.spec)
        if state:
            network.load_state_dict(state)
        return network

    def training_step(self, pair: Pair, batch_idx: int) -> Tensor:
        restored = self._restore[pair.scale](pair.degraded.contiguous(memory_format=self._format))
        loss = self._loss(restored.float(), pair.clean).mean()
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def on_validation_start(self) -> None:
        self._runner = tiled(self.network)

    def validation_step(self, item: tuple[ImagePair, bool], batch_idx: int) -> dict[str, Any] | None:
        """Score one image; returns it restored, (1, C, H, W) uint8, and its score, unless it is not counted."""
        assert self._runner is not None
        pair, counted = item
        with torch.autocast(self.device.type, enabled=False):
            restored = quantise(restore_tensor(self._runner, pair.degraded))
        if not counted:
            return None
        score = self.protocol.score(restored, pair.clean, self.network.scale)
        self.val_psnr.update(score.psnr)
        self.val_ssim.update(score.ssim)
        return {"restored": restored, "score": score}

    def on_validation_epoch_end(self) -> None:
        self.log("val/psnr", self.val_psnr, prog_bar=True)
        self.log("val/ssim", self.val_ssim)

    def configure_optimizers(self) -> Any:
        steps = self.trainer.estimated_stepping_batches
        if steps == math.inf:
            if self.optim.schedule not in ("constant", "step"):
                raise UserError(f"optim.schedule {self.optim.schedule} needs an end: set trainer.max_steps")
            steps = 1  # which these schedules don't look at
        fused = self.trainer.gradient_clip_val is None  # Lightning cannot clip before a fused step in mixed precision
        optimizer, schedule = self.optim.build(self.network.parameters(), int(steps), fused=fused)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
