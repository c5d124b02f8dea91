"""The network that computes the same in eval mode without its normalisation: faster, and what other formats hold."""

import copy
from typing import TypeVar

from torch import nn
from torch.nn.utils import parametrize
from torch.nn.utils.fusion import fuse_conv_bn_eval

from restore.models.network import RestorationNetwork
from restore.models.norm import ConvNorm
from restore.models.norm import conv as plain_conv

AnyNetwork = TypeVar("AnyNetwork", bound=RestorationNetwork)


def fold(network: AnyNetwork) -> AnyNetwork:
    """A copy of `network` in eval mode, batch norms merged into their convolutions and weight norm multiplied out.

    Where no norm is left the copy is a network of `norm: none`, and its specification says so. Norms whose statistics
    are the image's own (`group`, `instance`, `layer`) cannot be merged and stay.
    """
    folded = copy.deepcopy(network).eval()
    for layer in [module for module in folded.modules() if isinstance(module, ConvNorm)]:
        match list(layer):
            case [nn.Conv2d() as conv, nn.BatchNorm2d() as norm]:
                layer.conv = fuse_conv_bn_eval(conv, norm)
                del layer.norm
            case [nn.Conv2d() as conv] if parametrize.is_parametrized(conv):
                # `remove_parametrizations` would take them from the original too: copies share their class
                layer.conv = plain_conv(conv.in_channels, conv.out_channels, conv.kernel_size[0])
                layer.conv.load_state_dict({"weight": conv.weight.detach(), "bias": conv.bias}, assign=True)
    if network.norm in ("batch", "weight"):
        folded.norm = "none"
    return folded
