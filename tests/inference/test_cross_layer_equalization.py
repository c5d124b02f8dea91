"""Equalizing channels changes what is easy to quantize, not what is computed."""

import pytest
import torch

from restore.inference.cross_layer_equalization import equalize
from restore.models import EDSR, MDSR, WDSRA, DnCNN, RestorationNetwork, SRResNet
from restore.models.fold import fold

NETWORKS = {
    "DnCNN": lambda: DnCNN(depth=5, features=8, norm="none"),
    "DnCNN, folded": lambda: fold(DnCNN(depth=5, features=8)),
    "EDSR": lambda: EDSR(features=8, blocks=2),
    "SRResNet": lambda: SRResNet(features=8, blocks=2, norm="none"),
    "MDSR, of which only one branch runs": lambda: MDSR(features=8, blocks=2, scales=(2, 3), scale=3),
    "WDSR-A, folded": lambda: fold(WDSRA(features=4, blocks=2, expansion=2)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_network_computes_the_same_with_channels_of_like_range(name: str) -> None:
    network = NETWORKS[name]().double().eval()
    inner = network.body[2] if isinstance(network, DnCNN) else network.body[0].body[0]
    inner = getattr(inner, "conv", inner)
    with torch.no_grad():
        inner.weight *= torch.logspace(-2, 2, 8, dtype=torch.float64)[:, None, None, None]
    degraded = torch.rand(1, network.channels, 12, 9, dtype=torch.float64)
    expected, before = network(degraded), spread(network, inner, degraded)
    equalize(network, [degraded])
    torch.testing.assert_close(network(degraded), expected, rtol=1e-9, atol=1e-9)
    assert spread(network, inner, degraded) < 2 * before**0.5  # half of the difference, on a logarithmic scale


def spread(network: RestorationNetwork, convolution: torch.nn.Module, degraded: torch.Tensor) -> float:
    """How many times as large the largest channel is, behind the ReLU, as the smallest that is not dead."""
    outputs = []
    hook = convolution.register_forward_hook(lambda _, __, output: outputs.append(output.relu().amax((0, 2, 3))))
    with torch.no_grad():
        network(degraded)
    hook.remove()
    alive = outputs[0][outputs[0] > 0]
    return float(alive.max() / alive.min())
