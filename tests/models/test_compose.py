"""Networks whose linear end is one convolution compute what they computed."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from restore.inference.memory import bytes_per_pixel
from restore.models import EDSR, NETWORKS, RestorationNetwork, build
from restore.models.blocks import Scale, Upsampler
from restore.models.compose import compose
from restore.models.init import initialize


@pytest.mark.parametrize("size", [(1, 1), (2, 5), (3, 2), (9, 7)])
@pytest.mark.parametrize("scale", [2, 3, 4, 8])
def test_edsr_composed_computes_the_same_up_to_the_border(scale: Scale, size: tuple[int, int]) -> None:
    network = NETWORKS["EDSR"](features=4, blocks=1, scale=scale, rgb_range=1.0).double().eval()
    for parameter in network.parameters():
        nn.init.uniform_(parameter, -0.5, 0.5)
    composed = compose(network)
    x = torch.rand(2, 3, *size, dtype=torch.float64)
    torch.testing.assert_close(composed.double()(x), network(x), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_composed_computes_the_same(name: str) -> None:
    network = build(NETWORKS[name](features=8).spec).eval()
    x = torch.rand(1, network.inputs, 8, 8)
    torch.testing.assert_close(compose(network)(x), network(x), rtol=0, atol=1e-5)


class Sharpened(EDSR):
    """The parts of an EDSR in another order."""

    def forward(self, degraded: Tensor) -> Tensor:
        features = self.upsample(self.head(degraded))
        return self.tail(features - features.mean((2, 3), keepdim=True))


class Curved(EDSR):
    """An EDSR whose end is not linear."""

    def __init__(self) -> None:
        super().__init__(features=4, blocks=1)
        self.upsample = Upsampler(2, 4, activation=nn.PReLU)
        initialize(self, "torch")


class Dilated(EDSR):
    """An EDSR whose last convolution reaches further."""

    def __init__(self) -> None:
        super().__init__(features=4, blocks=1)
        self.tail = nn.Conv2d(4, 3, 3, padding=4, dilation=4)


@pytest.mark.parametrize("make", [partial(Sharpened, features=4, blocks=1), Curved, Dilated])
def test_a_network_that_has_other_parts_or_uses_them_otherwise_stays_as_it_is(
    make: Callable[[], RestorationNetwork],
) -> None:
    network = make().eval()
    x = torch.rand(1, 3, 8, 8)
    torch.testing.assert_close(compose(network)(x), network(x))


@pytest.mark.parametrize("name", ["EDSR", "MDSR"])
def test_the_features_are_never_enlarged(name: str) -> None:
    network = NETWORKS[name](scale=4)
    assert bytes_per_pixel(compose(network)) < 0.4 * bytes_per_pixel(network)


def test_the_network_itself_stays_as_it_is() -> None:
    network = NETWORKS["EDSR"](features=8)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    compose(network)
    assert network.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
