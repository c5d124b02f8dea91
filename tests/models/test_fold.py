"""Networks without their norms compute what they computed with them."""

import pytest
import torch
from torch import nn

from restore.models import NETWORKS, NORMS, build
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


@pytest.mark.parametrize(("norm", "left"), [
    ("batch", "none"), ("weight", "none"), ("none", "none"), ("group", "group"),
    ("adadm", "adadm"), ("iln", "iln"),
])  # fmt: skip
@pytest.mark.parametrize("name", NETWORKS)
def test_a_folded_network_is_described_by_its_specification(name: str, norm: Norm, left: Norm) -> None:
    folded = fold(NETWORKS[name](features=8, norm=norm))
    assert folded.spec.arguments["norm"] == left
    build(folded.spec).load_state_dict(folded.state_dict())
