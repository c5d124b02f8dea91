"""How far a network looks: what a tile needs around it to come out as it does in the whole image.

What is read are the operations of one small forward pass, not the names of modules, so that any network is understood,
with any branches, that is made of size-preserving convolutions, pixel shuffles and what works on each pixel separately.
"""

import math
from fractions import Fraction
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from restore.models import RestorationNetwork
from restore.torch_internals import Operations, tensors

TRIAL_PIXELS = 8  # of the image that is followed, if it need not be a multiple of another; any would do

aten = torch.ops.aten

# Besides what PyTorch itself tags as pointwise.
LOCAL = {
    aten.prelu,
    aten.pixel_shuffle,
    aten.pixel_unshuffle,
    aten.cat,
    aten.to,
    aten._to_copy,
    aten.clone,
    aten.expand,
    aten.detach,
    aten.alias,
}


class ReceptiveField(NamedTuple):
    """What a restored pixel depends on.

    Attributes:
        halo: how many input pixels away from its own on each side, were it not for `obstacle`.
        obstacle: what makes it depend on others as well or on more than can be told, e.g. `group norm`, if anything.
    """

    halo: int
    obstacle: str | None


@torch.inference_mode()
def receptive_field(network: RestorationNetwork) -> ReceptiveField:
    """The receptive field of a network in eval mode, the same in both directions: the larger of the two."""
    size = TRIAL_PIXELS * network.multiple_of
    image = next(network.parameters()).new_zeros(1, network.inputs, size, size)
    following = _Following(image)
    with following:
        restored = network(image)
    return ReceptiveField(math.ceil(following.reach[restored]), following.obstacle)


class _Following(Operations):
    """Notes for each tensor how far its pixels reach into the image, in input pixels beyond the pixel itself.

    The pixels of an enlarged map are fractions of a pixel. One that reaches into another depends on all of it, which is
    why the sum of fractions is rounded up in the end.
    """

    def __init__(self, image: Tensor) -> None:
        super().__init__()
        self.reach = WeakTensorKeyDictionary({image: Fraction(0)})
        self.obstacle: str | None = None
        self._size = image.shape[-1]

    def run(self, operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        result = super().run(operation, args, kwargs)
        inputs = [tensor for tensor in tensors(args) if tensor in self.reach]
        if inputs:
            furthest = max(self.reach[tensor] for tensor in inputs)
            for output in tensors(result):
                self.reach[output] = furthest + self._growth(operation, args, output)
        return result

    def _growth(self, func: Any, args: tuple[Any, ...], output: Tensor) -> Fraction:
        """How much further `output` reaches than what it is made of."""
        match func.overloadpacket:
            case aten.conv2d if output.shape[2:] == args[0].shape[2:]:
                dilation = args[5] if len(args) > 5 else (1, 1)
                spans = [step * (size - 1) for step, size in zip(dilation, args[1].shape[2:], strict=True)]
                return Fraction(max(spans), 2) * Fraction(self._size, output.shape[-1])
            case aten.batch_norm if args[5]:
                obstacle = "batch norm in training mode"
            case aten.batch_norm:
                return Fraction(0)
            case aten.instance_norm:
                obstacle = "instance norm"
            case aten.group_norm:
                obstacle = "layer norm" if args[1] == 1 else "group norm"
            case aten.slice if args[1] == 1:
                return Fraction(0)  # some of the channels
            case aten.std | aten.std_mean:
                obstacle = "statistics of each image"
            case operation:
                if torch.Tag.pointwise in func.tags or operation in LOCAL:
                    return Fraction(0)
                obstacle = str(operation)
        self.obstacle = self.obstacle or obstacle
        return Fraction(0)
