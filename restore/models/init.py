"""Initial weights: the only home of what `init` means.

All convolutions are drawn before any gain of a norm. So networks that differ in `norm` only start, under the same seed,
from the same convolution weights. All biases, and the shifts of norms, start at zero.
"""

import math
from typing import Literal, assert_never

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from restore.models.blocks import Residual
from restore.models.norm import OutputNorm

DnCNNInit = Literal["released", "he", "small_last", "kair"]
ResidualInit = Literal["torch", "zero"]

RELEASED_GAIN_STD = math.sqrt(2 / (9 * 64))
RELEASED_SMALLEST_GAIN = 0.025
RELEASED_RUNNING_VARIANCE = 0.01
SMALL_LAST = 0.1


def initialize(network: nn.Module, init: DnCNNInit | ResidualInit) -> None:
    """Draw the initial weights of a network, in place.

    Args:
        network: built from `conv` and `ConvNorm`.
        init: one word.
            `released`: version 1.1 of the DnCNN authors' training code (`DnCNN_init_model_64_25_Res_Bnorm_Adam.m`).
                Convolutions from N(0, 2/(9 features)), also the first and the last one. Gains of norms from
                N(0, 2/(9 * 64)), those between -0.025 and 0.025 moved to the nearer of these two; running variances
                0.01. The first noise that is predicted is then about half as large as that of sigma 25. The code has
                64 features; for other widths the gains keep that deviation, which sets the size of the prediction.
            `he`: convolutions from He et al. (2015), normal, by fan-in, as the DnCNN paper's text says; gains 1. With
                batch norm the first prediction is then eight times too large for sigma 25.
            `small_last`: `he`, with the last convolution's weights times 0.1.
            `kair`: the KAIR code's: orthogonal matrices times 0.2; gains uniform between 0.1 and 1.
            `torch`: PyTorch's own for a convolution, which EDSR's and WDSR's released code relies on: He's uniform
                distribution with a = sqrt(5); gains 1.
            `zero`: `torch`, with gain 0 of the norm, if any, that ends each residual block, so that each block starts
                as the identity (Goyal et al. 2017, section 5.1).
    """
    if any(parameter.is_meta for parameter in network.parameters()):
        return  # there is nothing to fill, and PyTorch would import its compiler to draw it
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    for convolution in convolutions:
        last = convolution is convolutions[-1]
        weight = _draw(convolution.weight.detach().clone(), init)
        _set_weight(convolution, weight * SMALL_LAST if init == "small_last" and last else weight)
        if convolution.bias is not None:
            nn.init.zeros_(convolution.bias)
    for norm in network.modules():
        if isinstance(norm, OutputNorm):
            _initialize_norm(norm, init)
    if init == "zero":
        for block in network.modules():
            end = getattr(block.body[-1], "norm", None) if isinstance(block, Residual) else None
            if end is not None:
                nn.init.zeros_(end.weight)


def _draw(weight: Tensor, init: DnCNNInit | ResidualInit) -> Tensor:
    """Fill a convolution's weight (out, in, k, k) in place."""
    match init:
        case "released":
            out_features, in_features, height, width = weight.shape
            return nn.init.normal_(weight, std=math.sqrt(2 / (height * width * max(in_features, out_features))))
        case "he" | "small_last":
            return nn.init.kaiming_normal_(weight, nonlinearity="relu")
        case "kair":
            return nn.init.orthogonal_(weight, gain=0.2)
        case "torch" | "zero":
            return nn.init.kaiming_uniform_(weight, a=math.sqrt(5))
        case _:
            assert_never(init)


def _set_weight(convolution: nn.Conv2d, weight: Tensor) -> None:
    if parametrize.is_parametrized(convolution, "weight"):
        convolution.weight = weight  # the parametrization splits it into g and v
    else:
        convolution.weight.data.copy_(weight)


@torch.no_grad()
def _initialize_norm(norm: OutputNorm, init: DnCNNInit | ResidualInit) -> None:
    if init == "released":
        gain = nn.init.normal_(norm.weight, std=RELEASED_GAIN_STD)
        sign = torch.where(gain < 0, -1.0, 1.0)
        gain.copy_(sign * gain.abs().clamp_min(RELEASED_SMALLEST_GAIN))
        if isinstance(norm, nn.BatchNorm2d) and norm.running_var is not None:
            norm.running_var.fill_(RELEASED_RUNNING_VARIANCE)
    elif init == "kair":
        nn.init.uniform_(norm.weight, 0.1, 1.0)
