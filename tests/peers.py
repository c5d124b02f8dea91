"""Other projects' networks as their checkpoints lay them out: a second implementation, module by module."""

import torch
from torch import Tensor, nn

MEAN = torch.tensor([0.4488, 0.4371, 0.4040]).view(1, 3, 1, 1)


class OfficialBlock(nn.Module):
    def __init__(self, features: int, kernel: int, res_scale: float) -> None:
        super().__init__()
        first, second = (nn.Conv2d(features, features, kernel, padding=kernel // 2) for _ in range(2))
        self.body = nn.Sequential(first, nn.ReLU(), second)
        self.res_scale = res_scale

    def forward(self, x: Tensor) -> Tensor:
        return x + self.res_scale * self.body(x)


def shift(sign: int, peak: float) -> nn.Conv2d:
    layer = nn.Conv2d(3, 3, 1)
    layer.weight = nn.Parameter(torch.eye(3).view(3, 3, 1, 1))
    layer.bias = nn.Parameter(sign * peak * MEAN.flatten())
    return layer


def upsampler(features: int, scale: int) -> nn.Sequential:
    steps = {2: [2], 3: [3], 4: [2, 2], 8: [2, 2, 2]}[scale]
    layers = [(nn.Conv2d(features, step**2 * features, 3, padding=1), nn.PixelShuffle(step)) for step in steps]
    return nn.Sequential(*(layer for pair in layers for layer in pair))


class OfficialEDSR(nn.Module):
    """0 to `peak` in and out."""

    def __init__(self, features: int, blocks: int, scale: int, res_scale: float, peak: float = 255.0) -> None:
        super().__init__()
        self.sub_mean, self.add_mean = shift(-1, peak), shift(1, peak)
        self.head = nn.Sequential(nn.Conv2d(3, features, 3, padding=1))
        body = [OfficialBlock(features, 3, res_scale) for _ in range(blocks)]
        self.body = nn.Sequential(*body, nn.Conv2d(features, features, 3, padding=1))
        self.tail = nn.Sequential(upsampler(features, scale), nn.Conv2d(features, 3, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.head(self.sub_mean(x))
        return self.add_mean(self.tail(x + self.body(x)))


class OfficialMDSR(nn.Module):
    """0 to 255 in and out."""

    def __init__(self, features: int, blocks: int, scales: tuple[int, ...]) -> None:
        super().__init__()
        self.sub_mean, self.add_mean = shift(-1, 255), shift(1, 255)
        self.head = nn.Sequential(nn.Conv2d(3, features, 3, padding=1))
        self.pre_process = nn.ModuleList(
            nn.Sequential(*(OfficialBlock(features, 5, 1) for _ in range(2))) for _ in scales
        )
        body = [OfficialBlock(features, 3, 1) for _ in range(blocks)]
        self.body = nn.Sequential(*body, nn.Conv2d(features, features, 3, padding=1))
        self.upsample = nn.ModuleList(upsampler(features, scale) for scale in scales)
        self.tail = nn.Sequential(nn.Conv2d(features, 3, 3, padding=1))
        self.scale_idx = 0

    def forward(self, x: Tensor) -> Tensor:
        x = self.pre_process[self.scale_idx](self.head(self.sub_mean(x)))
        return self.add_mean(self.tail(self.upsample[self.scale_idx](x + self.body(x))))


class BasicBlock(nn.Module):
    def __init__(self, features: int, res_scale: float) -> None:
        super().__init__()
        self.conv1, self.conv2 = (nn.Conv2d(features, features, 3, padding=1) for _ in range(2))
        self.res_scale = res_scale

    def forward(self, x: Tensor) -> Tensor:
        return x + self.res_scale * self.conv2(self.conv1(x).relu())


class Packed(nn.Module):
    """mmagic's pixel shuffle, convolution included."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.upsample_conv = nn.Conv2d(features, 4 * features, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.pixel_shuffle(self.upsample_conv(x), 2)


class BasicEDSR(nn.Module):
    """BasicSR's, or with `packed` mmagic's: 0 to 1 in and out, times `peak` inside."""

    def __init__(
        self, features: int, blocks: int, scale: int, res_scale: float, peak: float = 255.0, packed: bool = False
    ) -> None:
        super().__init__()
        self.peak = peak
        self.conv_first = nn.Conv2d(3, features, 3, padding=1)
        self.body = nn.Sequential(*(BasicBlock(features, res_scale) for _ in range(blocks)))
        self.conv_after_body = nn.Conv2d(features, features, 3, padding=1)
        steps = scale.bit_length() - 1
        self.upsample = (
            nn.Sequential(*(Packed(features) for _ in range(steps))) if packed else upsampler(features, scale)
        )
        self.conv_last = nn.Conv2d(features, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_first((x - MEAN) * self.peak)
        return self.conv_last(self.upsample(x + self.conv_after_body(self.body(x)))) / self.peak + MEAN


def numbered_dncnn(channels: int, features: int, depth: int, biases: str, eps: float) -> nn.Sequential:
    """Predicts the noise; batch norm between. `biases` of the convolutions: all, first, none."""
    layers: list[nn.Module] = [nn.Conv2d(channels, features, 3, padding=1, bias=biases != "none"), nn.ReLU()]
    for _ in range(depth - 2):
        layers.append(nn.Conv2d(features, features, 3, padding=1, bias=biases == "all"))
        layers += [nn.BatchNorm2d(features, eps=eps), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(features, channels, 3, padding=1, bias=biases == "all"))
