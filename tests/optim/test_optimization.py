"""Optimizers and schedules."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from restore.errors import UserError
from restore.models import WDSRB, DnCNN
from restore.optim import Optimization
from restore.optim.optimization import parameter_groups


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


def test_an_optimizer_by_its_path_has_no_weight_decay_of_its_own() -> None:
    for decay in (0.0, 0.3):
        optim = Optimization(optimizer="torch.optim.AdamW", weight_decay=decay)
        groups = optim.optimizer_of(DnCNN(depth=3, features=4)).param_groups
        assert [group["weight_decay"] for group in groups] == [decay, 0.0]


def test_gains_of_weight_norm_have_no_weight_decay() -> None:
    network = WDSRB(features=8, blocks=1, norm="weight")
    gains = {id(value) for name, value in network.named_parameters() if name.endswith("original0")}
    _, others = parameter_groups(network)
    assert gains
    assert gains <= {id(parameter) for parameter in others["params"]}


def test_warm_up_rises_evenly_to_what_the_schedule_says() -> None:
    assert rates(Optimization(lr=1.0, warmup_steps=4), 7) == pytest.approx([0.2, 0.4, 0.6, 0.8, 1, 1, 1])


def test_warm_up_stable_decay_falls_in_the_last_fifth_to_its_final_rate() -> None:
    found = rates(Optimization(lr=1.0, schedule="wsd", warmup_steps=9, final_lr=0.1), 101)
    assert found[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert set(found[9:81]) == {1.0}
    assert found[-1] == pytest.approx(0.1 + 0.9 / 20.2)
    assert [a - b for a, b in pairwise(found[82:])] == pytest.approx([0.9 / 20.2] * 18)


def test_each_group_of_parameters_follows_the_schedule_from_its_own_rate() -> None:
    optim = Optimization(optimizer="muon", lr=1e-3, muon_lr=1e-2, schedule="cosine", final_lr=1e-4)
    optimizer, schedule = optim.build(DnCNN(depth=4, features=4), 10)
    for _ in range(10):
        optimizer.step()
        schedule.step()
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([1e-3, 1e-4, 1e-4])


def test_any_optimizer_of_torch_is_had_by_its_path() -> None:
    optim = Optimization(optimizer="torch.optim.RMSprop", lr=0.5, optimizer_args={"alpha": 0.7}, weight_decay=0.1)
    optimizer = optim.optimizer_of(DnCNN(depth=3, features=4))
    assert isinstance(optimizer, torch.optim.RMSprop)
    assert [(group["lr"], group["alpha"], group["weight_decay"]) for group in optimizer.param_groups] == [
        (0.5, 0.7, 0.1), (0.5, 0.7, 0.0),
    ]  # fmt: skip


@pytest.mark.parametrize(("path", "complaint"), [
    ("rmsprop", "unknown optimizer 'rmsprop'; known: adam, adamw, sgd, muon"),
    ("torch.optim.Nothing", "cannot be imported"),
    ("torch.optim.lr_scheduler.StepLR", "not a subclass of torch.optim.Optimizer"),
    ("os.system", "add os to the environment variable RESTORE_EXTENSIONS"),
])  # fmt: skip
def test_what_is_no_optimizer_is_refused(path: str, complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        Optimization(optimizer=path)


def test_an_optimizer_that_refuses_the_network_or_its_arguments_is_one_line() -> None:
    with pytest.raises(UserError, match=r"optim\.optimizer torch\.optim\.LBFGS: .*per-parameter"):
        Optimization(optimizer="torch.optim.LBFGS").optimizer_of(DnCNN(depth=3, features=4))
    with pytest.raises(UserError, match=r"torch\.optim\.SparseAdam: .* does not support dense gradients"):
        Optimization(optimizer="torch.optim.SparseAdam").optimizer_of(DnCNN(depth=3, features=4))
    with pytest.raises(UserError, match=r"torch\.optim\.NAdam: .*turbo"):
        Optimization(optimizer="torch.optim.NAdam", optimizer_args={"turbo": 1}).optimizer_of(torch.nn.Conv2d(1, 1, 3))


@pytest.mark.parametrize("schedule", ["exponential", "cosine", "wsd", "onecycle"])
def test_a_schedule_that_needs_the_length_of_the_run_says_so(schedule: str) -> None:
    optim = Optimization(schedule=schedule, final_lr=1e-5)
    with pytest.raises(UserError, match=f"optim.schedule {schedule} needs to know how many steps"):
        optim.build(nn.Linear(1, 1), None)


def resume(first: Optimization, steps: int, total: int, then: Optimization, new_total: int) -> list[float]:
    """The rates of a run of `total` steps that stops after some of them and is continued to another total."""
    optimizer, schedule = first.build(DnCNN(depth=3, features=4), total)
    for _ in range(steps):
        optimizer.step()
        schedule.step()
    other, continued = then.build(DnCNN(depth=3, features=4), new_total)
    other.load_state_dict(optimizer.state_dict())
    continued.load_state_dict(schedule.state_dict())
    found = []
    for _ in range(steps, new_total):
        found.append(other.param_groups[0]["lr"])
        other.step()
        continued.step()
    return found


@pytest.mark.parametrize("schedule", ["exponential", "cosine", "wsd", "onecycle"])
def test_a_run_of_another_length_is_not_resumed_by_a_schedule_over_the_whole_run(schedule: str) -> None:
    optim = Optimization(lr=0.1, schedule=schedule, final_lr=1e-4)
    assert resume(optim, 7, 10, optim, 10) == pytest.approx(rates(optim, 10)[7:])
    for steps in (9, 10):
        with pytest.raises(UserError, match=f"first {steps} steps would differ .* trainer.max_steps, or"):
            resume(optim, steps, 10, optim, 20)


@pytest.mark.parametrize("schedule", ["constant", "step", "wsd"])
def test_a_run_can_be_made_longer_if_its_rates_so_far_do_not_depend_on_it(schedule: str) -> None:
    optim = Optimization(lr=0.1, schedule=schedule, step_size=3, warmup_steps=2)
    assert resume(optim, 8, 10, optim, 20) == pytest.approx(rates(optim, 20)[8:])


def test_onecycle_continues_no_other_schedule_and_none_continues_it() -> None:
    optim, onecycle = Optimization(), Optimization(schedule="onecycle")
    for first, then in ((optim, onecycle), (onecycle, optim)):
        with pytest.raises(UserError, match="would differ from those they had"):
            resume(first, 5, 10, then, 10)


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd", "muon"])
def test_weight_decay_shrinks_weights_of_convolutions_but_no_norm_and_no_bias(optimizer: str) -> None:
    network = DnCNN(depth=4, features=4, bias=True)
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
    ({"betas": (1.5, 0.9)}, r"betas must lie in \[0, 1\), not \(1.5, 0.9\)"),
    ({"optimizer": "sgd", "momentum": 1.5}, r"momentum must lie in \[0, 1\), not 1.5"),
    ({"eps": -1.0}, "eps must be at least 0, not -1"),
    ({"weight_decay": -1.0}, "weight_decay must be at least 0"),
    ({"schedule": "cosine", "final_lr": -1.0}, "final_lr must be at least 0"),
    ({"schedule": "step", "gamma": -1.0}, "gamma must be positive"),
    ({"schedule": "exponential"}, "final_lr must be positive"),
    ({"schedule": "linear"}, "schedule must be one of constant, step"),
    ({"schedule": "onecycle", "warmup_steps": 3}, "warmup_steps must be"),
    ({"loss": "l3"}, "unknown loss 'l3'"),
    ({"optimizer": "adamw", "optimizer_args": {"amsgrad": True}}, r"optimizer_args \(amsgrad\) are not used by adamw"),
    ({"optimizer": "muon", "momentum": 0.5}, "momentum is that of sgd and not used by muon"),
    ({"optimizer": "torch.optim.RMSprop", "momentum": 0.5}, "momentum is that of sgd and not used by torch.optim.RMSp"),
])  # fmt: skip
def test_impossible_settings_are_refused(settings: dict, complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        Optimization(**settings)


def test_onecycle_leaves_alone_an_optimizer_without_momentum() -> None:
    optim = Optimization(optimizer="torch.optim.Adagrad", schedule="onecycle", lr=0.1)
    optimizer, _ = optim.build(DnCNN(depth=2, features=2), 10)
    assert optimizer.param_groups[0]["lr"] < 0.1


def test_what_is_set_and_not_used_is_named() -> None:
    assert Optimization().unused == []
    assert Optimization(optimizer="muon", muon_lr=0.05, schedule="wsd", final_lr=1e-5).unused == []
    assert Optimization(optimizer="adam", muon_lr=0.05, schedule="step", final_lr=1e-5).unused == [
        "muon_lr",
        "final_lr",
    ]
    assert Optimization(optimizer="torch.optim.NAdam", betas=(0.5, 0.9)).unused == ["betas"]
    assert Optimization(schedule="cosine", gamma=0.1, step_size=5).unused == ["step_size", "gamma"]
