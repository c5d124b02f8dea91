"""Steps that would spoil the weights: named, stopped at, skipped or rolled back, always in the same way."""

import json
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from safetensors.torch import load_file
from torch import Tensor

from restore.errors import UserError
from restore.models import DnCNN
from restore.training import Faults, Optimization, PatchData, fit
from restore.training.bad_steps import BadSteps

QUIET = {"accelerator": "cpu", "enable_progress_bar": False, "precision": "32-true"}
TINY = partial(DnCNN, depth=3, features=4)


class Poison(Callback):
    """Multiplies the input of some steps by a factor, gradients of others; ends the run before a step."""

    def __init__(self, factors: dict[int, float], gradients: tuple[int, ...] = (), end: int = -1) -> None:
        self._factors, self._gradients, self._end = factors, gradients, end

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == self._end:
            raise RuntimeError("the end")
        batch.degraded.mul_(self._factors.get(trainer.global_step, 1.0))

    def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.global_step in self._gradients:
            gradient = next(pl_module.parameters()).grad
            assert gradient is not None
            gradient[0, 0, 0, 0] = torch.inf


class Keep(Callback):
    """Remembers weights and statistics before each step."""

    def __init__(self) -> None:
        self.states: dict[int, list[Tensor]] = {}

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        self.states[trainer.global_step] = [value.clone() for value in pl_module.state_dict().values()]


def same(first: list[Tensor], second: list[Tensor]) -> bool:
    return all(torch.equal(*pair) for pair in zip(first, second, strict=True))


def run(
    folder: Path, name: str, faults: Faults, callbacks: list[Callback], steps: int = 9, epoch: int = 4, **settings: Any
) -> dict[str, Any]:
    torch.manual_seed(0)
    data = PatchData(
        str(folder / "train"), str(folder / "val"), patch_size=12, batch_size=2, steps_per_epoch=epoch, seed=7
    )
    optim = Optimization(lr=0.01, schedule="onecycle", ema_decay=0.5)
    trainer = {**QUIET, "max_steps": steps, "callbacks": callbacks}
    return fit(
        TINY(), data, optim, folder / name, trainer=trainer, faults=faults, **{"checkpoint_every": 2, **settings}
    )


def test_a_gradient_that_is_not_finite_stops_the_run_and_names_its_batch(photographs: Path) -> None:
    with pytest.raises(
        UserError, match=r"the gradient is not finite at step 3 \(learning rate .*; seed 7, images "
    ) as end:
        run(photographs, "run", Faults(), [Poison({}, gradients=(3,))])
    assert f"the last good checkpoint is {photographs}/run/checkpoints/last.ckpt" in str(end.value)
    state = torch.load(photographs / "run/checkpoints/last.ckpt", weights_only=True)
    assert state["global_step"] == 2


def test_a_skipped_batch_leaves_weights_and_running_statistics_as_they_were(photographs: Path) -> None:
    keep = Keep()
    summary = run(photographs, "run", Faults("skip"), [Poison({3: torch.nan, 5: torch.inf}, gradients=(6,)), keep])
    assert summary["bad_steps"] == {"spikes": 0, "skipped": 3, "rolled_back": 0}
    assert summary["steps"] == 9
    assert all(same(keep.states[step], keep.states[step + 1]) for step in (3, 5, 6))
    assert not same(keep.states[4], keep.states[5])
    assert all(value.isfinite().all() for value in load_file(photographs / "run/weights.safetensors").values())


def test_rolling_back_returns_to_the_last_checkpoint_and_goes_on(photographs: Path) -> None:
    keep = Keep()
    summary = run(photographs, "run", Faults("rollback"), [Poison({3: torch.nan}), keep])
    assert summary["bad_steps"] == {"spikes": 0, "skipped": 0, "rolled_back": 1}
    assert same(keep.states[4], keep.states[2])
    assert not same(keep.states[4], keep.states[3])


