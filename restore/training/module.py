"""A network, a loss and a schedule as a Lightning module."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torchmetrics import MeanMetric

from restore.data.pairs import ImagePair, Pair
from restore.errors import UserError
from restore.hardware import Hardware
from restore.images.tensors import quantize
from restore.inference import Runner, at_level, check_finite, restore_tensor, tiled
from restore.losses import find_loss
from restore.metrics import Protocol
from restore.models import RestorationNetwork, build
from restore.optim import Optimization
from restore.training.lightning_internals import QuickModule, logs_this_step

AS_IT_IS = Hardware(channels_last=False)


class RestorationModule(QuickModule):
    """Trains a network on pairs and validates it on whole images under a protocol.

    Args:
        network: any restoration network.
        optim: loss, optimizer, schedule.
        protocol: how validation images are scored; they are restored in float32, always.
        hardware: memory format and compilation of the training step.
        settings: what its checkpoints are to say of the run (see `settings.py`).
    """

    def __init__(
        self,
        network: RestorationNetwork,
        optim: Optimization,
        protocol: Protocol,
        hardware: Hardware = AS_IT_IS,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.channels_last = bool(hardware.channels_last)
        self._format = torch.channels_last if self.channels_last else torch.contiguous_format
        self.network = network.to(memory_format=self._format)
        views = {scale: network.at(scale) for scale in network.all_scales}
        self._restore: dict[int, Callable[[Tensor], Tensor]] = {
            scale: _compiled(view, hardware) if hardware.compile else view.__call__  # not submodules once more
            for scale, view in views.items()
        }
        self.optim = optim
        self.protocol = protocol
        self._settings = dict(settings or {})
        self.val_psnr = MeanMetric()
        self.val_ssim = MeanMetric()
        self._loss = find_loss(optim.loss)
        self._runner: Runner | None = None

    def configure_model(self) -> None:
        """Spread parameters, gradients and the optimizer's state over all processes if the strategy is FSDP.

        The whole module is one unit, so that parameters are gathered once a step or validation image, on all processes
        equally often, into how many tiles an image may be cut.
        """
        if self.device_mesh is not None and not isinstance(self, FSDPModule):
            self.network.to(memory_format=torch.contiguous_format)  # FSDP knows no other
            fully_shard(self)
            for method in ("training_step", "on_validation_start", "validation_step"):
                register_fsdp_forward_method(self, method)

    def whole_network(self) -> RestorationNetwork:
        """The network with all its weights, even if they are spread over processes, which then all must call this;
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

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self._settings:
            checkpoint["settings"] = self._settings

    def training_step(self, pair: Pair, batch_idx: int) -> Tensor:
        restored = self._restore[pair.scale](pair.degraded.contiguous(memory_format=self._format))
        loss = self._loss(restored.float(), pair.clean).mean()
        if logs_this_step(self.trainer):  # for others Lightning would work as much, and throw it away
            self.log("train/loss", loss)
        return loss

    def on_validation_start(self) -> None:
        self._runner = tiled(self.network)

    def validation_step(self, item: tuple[ImagePair, bool], batch_idx: int) -> dict[str, Any] | None:
        """Score one image; returns it restored, (1, C, H, W) uint8, and its score, unless it is not counted.

        Raises:
            UserError: the result is not finite.
        """
        assert self._runner is not None
        pair, counted = item
        with torch.autocast(self.device.type, enabled=False):
            restored = restore_tensor(at_level(self._runner, pair.level), pair.degraded)
        check_finite(restored)
        if not counted:
            return None
        restored = quantize(restored)
        score = self.protocol.score(restored, pair.clean, self.network.scale)
        self.val_psnr.update(score.psnr)
        self.val_ssim.update(score.ssim)
        return {"restored": restored, "score": score}

    def on_validation_epoch_end(self) -> None:
        self.log("val/psnr", self.val_psnr, prog_bar=True)
        self.log("val/ssim", self.val_ssim)

    def configure_optimizers(self) -> Any:
        if self.optim.optimizer == "muon" and isinstance(self, FSDPModule):
            raise UserError("optim.optimizer muon needs whole weights, but the strategy fsdp shards them; use ddp")
        steps = self.trainer.estimated_stepping_batches
        # Lightning cannot clip before a fused step in mixed precision; and with float16, whose gradients are scaled, a
        # fused step must have gradients, which bad steps that are skipped have not.
        fused = self.trainer.gradient_clip_val is None and self.trainer.precision != "16-mixed"
        optimizer, schedule = self.optim.build(self.network, int(steps) if steps < math.inf else None, fused=fused)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def _compiled(network: RestorationNetwork, hardware: Hardware) -> Callable[[Tensor], Tensor]:
    mode = hardware.compile if isinstance(hardware.compile, str) else "default"
    compiled: Callable[[Tensor], Tensor] = torch.compile(network.forward, mode=mode)
    return compiled
