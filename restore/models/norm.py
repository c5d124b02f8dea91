"""Everything that `norm` means: the layer, and the biases that it makes redundant."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import assert_never

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from restore.choices import NORMS as NORMS
from restore.choices import Norm as Norm
from restore.choices import Recompute as Recompute

LOG_EPS = 1e-6  # added to a standard deviation before its logarithm

ConvNormFactory = Callable[[int, int], nn.Module]


def normalizes_output(norm: Norm) -> bool:
    """Whether `norm` works on the convolution's output, which it then shifts in place of a bias."""
    return norm not in ("none", "weight")


def multiplies_by_deviation(norm: Norm) -> bool:
    """Whether the output of `norm` is in proportion to a standard deviation that is taken of each image."""
    return norm in ("adadm", "iln")


@dataclass(frozen=True)
class Normalization:
    """How a network normalizes its activations; its networks take the fields as arguments of the same names.

    Args:
        norm: one word: `batch`, statistics over (N, H, W) per channel (Ioffe & Szegedy 2015), running statistics in
            eval mode; `none`; `group`, statistics over (C/G, H, W) per image, up to G = 32 groups of at least two
            channels (Wu & He 2018); `instance`, over (H, W) per image and channel, affine (Ulyanov et al. 2016);
            `layer`, over (C, H, W) per image, affine per channel (Ba et al. 2016); `weight`, on the convolution
            instead of on its output (Salimans & Kingma 2016); `adadm`, `batch` times a learned power of each image's
            deviation before it (Liu et al. 2021); `iln`, `layer` times each image's deviation before it (Lee et al.
            2025).
        bn_momentum: weight of the NEW batch in the running statistics (PyTorch's convention).
        bn_eps: added to the variance before the root.
        recompute: `norm` computes norms and activations again in backward instead of keeping them (`recompute.py`);
            nothing to do for `none` and `weight`.

    Raises:
        ValueError: `bn_eps` is not positive, or `bn_momentum` not between 0 and 1.
    """

    norm: Norm
    bn_momentum: float = 0.1
    bn_eps: float = 1e-5
    recompute: Recompute = "none"

    def __post_init__(self) -> None:
        if not self.bn_eps > 0 or not 0 <= self.bn_momentum <= 1:
            raise ValueError(
                f"bn_eps must be positive and bn_momentum in [0, 1], not {self.bn_eps} and {self.bn_momentum}"
            )


def conv(
    in_features: int, out_features: int, kernel: int = 3, *, bias: bool = True, weight_normed: bool = False
) -> nn.Conv2d:
    """A zero-padded, size-preserving convolution whose parameters `initialize` fills.

    Args:
        in_features: channels of the input.
        out_features: channels of the output.
        kernel: height and width.
        bias: add one.
        weight_normed: w = g v/||v|| (Salimans & Kingma 2016), if all of a network's convolutions have that norm.

    Raises:
        ValueError: there are no features.
    """
    if min(in_features, out_features) < 1:
        raise ValueError(f"features must be at least 1, not {min(in_features, out_features)}")
    convolution = _UnsetConv2d(in_features, out_features, kernel, padding=kernel // 2, bias=bias)
    return weight_norm(convolution) if weight_normed else convolution


class _UnsetConv2d(nn.Conv2d):
    """Draws no initial weights, so that the random stream does not depend on which biases exist and networks which
    differ only in `norm` start from identical convolution weights. Until `initialize` fills them they are NaN, which
    training refuses."""

    def reset_parameters(self) -> None:
        for parameter in self.parameters():
            nn.init.constant_(parameter, math.nan)


class AdaDM(nn.BatchNorm2d):
    """Batch norm times exp(w log(sigma) + b), so that what follows knows how much each image deviated before.

    sigma is the standard deviation of an image's features over (C, H, W). The scalars w (`phi_weight`) and b
    (`phi_bias`) are learned, from 1 and 0 (Liu, Tang, Wu 2021). The authors' code has one such factor
    for each residual block; here each norm has its own, so that all networks can have it.
    """

    def __init__(self, features: int, eps: float, momentum: float) -> None:
        super().__init__(features, eps=eps, momentum=momentum)
        self.phi_weight = nn.Parameter(torch.ones(()))
        self.phi_bias = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        return self.modulate(super().forward(x), x)

    def modulate(self, normalized: Tensor, x: Tensor) -> Tensor:
        """`normalized` times the factor that follows from `x`, both (N, C, H, W)."""
        deviation = torch.std(x, dim=(1, 2, 3), correction=0, keepdim=True).to(self.phi_weight.dtype)
        factor = torch.exp(self.phi_weight * torch.log(deviation + LOG_EPS) + self.phi_bias)
        return normalized * factor.to(normalized.dtype)


class ImageRestorationLayerNorm(nn.Module):
    """Layer norm over (C, H, W) of each image, affine per channel, times the image's own standard deviation.

    The deviation that layer norm divides by and the one that multiplies its result cancel, but for the shift:
    weight (x - mean) + bias sigma. So no epsilon is needed, and f(a x) = a f(x) for a > 0.
    The norm is i-LN (Lee et al. 2025, arXiv:2504.06629), whose Transformers put attention or an MLP between the two.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(features))
        self.bias = nn.Parameter(torch.zeros(features))

    def forward(self, x: Tensor) -> Tensor:
        moments = torch.std_mean(x, dim=(1, 2, 3), correction=0, keepdim=True)
        deviation, mean = (moment.to(self.weight.dtype) for moment in moments)
        gain, bias = self.weight.view(1, -1, 1, 1), self.bias.view(1, -1, 1, 1)
        return torch.addcmul((bias * deviation - gain * mean).to(x.dtype), x, gain.to(x.dtype))


# Modules that normalize what they are given, with a gain `weight` and, as a rule, a shift `bias` per channel.
OutputNorm = nn.BatchNorm2d | nn.GroupNorm | nn.InstanceNorm2d | ImageRestorationLayerNorm


class ConvNorm(nn.Sequential):
    """A convolution and the normalization of its output.

    The convolution carries a bias only if the normalization brings no shift of its own, or if `bias` asks for a
    redundant one, as some published files have it.

    Args:
        in_features: channels of the input.
        out_features: channels of the output.
        normalization: which norm, and its settings.
        kernel: height and width of the convolution.
        bias: keep the convolution's bias even if the normalization makes it redundant.
    """

    def __init__(
        self, in_features: int, out_features: int, normalization: Normalization, *, kernel: int = 3, bias: bool = False
    ) -> None:
        super().__init__()
        norm, eps, momentum = normalization.norm, normalization.bn_eps, normalization.bn_momentum
        bias = bias or not normalizes_output(norm)
        self.add_module("conv", conv(in_features, out_features, kernel, bias=bias, weight_normed=norm == "weight"))
        match norm:
            case "batch":
                self.add_module("norm", nn.BatchNorm2d(out_features, eps=eps, momentum=momentum))
            case "none" | "weight":
                pass
            case "group":
                self.add_module("norm", nn.GroupNorm(max(1, math.gcd(64, out_features) // 2), out_features))
            case "instance":
                self.add_module("norm", nn.InstanceNorm2d(out_features, affine=True))
            case "layer":
                self.add_module("norm", nn.GroupNorm(1, out_features))
            case "adadm":
                self.add_module("norm", AdaDM(out_features, eps=eps, momentum=momentum))
            case "iln":
                self.add_module("norm", ImageRestorationLayerNorm(out_features))
            case _:
                assert_never(norm)