@pytest.mark.parametrize("how", ["skip", "rollback"])
def test_a_resumed_run_skips_and_rolls_back_as_an_undisturbed_one(photographs: Path, how: Any) -> None:
    poison = {2: torch.nan, 5: torch.nan}
    go = partial(run, photographs, faults=Faults(how), checkpoint_every=3)  # saves at 3, at the epoch's end, 4, ...
    undisturbed = go("undisturbed", callbacks=[Poison(poison)])
    with pytest.raises(RuntimeError, match="the end"):
        go("resumed", callbacks=[Poison(poison, end=5)])
    resumed = go("resumed", callbacks=[Poison(poison)], resume="auto")
    assert resumed["bad_steps"] == undisturbed["bad_steps"]
    weights = [load_file(photographs / name / "weights.safetensors") for name in ("undisturbed", "resumed")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_the_number_of_bad_steps_is_bounded(photographs: Path) -> None:
    with pytest.raises(UserError, match=r"at step 6 .*, giving up after 2 bad steps \(faults.max_bad_steps\)"):
        run(photographs, "run", Faults("skip", max_bad_steps=2), [Poison(dict.fromkeys((1, 4, 6), torch.nan))])


def test_loss_spikes_are_counted_and_named_or_skipped(photographs: Path, caplog: pytest.LogCaptureFixture) -> None:
    poison = partial(Poison, {110: 50.0})
    reported = run(photographs, "reported", Faults(), [poison()], steps=113, epoch=113, checkpoint_every=500)
    assert reported["bad_steps"] == {"spikes": 1, "skipped": 0, "rolled_back": 0}
    assert "the loss is more than 10 times its mean at step 110 (learning rate" in caplog.text
    assert "seed 7, images a.png" in caplog.text
    skipped = run(photographs, "skipped", Faults("skip"), [poison()], steps=113, epoch=113, checkpoint_every=500)
    assert skipped["bad_steps"] == {"spikes": 1, "skipped": 1, "rolled_back": 0}
    summary = json.loads((photographs / "skipped/summary.json").read_text())
    assert summary["bad_steps"] == skipped["bad_steps"]
    ignored = run(photographs, "ignored", Faults(spike=0), [poison()], steps=113, epoch=113, checkpoint_every=500)
    assert ignored["bad_steps"]["spikes"] == 0


def test_on_a_device_that_is_not_waited_for_the_first_bad_step_is_named_afterwards(tmp_path: Path) -> None:
    def trainer(step: int) -> Any:
        loop = SimpleNamespace(epoch_loop=SimpleNamespace(total_batch_idx=step))
        optimizer = SimpleNamespace(param_groups=[{"lr": 0.1}])
        return SimpleNamespace(
            fit_loop=loop, optimizers=[optimizer], world_size=1, precision_plugin=None, is_global_zero=True
        )

    network = torch.nn.Linear(1, 1)
    module: Any = network
    bad_steps = BadSteps(Faults(), tmp_path / "last.ckpt", 2, lambda step: f"batch of {step}")
    bad_steps.on_train_start(trainer(0), module)
    for step, (loss, gradient) in enumerate([(1.0, 1.0), (1.0, torch.inf), (torch.nan, 1.0), (torch.nan, torch.nan)]):
        bad_steps.on_before_backward(trainer(step), module, torch.tensor(loss))
        network.weight.grad = torch.tensor([[gradient]])
        bad_steps.on_before_optimizer_step(trainer(step), module, torch.optim.SGD(network.parameters()))
    with pytest.raises(UserError, match=r"the gradient is not finite at step 1 \(learning rate 0.1; batch of 1\)"):
        bad_steps.on_validation_start(trainer(4), module)
    bad_steps.on_validation_start(trainer(4), module)  # it was said once


def test_a_checkpoint_holds_the_losses_that_were_not_looked_at_before(
    photographs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BadSteps, "on_train_batch_end", Callback.on_train_batch_end)  # as on a GPU between logged steps
    run(photographs, "run", Faults(), [], steps=9, epoch=9, checkpoint_every=5)
    state = torch.load(photographs / "run/checkpoints/previous.ckpt", weights_only=True)
    assert (state["global_step"], state["callbacks"]["BadSteps"]["state"]["seen"]) == (5, 5)


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(UserError, match=r"faults\.max_bad_steps must be at least 0, not -1"):
        Faults(max_bad_steps=-1)
    with pytest.raises(UserError, match=r"faults\.spike must be above 1, or 0 for none, not 0\.5"):
        Faults(spike=0.5)
