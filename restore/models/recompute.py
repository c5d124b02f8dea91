"""Batch norm at the memory of none: keep the convolutions' outputs, make the rest again in backward.

A layer conv-norm-activation keeps two maps for its backward: the convolution's output, which the norm needs, and the
activation's, which the next convolution needs. The second follows from the first, and from the statistics that the
norm has taken, in one pass over it. So autograd, when it saves a map that can be made again, is given the way to make
it instead (`torch.autograd.graph.saved_tensors_hooks`).
"""

from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional as F

from restore.models.blocks import ResidualBlock
from restore.models.norm import Norm, normalises_output

Recompute = Literal["none", "norm"]


def sequential(norm: Norm, recompute: Recompute) -> type[nn.Sequential]:
    """What holds a network's body: `Recomputed` where that is asked for and outputs are normalised."""
    return Recomputed if recompute == "norm" and normalises_output(norm) else nn.Sequential


class Recomputed(nn.Sequential):
    """Layers in turn, as nn.Sequential has them, whose norms and activations are made again in backward.

    So are the sums of residual blocks, each from the sum before it. But the sum of half of the blocks is kept, and of
    half of the rest and so on, because backward begins at the end and has freed more by the time it comes to the
    longer stretches.
    """

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            return _Pass(self, x.device.type).run(x)
        for layer in self:
            x = layer(x)
        return x


class _Map:
    """A map that is kept, or that is made when backward first asks for it and let go when its last user has it.

    Attributes:
        tensor: the map while it exists.
        make: makes it from the maps of `sources`; None where it is kept.
        users: how often backward asks for it.
    """

    def __init__(self, tensor: Tensor | None, users: int = 0) -> None:
        self.tensor = tensor
        self.make: Callable[..., Tensor] | None = None
        self.sources: tuple[_Map, ...] = ()
        self.users = users
        self._served = 0

    def made(self, make: Callable[..., Tensor], *sources: "_Map") -> "_Map":
        """This map, not kept any more."""
        self.tensor, self.make, self.sources = None, make, sources
        for source in sources:
            source.users += 1
        return self

    def take(self) -> Tensor:
        tensor = self.tensor
        if tensor is None:
            assert self.make is not None
            self.tensor = tensor = self.make(*(source.take() for source in self.sources))
        if self.make is not None:
            self._served = (self._served + 1) % self.users
            if self._served == 0:
                self.tensor = None
        return tensor


class _Pass:
    """A forward pass in which autograd saves maps."""

    def __init__(self, layers: nn.Sequential, device: str) -> None:
        self.layers = layers
        self._kept_sums = _halfway(sum(isinstance(module, ResidualBlock) for module in layers.modules()))
        self._blocks = 0
        self._saved: list[_Map] = []
        self._autocast = device, torch.get_autocast_dtype(device), torch.is_autocast_enabled(device)

    def run(self, x: Tensor) -> Tensor:
        with saved_tensors_hooks(self._save, self._restore):
            return self._through(self.layers, x, _Map(_bare(x)))[0]

    def _save(self, tensor: Tensor) -> _Map:
        self._saved.append(_Map(_bare(tensor), users=1))
        return self._saved[-1]

    def _restore(self, saved: _Map) -> Tensor:
        with torch.no_grad(), torch.autocast(*self._autocast):
            return saved.take()

    def _through(self, layer: nn.Module, x: Tensor, source: _Map) -> tuple[Tensor, _Map]:
        """What the layer makes of `x`, as a tensor and as a map."""
        if isinstance(layer, nn.Sequential):
            for part in layer:
                x, source = self._through(part, x, source)
            return x, source
        if isinstance(layer, ResidualBlock):
            residual, change = self._through(layer.body, x, source)
            x = layer.add(x, residual)
            self._blocks += 1
            if self._blocks in self._kept_sums:
                return x, _Map(_bare(x))
            return x, _Map(None).made(layer.add, source, change)
        y = layer(x)
        make = _way_to_make(layer, source, y)
        result = _Map(None).made(make, source) if make else _Map(_bare(y))
        for saved in self._saved:
            for tensor, known in ((y, result), (x, source)):
                if _same(saved.tensor, tensor):
                    if known.make:
                        saved.made(_itself, known)
                    break
        self._saved.clear()
        return y, result


def _way_to_make(layer: nn.Module, source: _Map, output: Tensor) -> Callable[[Tensor], Tensor] | None:
    """How a layer's output is made again from its input; None where it is kept."""
    match layer:
        case nn.BatchNorm2d() if layer.training:
            if output.grad_fn is None:
                return None
            mean, deviation = output.grad_fn._saved_result1, output.grad_fn._saved_result2
            return partial(
                F.batch_norm,
                running_mean=mean,
                running_var=torch.ones_like(mean),
                weight=layer.weight.data * deviation,
                bias=layer.bias,
                eps=1e-30,
            )
        case nn.BatchNorm2d() | nn.GroupNorm() | nn.InstanceNorm2d():
            return layer.forward
        case nn.ReLU() | nn.PReLU() if source.make:
            return layer.forward
    return None


def _same(a: Tensor, b: Tensor) -> bool:
    return a.untyped_storage()._cdata == b.untyped_storage()._cdata and a.shape == b.shape and a.stride() == b.stride()


def _bare(tensor: Tensor) -> Tensor:
    """The tensor without its history, which would hold what holds the tensor."""
    return tensor if tensor.is_leaf else tensor.detach()


def _itself(tensor: Tensor) -> Tensor:
    return tensor


def _halfway(blocks: int) -> set[int]:
    """Numbers of the blocks"""
    kept, done = set(), 0
    while blocks - done > 2:
        done += max(2, (blocks - done) // 2)
        kept.add(done)
    return kept
