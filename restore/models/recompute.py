"""Batch norm at the memory of none: keep the convolutions' outputs, make the rest again in backward.

A layer conv-norm-activation keeps two maps for its backward: the convolution's output, which the norm needs, and the
activation's, which the next convolution needs. The second follows from the first and the statistics that the norm has
taken, in one pass over it. So if autograd saves a map that can be recomputed, it is given the way to make it
instead, by `torch.autograd.graph.saved_tensors_hooks`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional as F

from restore.models.blocks import Residual
from restore.models.norm import AdaDM, Normalization, OutputNorm, normalizes_output
from restore.torch_internals import batch_norm_statistics, storage_key


def sequential(normalization: Normalization) -> type[nn.Sequential]:
    """What holds a network's body: `Recomputed` if that is asked for and outputs are normalized."""
    recomputed = normalization.recompute == "norm" and normalizes_output(normalization.norm)
    return Recomputed if recomputed else nn.Sequential


class Recomputed(nn.Sequential):
    """Layers in turn, as nn.Sequential has them, whose norms and activations are recomputed in the backward pass.

    So are the sums of residual blocks, each from the sum before it. But the sum after half of the blocks is kept, and
    after half of the rest and so on, because backward begins at the end and has freed more by the time it comes to
    the longer stretches.
    """

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            run = torch.compiler.disable(_run) if torch.compiler.is_compiling() else _run  # type: ignore[no-untyped-call]
            restored: Tensor = run(self, x)
            return restored
        for layer in self:
            x = layer(x)
        return x


def _run(layers: nn.Sequential, x: Tensor) -> Tensor:
    blocks = sum(isinstance(module, Residual) for module in layers.modules())
    this = _Pass(x.device.type, blocks)
    with saved_tensors_hooks(this.save, this.restore):
        return this.through(layers, x, _Map(_bare(x)))[0]


class _Map:
    """A feature map: stored, or recomputed on first use in the backward pass and freed after the last.

    Args:
        kept: the map; None if it is made.
        make: makes it from the maps of `sources`.
        sources: what it is made from.
    """

    def __init__(self, kept: Tensor | None, make: Callable[..., Tensor] | None = None, *sources: "_Map") -> None:
        self.tensor = kept
        self.make = make
        self.sources = sources
        self.users = 0
        self._served = 0
        for source in sources:
            source.users += 1

    def take(self) -> Tensor:
        tensor = self.tensor
        if self.make is not None:
            if tensor is None:
                tensor = self.make(*(source.take() for source in self.sources))
            self._served = (self._served + 1) % self.users
            self.tensor = tensor if self._served else None
        assert tensor is not None
        return tensor


@dataclass
class _Saved:
    """What autograd holds in place of a tensor that it saves."""

    content: Tensor | _Map


class _Pass:
    """One pass forward, and what its backward asks for."""

    def __init__(self, device: str, blocks: int) -> None:
        self._autocast = device, torch.get_autocast_dtype(device), torch.is_autocast_enabled(device)
        self._kept_blocks = _halfway(blocks)
        self._block = 0
        self._saved: list[_Saved] = []

    def save(self, tensor: Tensor) -> _Saved:
        self._saved.append(_Saved(_bare(tensor)))
        return self._saved[-1]

    def restore(self, saved: _Saved) -> Tensor:
        if isinstance(saved.content, Tensor):
            return saved.content
        with torch.no_grad(), torch.autocast(*self._autocast):
            return saved.content.take()

    def through(self, layer: nn.Module, x: Tensor, source: _Map) -> tuple[Tensor, _Map]:
        """A layer's output as a tensor and as a map, from its input as both."""
        if isinstance(layer, nn.Sequential):
            for part in layer:
                x, source = self.through(part, x, source)
            return x, source
        if isinstance(layer, Residual):
            residual, change = self.through(layer.body, x, source)
            x = layer.add(x, residual)
            self._block += 1
            keep = self._block in self._kept_blocks
            return x, _Map(_bare(x)) if keep else _Map(None, layer.add, source, change)
        if isinstance(layer, AdaDM):
            return self._through_adadm(layer, x, source)
        y = layer(x)
        make = _way_to_make(layer, source, y)
        result = _Map(None, make, source) if make else _Map(_bare(y))
        self._settle((y, result), (x, source))
        return y, result

    def _through_adadm(self, layer: AdaDM, x: Tensor, source: _Map) -> tuple[Tensor, _Map]:
        """In two steps, because the product keeps what batch norm puts out."""
        normalized = nn.BatchNorm2d.forward(layer, x)
        make = _batch_norm_again(layer, normalized)
        between = _Map(None, make, source) if make else _Map(_bare(normalized))
        self._settle((normalized, between), (x, source))
        y = layer.modulate(normalized, x)
        result = _Map(None, layer.modulate, between, source)
        self._settle((y, result), (normalized, between), (x, source))
        return y, result

    def _settle(self, *known: tuple[Tensor, _Map]) -> None:
        """Give up those of the tensors just saved that are maps which can be recomputed."""
        for saved in self._saved:
            assert isinstance(saved.content, Tensor)
            found = next((known_as for tensor, known_as in known if _same(saved.content, tensor)), None)
            if found and found.make:
                saved.content = found
                found.users += 1
        self._saved.clear()


def _way_to_make(layer: nn.Module, source: _Map, output: Tensor) -> Callable[[Tensor], Tensor] | None:
    """How a layer's output is recomputed from its input; None where it is kept."""
    if isinstance(layer, nn.BatchNorm2d):
        return _batch_norm_again(layer, output)
    remade = isinstance(layer, OutputNorm) or (isinstance(layer, nn.ReLU | nn.PReLU) and source.make is not None)
    return layer.forward if remade else None


def _batch_norm_again(layer: nn.BatchNorm2d, output: Tensor) -> Callable[[Tensor], Tensor] | None:
    """How batch norm's output is recomputed from its input, without new statistics."""
    if not layer.training:
        return partial(nn.BatchNorm2d.forward, layer)
    statistics = batch_norm_statistics(output)
    if statistics is None:
        return None
    mean, inverse_deviation = statistics
    return partial(
        F.batch_norm,
        running_mean=mean,
        running_var=torch.ones_like(mean),
        weight=layer.weight.detach() * inverse_deviation,
        bias=layer.bias.detach(),
        eps=1e-30,  # must be positive; the deviation has it already
    )


def _same(a: Tensor, b: Tensor) -> bool:
    return storage_key(a) == storage_key(b) and a.shape == b.shape and a.stride() == b.stride()


def _bare(tensor: Tensor) -> Tensor:
    """The tensor without its history, which holds what is saved."""
    return tensor if tensor.is_leaf else tensor.detach()


def _halfway(blocks: int) -> set[int]:
    """The numbers of the blocks after which sums are kept."""
    kept = set()
    done = 0
    while blocks - done > 2:
        done += max(2, (blocks - done) // 2)
        kept.add(done)
    return kept
