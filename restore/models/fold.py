"""The network that computes the same in eval mode without its normalization: faster, and what other formats hold."""

import copy
from typing import TypeVar

from torch import nn
from torch.nn.utils import parametrize
from torch.nn.utils.fusion import fuse_conv_bn_eval

from restore.models.network import RestorationNetwork
from restore.models.norm import ConvNorm, OutputNorm
from restore.models.norm import conv as plain_conv

AnyNetwork = TypeVar("AnyNetwork", bound=RestorationNetwork)


def fold(network: AnyNetwork) -> AnyNetwork:
    """A copy of `network` in eval mode, batch norms merged into their convolutions and weight norm multiplied out.

    Where no norm is left the copy is a network of `norm: none`, and its specification says so. Norms that need
    statistics of the image itself (`group`, `instance`, `layer`, `adadm`, `iln`) cannot be merged and stay.
    """
    folded = copy.deepcopy(network).eval()
    for parent in list(folded.modules()):
        match list(parent.children()):
            case [nn.Conv2d() as conv, nn.BatchNorm2d() as norm] if isinstance(parent, ConvNorm):
                if type(norm) is nn.BatchNorm2d:
                    parent.conv = fuse_conv_bn_eval(conv, norm)
                    del parent.norm
        for name, child in parent.named_children():
            if isinstance(child, nn.Conv2d) and parametrize.is_parametrized(child):
                # `remove_parametrizations` would take them from the original too: copies share their class
                plain = plain_conv(child.in_channels, child.out_channels, child.kernel_size[0])
                plain.load_state_dict({"weight": child.weight.detach(), "bias": child.bias}, assign=True)
                setattr(parent, name, plain)
    if not any(isinstance(module, OutputNorm) for module in folded.modules()):
        folded.restate(norm="none")
    return folded
