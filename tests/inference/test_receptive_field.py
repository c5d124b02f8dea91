"""Receptive fields against what becomes of a single pixel."""

import inspect

import pytest
import torch
from torch import Tensor, nn

from restore.inference.receptive_field import receptive_field
from restore.models import EDSR, NETWORKS, WDSRA, WDSRB, DnCNN, FFDNet, RestorationNetwork

SMALL = {"features": 4, "blocks": 2, "depth": 4}


def small(name: str) -> RestorationNetwork:
    network = NETWORKS[name]
    known = inspect.signature(network).parameters
    return network(**{argument: value for argument, value in SMALL.items() if argument in known}).eval()


class Branches(RestorationNetwork):
    """A dilated and a wide branch side by side, then different paths to four times the size."""

    channels = 3
    scale = 4

    def __init__(self) -> None:
        super().__init__()
        self.dilated = nn.Conv2d(3, 4, 3, padding=3, dilation=3)
        self.wide = nn.Conv2d(3, 4, (1, 5), padding=(0, 2))
        self.up = nn.Sequential(nn.Conv2d(8, 32, 3, padding=1), nn.PixelShuffle(2), nn.PReLU())
        self.up_again = nn.Sequential(nn.Conv2d(8, 12, 9, padding=4), nn.PixelShuffle(2), nn.Sigmoid())
        self.skip = nn.Sequential(nn.Conv2d(3, 48, 5, padding=2), nn.PixelShuffle(4))

    def forward(self, degraded: Tensor) -> Tensor:
        both = torch.cat([self.dilated(degraded), self.wide(degraded)], dim=1)
        return self.up_again(self.up(both)) + self.skip(degraded)


NETWORKS_TO_FOLLOW = [*map(small, NETWORKS), Branches().eval()]


@pytest.mark.parametrize("network", NETWORKS_TO_FOLLOW, ids=[type(network).__name__ for network in NETWORKS_TO_FOLLOW])
def test_it_is_what_one_pixel_has_an_effect_on_no_less_and_no_more(network: RestorationNetwork) -> None:
    halo, obstacle = receptive_field(network)
    assert obstacle is None
    step = network.multiple_of  # pixels between which nothing is told apart
    size = 2 * halo + 8 * step
    middle = size // 2 // step * step
    image = torch.rand(1, network.inputs, size, size)
    inside = slice(network.scale * (middle - halo), network.scale * (middle + halo + step))
    with torch.no_grad():
        before = network(image)
        image[..., middle, middle] += 1
        changed = network(image) != before
        image[..., middle, middle] = torch.nan  # spreads to all that is computed from it, even through weights of zero
        touched = network(image)[0].isnan().any(0)
    assert changed[..., inside, inside].any()
    changed[..., inside, inside] = False
    assert not changed.any()
    rows, columns = (touched.any(axis).nonzero().squeeze(1) // network.scale for axis in (1, 0))
    assert max(int(rows[-1] - rows[0]), int(columns[-1] - columns[0])) == 2 * halo + step - 1


@pytest.mark.parametrize(("network", "halo"), [
    (DnCNN(), 17),  # the paper: a field of 35 x 35
    (DnCNN(channels=3, depth=20, norm="weight"), 20),
    (DnCNN(recompute="norm"), 17),
    (FFDNet(), 30),  # 15 convolutions at half the size
    (DnCNN(depth=4, features=8, downscale=3), 12),
    (EDSR(scale=4), 36),
    (EDSR(blocks=32, scale=2), 68),
    (WDSRA(), 34),
    (WDSRB(norm="batch"), 18),
    (WDSRA(blocks=0), 2),  # the skip looks as far as head and tail
])  # fmt: skip
def test_published_networks_reach_as_far_as_their_layers_add_up_to(network: RestorationNetwork, halo: int) -> None:
    assert receptive_field(network.eval()) == (halo, None)


@pytest.mark.parametrize(("norm", "obstacle"), [
    ("group", "group norm"), ("instance", "instance norm"), ("layer", "layer norm"),
    ("adadm", "statistics of each image"), ("iln", "statistics of each image"),
])  # fmt: skip
def test_norms_over_the_whole_image_are_named(norm: str, obstacle: str) -> None:
    assert receptive_field(EDSR(features=4, blocks=1, norm=norm).eval()) == (6, obstacle)


def test_batch_norm_depends_on_the_whole_image_until_training_is_over() -> None:
    network = DnCNN(features=4, depth=3)
    assert receptive_field(network.train()).obstacle == "batch norm in training mode"
    assert receptive_field(network.eval()).obstacle is None


class Pooled(DnCNN):
    """Each pixel relative to the mean of the image."""

    def forward(self, degraded: Tensor) -> Tensor:
        return super().forward(degraded) - degraded.mean((2, 3), keepdim=True)


class Strided(DnCNN):
    """Half the size in between."""

    def forward(self, degraded: Tensor) -> Tensor:
        return torch.nn.functional.interpolate(super().forward(degraded[..., ::2, ::2]), scale_factor=2)


@pytest.mark.parametrize(("network", "obstacle"), [(Pooled, "aten.mean"), (Strided, "aten.slice")])
def test_what_is_not_understood_is_an_obstacle(network: type[DnCNN], obstacle: str) -> None:
    assert receptive_field(network(features=4, depth=3).eval()).obstacle == obstacle
