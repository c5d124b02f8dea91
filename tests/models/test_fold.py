"""Networks without their norms compute what they computed with them."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import weight_norm

from restore.models import NETWORKS, NORMS, RestorationNetwork, build
from restore.models.fold import fold
from restore.models.norm import Norm


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", NETWORKS)
def test_a_folded_network_computes_the_same(name: str, norm: Norm) -> None:
    network = NETWORKS[name](features=8, norm=norm).double()
    for parameter in network.parameters():
        nn.init.uniform_(parameter, -0.5, 0.5)
    network(torch.rand(4, network.inputs, 12, 12, dtype=torch.float64))  # moves the running statistics
    before = {key: value.clone() for key, value in network.state_dict().items()}
    folded = fold(network)
    x = torch.rand(1, network.inputs, 10, 8, dtype=torch.float64)
    torch.testing.assert_close(folded(x), network.eval()(x))
    assert not any(type(module) is nn.BatchNorm2d for module in folded.modules())
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


class Layer(RestorationNetwork):
    """A network of one layer, as a package of the user's may have it."""

    channels = 1

    def __init__(self) -> None:
        super().__init__()
        self.layer: nn.Module = nn.Identity()

    def forward(self, degraded: Tensor) -> Tensor:
        return self.layer(degraded)


class Doubled(nn.Conv2d):
    """A convolution that computes something else."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


@pytest.mark.parametrize(("kind", "geometry"), [
    (nn.Conv2d, {"padding": 2, "dilation": 2}),
    (nn.Conv2d, {"padding": 1, "groups": 2}),
    (nn.Conv2d, {"padding": "same", "padding_mode": "reflect"}),
    (nn.Conv2d, {"padding": 1, "bias": False}),
    (nn.Conv2d, {"stride": 2}),
    (Doubled, {"padding": 1}),
])  # fmt: skip
def test_weight_norm_is_multiplied_out_of_every_convolution(kind: type[nn.Conv2d], geometry: dict[str, Any]) -> None:
    network = Layer().eval()
    network.layer = weight_norm(kind(4, 4, 3, **geometry))
    state = torch.get_rng_state()
    folded = fold(network)
    assert torch.equal(torch.get_rng_state(), state)
    x = torch.rand(1, 4, 9, 8)
    torch.testing.assert_close(folded(x), network(x))
    assert parametrize.is_parametrized(folded.layer) == (kind is Doubled)


@pytest.mark.parametrize(("norm", "left"), [
    ("batch", "none"), ("weight", "none"), ("none", "none"), ("group", "group"),
    ("adadm", "adadm"), ("iln", "iln"),
])  # fmt: skip
@pytest.mark.parametrize("name", NETWORKS)
def test_a_folded_network_is_described_by_its_specification(name: str, norm: Norm, left: Norm) -> None:
    folded = fold(NETWORKS[name](features=8, norm=norm))
    assert folded.spec.arguments["norm"] == left
    build(folded.spec).load_state_dict(folded.state_dict())
