"""Optimisers and schedules."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from restore.data.pairs import Pair
from restore.errors import UserError
from restore.metrics import PROTOCOLS
from restore.models import MDSR, DnCNN
from restore.training import Optimization
from restore.training.module import RestorationModule


def rates(optim: Optimization, steps: int) -> list[float]:
    """The learning rate of each of `steps` steps."""
    optimizer, schedule = optim.build(nn.Linear(1, 1), steps)
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


def test_edsr_halves_its_rate_at_every_interval() -> None:
    optim = Optimization(lr=1e-4, schedule="step", step_size=3, gamma=0.5)
    assert rates(optim, 8) == pytest.approx([1e-4] * 3 + [5e-5] * 3 + [2.5e-5] * 2)


def test_dncnn_with_sgd_decays_exponentially_to_its_final_rate() -> None:
    optim = Optimization(optimizer="sgd", lr=1e-1, schedule="exponential", final_lr=1e-4)
    found = rates(optim, 50)
    assert found[0] == 1e-1
    assert [b / a for a, b in pairwise(found)] == pytest.approx([1e-3 ** (1 / 50)] * 49)


@pytest.mark.parametrize(("schedule", "first", "last"), [("constant", 1, 1), ("cosine", 1, 0), ("onecycle", 0.04, 0)])
def test_other_schedules_start_and_end_where_they_say(schedule: str, first: float, last: float) -> None:
    found = rates(Optimization(lr=1.0, schedule=schedule), 200)
    assert found[0] == pytest.approx(first)
    assert found[-1] == pytest.approx(last, abs=1e-3)
    assert max(found) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(
    ("optimizer", "norm"), [("adam", "batch"), ("sgd", "batch"), ("adam", "adadm"), ("sgd", "iln")]
)
def test_weight_decay_shrinks_weights_of_convolutions_but_no_norm_and_no_bias(optimizer: str, norm: str) -> None:
    network = DnCNN(depth=4, features=4, norm=norm, bias=True)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(1.0)
    made, _ = Optimization(optimizer=optimizer, lr=0.1, weight_decay=0.5).build(network, 1)
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    made.step()
    for name, parameter in network.named_parameters():
        decays = parameter.dim() == 4
        assert bool((parameter < 1).all()) == decays, name
        assert bool((parameter == 1).all()) == (not decays), name


@pytest.mark.parametrize(("settings", "complaint"), [
    ({"lr": 0.0}, "lr must be positive"),
    ({"ema_decay": 1.0}, r"ema_decay must lie in \[0, 1\)"),
    ({"schedule": "exponential"}, "final_lr must be positive"),
])  # fmt: skip
def test_impossible_settings_are_refused(settings: dict, complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        Optimization(**settings)


def test_an_mdsr_is_trained_at_the_scale_of_each_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    network = MDSR(features=4, blocks=1, scale=4)
    module = RestorationModule(network, Optimization(loss="l1"), PROTOCOLS["sr-y"])
    monkeypatch.setattr(module, "log", lambda *_, **__: None)
    for scale in (2, 3, 4):
        pair = Pair(torch.rand(2, 3, 6, 6), torch.rand(2, 3, 6 * scale, 6 * scale))
        expected = (network.at(scale)(pair.degraded) - pair.clean).abs().mean()
        torch.testing.assert_close(module.training_step(pair, 0), expected)
