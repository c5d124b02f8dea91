"""The network that computes the same in eval mode without its normalization: faster, and what other formats hold."""

import copy
from typing import TypeVar

import torch
from torch import nn
from torch.nn.utils import parametrize
from torch.nn.utils.fusion import fuse_conv_bn_eval

from restore.models.network import RestorationNetwork
from restore.models.norm import ConvNorm, OutputNorm

AnyNetwork = TypeVar("AnyNetwork", bound=RestorationNetwork)

GEOMETRY = (
    "in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups", "padding_mode",
)  # fmt: skip


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
            if isinstance(child, nn.Conv2d) and _is_parametrized(child):
                setattr(parent, name, _plain(child))
    if not any(isinstance(module, OutputNorm) for module in folded.modules()):
        folded.restate(norm="none")
    return folded


def _is_parametrized(convolution: nn.Conv2d) -> bool:
    """Whether a convolution is PyTorch's own but for what its weights are computed from."""
    return parametrize.is_parametrized(convolution) and type(convolution).forward is nn.Conv2d.forward


def _plain(convolution: nn.Conv2d) -> nn.Conv2d:
    """The convolution without its parametrizations, weights multiplied out.

    `remove_parametrizations` would take them from the original too: copies share their class.
    """
    settings = {name: getattr(convolution, name) for name in GEOMETRY}
    with torch.device("meta"):  # where no initial weights are drawn
        plain = nn.Conv2d(**settings, bias=convolution.bias is not None)
    plain.load_state_dict({name: getattr(convolution, name).detach() for name in plain.state_dict()}, assign=True)
    return plain
