"""Pieces that several networks share: the residual block and the sub-pixel upsampler."""

from collections.abc import Callable
from typing import Literal

from torch import Tensor, nn

from restore.models.norm import ConvNormFactory, conv

Scale = Literal[2, 3, 4, 8]


class Residual(nn.Module):
    """x + res_scale * body(x).

    Args:
        body: keeps size and channels.
        res_scale: factor on the residual; 0.1 keeps wide networks stable (Lim et al. 2017, section 3.3).
    """

    def __init__(self, body: nn.Sequential, res_scale: float = 1.0) -> None:
        super().__init__()
        self.body = body
        self.res_scale = res_scale

    def forward(self, x: Tensor) -> Tensor:
        return self.add(x, self.body(x))

    def add(self, x: Tensor, residual: Tensor) -> Tensor:
        """The block's sum."""
        if self.res_scale != 1:
            residual = residual * self.res_scale
        return x + residual


class ResidualBlock(Residual):
    """x + res_scale * (conv-norm-activation-conv-norm)(x), the block of SRResNet and, without norm, EDSR.

    Args:
        features: channels of input and output.
        conv_norm: builds a convolution with its normalization from (in, out) channels.
        activation: builds the activation.
        res_scale: factor on the residual.
    """

    def __init__(
        self,
        features: int,
        conv_norm: ConvNormFactory,
        activation: Callable[[], nn.Module],
        res_scale: float = 1.0,
    ) -> None:
        body = nn.Sequential(conv_norm(features, features), activation(), conv_norm(features, features))
        super().__init__(body, res_scale)


def repeated(blocks: int, block: Callable[[], nn.Module]) -> list[nn.Module]:
    """The residual blocks of a network.

    Args:
        blocks: how many; a network of none has its other layers only.
        block: builds one.

    Raises:
        ValueError: `blocks` is negative.
    """
    if blocks < 0:
        raise ValueError(f"blocks must be at least 0, not {blocks}")
    return [block() for _ in range(blocks)]


class Upsampler(nn.Sequential):
    """Sub-pixel upsampling (Shi et al. 2016): x2 steps for 2, 4 and 8, one x3 step for 3.

    (N, features, H, W) -> (N, features, scale*H, scale*W).

    Args:
        scale: 2, 3, 4 or 8.
        features: channels of input and output.
        activation: builds the activation after each step, if any.
    """

    def __init__(self, scale: Scale, features: int, activation: Callable[[], nn.Module] | None = None) -> None:
        if scale not in (2, 3, 4, 8):
            raise ValueError(f"scale must be 2, 3, 4 or 8, not {scale}")
        steps = [3] if scale == 3 else [2] * (scale.bit_length() - 1)
        layers: list[nn.Module] = []
        for step in steps:
            layers += [conv(features, step * step * features), nn.PixelShuffle(step)]
            if activation is not None:
                layers.append(activation())
        super().__init__(*layers)
