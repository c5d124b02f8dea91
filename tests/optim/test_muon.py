"""Muon against singular values and a plain reading of its definition."""

import copy

import numpy as np
import pytest
import torch
from torch import Tensor

from restore.models import EDSR, NETWORKS, WDSRB, DnCNN, RestorationNetwork
from restore.optim import Muon, Optimization
from restore.optim.muon import muon_groups, orthogonalize
from restore.profiling import Step, forecast


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 8, 72), (2, 64, 16)])
def test_singular_values_come_to_about_one_and_singular_vectors_stay(shape: tuple[int, ...]) -> None:
    matrices = torch.randn(shape)
    made = orthogonalize(matrices)
    for before, after in zip(matrices, made, strict=True):
        left, values, right = np.linalg.svd(before.double().numpy(), full_matrices=False)
        inner = left.T @ after.double().numpy() @ right.T
        large = values > 0.05 * np.linalg.norm(values)  # smaller ones need more than five steps
        assert np.all((np.diag(inner)[large] > 0.6) & (np.diag(inner)[large] < 1.3))
        np.testing.assert_allclose(inner - np.diag(np.diag(inner)), 0, atol=1e-4)


def plain_muon(weights: list[Tensor], gradients: list[Tensor], rate: float) -> Tensor:
    """The reference's rule for one convolution over several steps, by matrices."""
    weight, average = weights[0].flatten(1).clone(), torch.zeros_like(weights[0].flatten(1))
    for gradient in gradients:
        flat = gradient.flatten(1)
        average = 0.95 * average + 0.05 * flat
        update = 0.05 * flat + 0.95 * average
        x = update / update.norm()
        for _ in range(5):
            a = x @ x.T
            x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
        weight -= rate * max(1, weight.shape[0] / weight.shape[1]) ** 0.5 * x
    return weight.view(weights[0].shape)


def test_hidden_convolutions_follow_muons_rule_and_all_else_adams() -> None:
    network = DnCNN(depth=4, features=6, bias=True)
    start = copy.deepcopy(network)
    twin = copy.deepcopy(network)
    muon = Optimization(optimizer="muon", lr=1e-3, muon_lr=0.02).optimizer_of(network)
    adam = Optimization(lr=1e-3).optimizer_of(twin)
    gradients = [{name: torch.randn_like(p) for name, p in network.named_parameters()} for _ in range(3)]
    for of_step in gradients:
        for optimizer, trained in ((muon, network), (adam, twin)):
            for name, parameter in trained.named_parameters():
                parameter.grad = of_step[name].clone()
            optimizer.step()
    hidden = {"body.2.conv.weight", "body.4.conv.weight"}
    for name, parameter in network.named_parameters():
        expected = twin.get_parameter(name)
        if name in hidden:
            expected = plain_muon([start.get_parameter(name)], [of_step[name] for of_step in gradients], 0.02)
        torch.testing.assert_close(parameter, expected, rtol=1e-4, atol=1e-6)


# Hidden convolutions with as many channels as the image has at the ends.
AMBIGUOUS = [WDSRB(features=16, blocks=2), DnCNN(depth=4, features=64, downscale=8)]


@pytest.mark.parametrize(
    "network", [*(cls(features=8) for cls in NETWORKS.values()), *AMBIGUOUS], ids=lambda it: type(it).__name__
)
def test_every_parameter_is_in_one_group_and_those_that_see_or_make_pixels_are_adams(
    network: RestorationNetwork,
) -> None:
    hidden, ends, others = muon_groups(network)
    members = [id(parameter) for group in (hidden, ends, others) for parameter in group["params"]]
    assert sorted(members) == sorted(map(id, network.parameters()))
    names = {id(parameter): label for label, parameter in network.named_parameters()}
    matrices = [label for label, parameter in network.named_parameters() if parameter[0].numel() > 1]
    outer = [it for it in matrices if it.startswith(("head", "skip", "tail"))] or [matrices[0], matrices[-1]]
    assert [names[id(parameter)] for parameter in ends["params"]] == outer
    assert [names[id(parameter)] for parameter in hidden["params"]] == [it for it in matrices if it not in outer]
    assert all(parameter[0].numel() == 1 for parameter in others["params"])
    assert others["weight_decay"] == 0


def test_a_run_that_is_saved_and_loaded_goes_on_bit_for_bit() -> None:
    network, again = EDSR(features=4, blocks=1, channels=1), EDSR(features=4, blocks=1, channels=1)
    optim = Optimization(optimizer="muon", weight_decay=0.1)
    optimizer, other = optim.optimizer_of(network), optim.optimizer_of(again)

    def step(trained: EDSR, by: torch.optim.Optimizer, number: int) -> None:
        torch.manual_seed(number)
        by.zero_grad()
        trained(torch.rand(2, 1, 8, 8)).square().sum().backward()
        by.step()

    for number in range(2):
        step(network, optimizer, number)
    again.load_state_dict(network.state_dict())
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for number in range(2, 4):
        step(network, optimizer, number)
        step(again, other, number)
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), again.parameters(), strict=True))


def test_its_memory_is_forecast_with_one_tensor_of_state_for_a_hidden_weight_and_two_for_others() -> None:
    network = DnCNN(depth=4, features=6)
    memory = forecast(Step(network.spec, 1, 8, optimizer="muon")).memory
    assert memory is not None
    optimizer = Optimization(optimizer="muon").optimizer_of(network)
    assert isinstance(optimizer, Muon)
    counts = [1 if group["muon"] else 2 for group in optimizer.param_groups]
    expected = [
        count * sum(parameter.nbytes for parameter in group["params"])
        for count, group in zip(counts, optimizer.param_groups, strict=True)
    ]
    assert memory.optimizer == sum(expected)
