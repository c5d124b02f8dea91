"""Batch norm at the memory of none: keep the convolutions' outputs, compute the rest again in backward.

A layer conv-norm-activation keeps two maps for its backward: the convolution's output, which the norm needs, and the
activation's, which the next convolution needs. The second follows from the first at little cost. PyTorch's selective
activation checkpointing makes the exchange: what lies between two convolutions is a checkpointed segment.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import count
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import (
    CheckpointPolicy,
    SelectiveCheckpointContext,
    checkpoint,
    create_selective_checkpoint_contexts,
)

from restore.models.blocks import ResidualBlock
from restore.models.norm import Norm, normalises_output

Recompute = Literal["none", "norm"]


def sequential(norm: Norm, recompute: Recompute) -> type[nn.Sequential]:
    """What holds a network's body: `Recomputed` where that is asked for and outputs are normalised."""
    return Recomputed if recompute == "norm" and normalises_output(norm) else nn.Sequential


class Recomputed(nn.Sequential):
    """Layers in turn, as nn.Sequential has them, whose norms and activations run again in backward.

    A segment ends with a convolution. Residual blocks end with a sum, which is none, so that several of them share a
    segment and only its first input is kept: half of the blocks, then half of the rest and so on, because backward
    begins at the end and has freed more by the time it comes to the longer segments.

    Activations must not work in place, or they change the outputs that are kept.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not torch.is_grad_enabled():
            for layer in self:
                x = layer(x)
            return x
        for segment in self._segments():
            x = checkpoint(segment, x, use_reentrant=False, preserve_rng_state=False, context_fn=segment.contexts)
        return x

    def _segments(self) -> Iterator["_Segment"]:
        layers = list(_flattened(self))
        blocks = sum(isinstance(layer, ResidualBlock) for layer in layers)
        segment = _Segment()
        for layer in layers:
            if isinstance(layer, ResidualBlock) and len(segment) == max(2, blocks // 2):
                blocks -= len(segment)
                yield segment
                segment = _Segment()
            segment.append(layer)
            if isinstance(layer, nn.Conv2d):
                yield segment
                segment = _Segment()
        if len(segment):
            yield segment


class _Segment(nn.Sequential):
    """Layers that run again together, but for their convolutions."""

    def contexts(self) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        """What the layers run in at first and again: outputs of convolutions are kept there and taken here.

        A convolution at the end is left out: the repetition stops at its input.
        """
        convolutions = sum(isinstance(module, nn.Conv2d) for module in self.modules())
        kept = convolutions - isinstance(self[-1], nn.Conv2d)
        if not kept:
            return nullcontext(), self._repetition(nullcontext())
        seen = {False: count(), True: count()}

        def policy(context: SelectiveCheckpointContext, operation: Any, *_: Any, **__: Any) -> CheckpointPolicy:
            convolves = operation is torch.ops.aten.convolution.default
            keep = convolves and next(seen[context.is_recompute]) < kept
            return CheckpointPolicy.MUST_SAVE if keep else CheckpointPolicy.MUST_RECOMPUTE

        first, again = create_selective_checkpoint_contexts(policy)  # type: ignore[no-untyped-call]
        return first, self._repetition(again)

    @contextmanager
    def _repetition(self, again: AbstractContextManager[None]) -> Iterator[None]:
        """Batch norms have counted this batch: they update a copy of their running statistics."""
        norms = [module for module in self.modules() if isinstance(module, nn.BatchNorm2d)]
        statistics = [(norm, name, buffer) for norm in norms for name, buffer in norm.named_buffers()]
        for norm, name, buffer in statistics:
            setattr(norm, name, buffer.clone())
        try:
            with again:
                yield
        finally:
            for norm, name, buffer in statistics:
                setattr(norm, name, buffer)


def _flattened(layers: nn.Sequential) -> Iterator[nn.Module]:
    for layer in layers:
        if isinstance(layer, nn.Sequential):
            yield from _flattened(layer)
        else:
            yield layer
