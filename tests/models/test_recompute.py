"""`recompute: norm` against the same network without it: the same step, in less memory."""

from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode

from restore.models import EDSR, NORMS, DnCNN, Norm, RestorationNetwork, SRResNet

SMALL: dict[type[RestorationNetwork], dict[str, int]] = {
    DnCNN: {"depth": 6, "features": 4},
    EDSR: {"blocks": 5, "features": 4},
    SRResNet: {"blocks": 5, "features": 4, "scale": 2},
}
NETWORKS = pytest.mark.parametrize("network", SMALL, ids=lambda network: network.__name__)


def pair(network: type[RestorationNetwork], norm: Norm) -> tuple[RestorationNetwork, RestorationNetwork]:
    """Two networks that differ in `recompute` alone, in float64, each built from the same seed."""
    built = []
    for recompute in ("none", "norm"):
        torch.manual_seed(0)
        built.append(network(norm=norm, recompute=recompute, **SMALL[network]).double())
    return built[0], built[1]


def step(network: RestorationNetwork, seed: int = 1) -> Tensor:
    images = torch.rand(2, network.channels, 6, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    loss = network(images).square().mean()
    loss.backward()
    return loss.detach()


@NETWORKS
@pytest.mark.parametrize("norm", NORMS)
def test_recomputing_changes_neither_loss_nor_gradients(network: type[RestorationNetwork], norm: Norm) -> None:
    plain, recomputing = pair(network, norm)
    assert torch.equal(step(plain), step(recomputing))
    for (name, expected), found in zip(plain.named_parameters(), recomputing.parameters(), strict=True):
        assert expected.grad is not None
        assert found.grad is not None, name
        torch.testing.assert_close(found.grad, expected.grad, rtol=1e-12, atol=1e-12, msg=name)


@NETWORKS
def test_running_statistics_are_updated_once_per_step(network: type[RestorationNetwork]) -> None:
    plain, recomputing = pair(network, "batch")
    for seed in range(2):
        step(plain, seed)
        step(recomputing, seed)
    counts = [value for name, value in recomputing.named_buffers() if name.endswith("num_batches_tracked")]
    assert counts
    assert all(value == 2 for value in counts)
    for expected, found in zip(plain.buffers(), recomputing.buffers(), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=0)


@NETWORKS
def test_weights_fit_with_and_without_recomputing(network: type[RestorationNetwork]) -> None:
    plain, recomputing = pair(network, "batch")
    assert plain.state_dict().keys() == recomputing.state_dict().keys()
    for expected, found in zip(plain.parameters(), recomputing.parameters(), strict=True):
        assert torch.equal(expected, found)


class Operations(TorchDispatchMode):
    """Counts the operations that are carried out."""

    def __init__(self) -> None:
        super().__init__()
        self.tally: Counter[OpOverload] = Counter()

    def __torch_dispatch__(
        self, func: OpOverload, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.tally[func] += 1
        return func(*args, **(kwargs or {}))


@NETWORKS
def test_norms_run_twice_and_convolutions_once(network: type[RestorationNetwork]) -> None:
    def count(network: RestorationNetwork) -> Counter[OpOverload]:
        with Operations() as operations:
            step(network)
        return operations.tally

    plain, recomputing = map(count, pair(network, "batch"))
    norm, convolution = torch.ops.aten.native_batch_norm.default, torch.ops.aten.convolution.default
    assert recomputing[norm] == 2 * plain[norm] > 0
    assert recomputing[convolution] == plain[convolution]


@NETWORKS
def test_a_recomputing_network_restores_alike_in_eval_mode(network: type[RestorationNetwork]) -> None:
    plain, recomputing = pair(network, "batch")
    images = torch.rand(1, plain.channels, 9, 9, dtype=torch.float64)
    with torch.inference_mode():
        assert torch.equal(plain.eval()(images), recomputing.eval()(images))
