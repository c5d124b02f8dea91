"""Cross-layer equalization (Nagel et al. 2019): the same network with channels of similar range, for int8.

Activations are quantized with one step for all channels, so a few channels of a wide range leave few levels to the
others. What a channel is multiplied by before its ReLU can be divided out of the weights after it (Nagel et al. 2019,
arXiv:1906.04721); how far to go divides the trouble between activations and weights (Xiao et al. 2022,
arXiv:2211.10438).
"""

from collections.abc import Iterable, Iterator
from itertools import pairwise

import torch
from torch import Tensor, nn

from restore.models import RestorationNetwork
from restore.models.norm import ConvNorm

RANGE_SHARE = 0.5  # of the ranges' difference that weights take over


@torch.no_grad()
def equalize(network: RestorationNetwork, images: Iterable[Tensor]) -> None:
    """Rescale the channels between convolutions; the network computes the same as before.

    Args:
        network: folded; its weights are changed.
        images: (N, C, H, W) degraded, that show which range each channel takes.
    """
    pairs = list(_pairs(network))
    largest: dict[nn.Conv2d, Tensor] = {}

    def record(convolution: nn.Module, inputs: tuple[Tensor]) -> None:
        assert isinstance(convolution, nn.Conv2d)
        found = inputs[0].abs().amax((0, 2, 3))
        largest[convolution] = torch.maximum(largest.get(convolution, found), found)

    hooks = [after.register_forward_pre_hook(record) for _, after in pairs]
    for image in images:
        network(image)
    for hook in hooks:
        hook.remove()
    for before, after in pairs:
        if after not in largest:  # in a branch for another scale
            continue
        tiny = 1e-6
        activations = largest[after].clamp(min=tiny)
        weights = after.weight.abs().amax((0, 2, 3)).clamp(min=tiny)
        factor = activations**RANGE_SHARE / weights ** (1 - RANGE_SHARE)
        before.weight /= factor[:, None, None, None]
        if before.bias is not None:
            before.bias /= factor
        after.weight *= factor[:, None, None]


def _pairs(network: nn.Module) -> Iterator[tuple[nn.Conv2d, nn.Conv2d]]:
    """Convolutions with nothing but a ReLU between them, with or without a slope below zero."""
    for sequence in network.modules():
        if not isinstance(sequence, nn.Sequential) or isinstance(sequence, ConvNorm):
            continue
        layers = [part for layer in sequence for part in (layer if isinstance(layer, ConvNorm) else [layer])]
        for (before, activation), (_, after) in pairwise(pairwise(layers)):
            if (
                isinstance(before, nn.Conv2d)
                and isinstance(activation, nn.ReLU | nn.PReLU)
                and isinstance(after, nn.Conv2d)
            ):
                yield before, after
