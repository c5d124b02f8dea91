"""`recompute: norm` against the same network without it: the same step, in less memory."""

from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode

from restore.models import EDSR, MDSR, NORMS, WDSRA, WDSRB, DnCNN, FDnCNN, FFDNet, Norm, RestorationNetwork, SRResNet

SMALL: dict[type[RestorationNetwork], dict[str, Any]] = {
    DnCNN: {"depth": 6, "features": 4},
    FDnCNN: {"depth": 6, "features": 4},
    FFDNet: {"depth": 6, "features": 4},
    EDSR: {"blocks": 5, "features": 4, "res_scale": 0.1},
    MDSR: {"blocks": 5, "features": 4, "scales": (2,), "scale": 2},
    SRResNet: {"blocks": 5, "features": 4, "scale": 2},
    WDSRA: {"blocks": 5, "features": 4},
    WDSRB: {"blocks": 5, "features": 4},
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
    images = torch.rand(2, network.inputs, 6, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
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
    """Counts the convolutions, and the batch norms by whether they take statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.tally: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: OpOverload, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is torch.ops.aten.convolution.default:
            self.tally["convolution"] += 1
        if func is torch.ops.aten.native_batch_norm.default:
            training = args[5]
            self.tally["norm with statistics" if training else "norm"] += 1
        return func(*args, **(kwargs or {}))


@NETWORKS
def test_norms_are_made_again_without_new_statistics_and_convolutions_run_once(
    network: type[RestorationNetwork],
) -> None:
    def count(network: RestorationNetwork) -> Counter[str]:
        with Operations() as operations:
            step(network)
        return operations.tally

    plain, recomputing = map(count, pair(network, "batch"))
    again = recomputing.pop("norm")
    assert recomputing == plain
    # Nothing needs the norms before sums that are kept (behind blocks 2 and 4 of 5) or at the end of a body.
    not_made = {DnCNN: 0, FDnCNN: 0, FFDNet: 0, EDSR: 2, MDSR: 3, SRResNet: 3, WDSRA: 3, WDSRB: 3}[network]
    assert plain["norm with statistics"] - again == not_made


@NETWORKS
def test_half_precision_changes_nothing(network: type[RestorationNetwork]) -> None:
    plain, recomputing = (each.float() for each in pair(network, "batch"))
    images = torch.rand(2, plain.inputs, 6, 8, generator=torch.Generator().manual_seed(1))
    for each in (plain, recomputing):
        with torch.autocast("cpu", torch.bfloat16):
            restored = each(images)
        restored.float().square().mean().backward()
    for (name, expected), found in zip(plain.named_parameters(), recomputing.parameters(), strict=True):
        torch.testing.assert_close(found.grad, expected.grad, rtol=1e-5, atol=1e-6, msg=name)


@NETWORKS
def test_backward_can_run_twice(network: type[RestorationNetwork]) -> None:
    plain, recomputing = pair(network, "batch")
    images = torch.rand(2, plain.inputs, 6, 8, dtype=torch.float64)
    for each in (plain, recomputing):
        loss = each(images).square().mean()
        loss.backward(retain_graph=True)
        loss.backward()
    for (name, expected), found in zip(plain.named_parameters(), recomputing.parameters(), strict=True):
        torch.testing.assert_close(found.grad, expected.grad, rtol=1e-12, atol=1e-12, msg=name)


@NETWORKS
def test_frozen_norms_are_fine_tuned_alike(network: type[RestorationNetwork]) -> None:
    plain, recomputing = (each.eval() for each in pair(network, "batch"))
    assert torch.equal(step(plain), step(recomputing))
    for (name, expected), found in zip(plain.named_parameters(), recomputing.parameters(), strict=True):
        torch.testing.assert_close(found.grad, expected.grad, rtol=1e-12, atol=1e-12, msg=name)


@NETWORKS
def test_a_recomputing_network_restores_alike_in_eval_mode(network: type[RestorationNetwork]) -> None:
    plain, recomputing = pair(network, "batch")
    images = torch.rand(1, plain.inputs, 10, 8, dtype=torch.float64)
    with torch.inference_mode():
        assert torch.equal(plain.eval()(images), recomputing.eval()(images))
