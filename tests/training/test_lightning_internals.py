"""What is expected of those parts of Lightning that it does not promise."""

import warnings
from typing import Any

import pytest
import torch
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.callbacks import EMAWeightAveraging
from torch import Tensor, nn
from torch.utils.data import DataLoader

from restore.training.lightning_internals import (
    STEP_HOOKS,
    EpochProgressBar,
    NoProfiler,
    QuickModule,
    average_model,
    batch_number,
    is_last_batch,
    known_warnings,
    logs_this_step,
    without_idle_hooks,
)

BATCHES, EPOCHS = 3, 2


class Module(QuickModule):
    """One number, which is learned."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)
        self.hooks: set[str] = set()

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        assert self._current_fx_name is not None
        self.hooks.add(self._current_fx_name)
        loss: Tensor = self.layer(batch).square().mean()
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def train_dataloader(self) -> DataLoader[Tensor]:
        return DataLoader([torch.ones(2, 1)] * BATCHES, batch_size=None)


class Watch(Callback):
    """What the functions say during a run."""

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self.logs: list[bool] = []
        self.last: list[bool] = []
        self.average: nn.Module | None = None

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.numbers.append(batch_number(trainer))

    def on_before_zero_grad(self, trainer: Trainer, pl_module: Any, optimizer: Any) -> None:
        self.logs.append(logs_this_step(trainer))

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.last.append(is_last_batch(trainer))
        self.average = average_model(trainer)


def run(*callbacks: Callback, **more: Any) -> Module:
    module = Module()
    settings: dict[str, Any] = {"accelerator": "cpu", "logger": False, "enable_checkpointing": False} | more
    with known_warnings():
        trainer = Trainer(
            max_epochs=EPOCHS, callbacks=list(callbacks), enable_model_summary=False,
            enable_progress_bar=False, **settings,
        )  # fmt: skip
        trainer.fit(module)
    return module


def test_batches_are_counted_over_the_run_and_the_last_of_each_epoch_is_known() -> None:
    watch = Watch()
    run(watch)
    assert watch.numbers == list(range(BATCHES * EPOCHS))
    assert watch.last == [False, False, True] * EPOCHS
    assert watch.average is None


@pytest.mark.parametrize("every", [1, 2, 5])
def test_what_is_logged_reaches_loggers_every_so_many_steps(every: int) -> None:
    watch = Watch()
    run(watch, log_every_n_steps=every)
    assert watch.logs == [(step + 1) % every == 0 for step in range(BATCHES * EPOCHS)]


def test_averaged_weights_are_found() -> None:
    watch = Watch()
    module = run(watch, EMAWeightAveraging(decay=0.5))
    assert watch.average is not None
    names = {name for name, _ in watch.average.named_parameters()}
    assert {name.removeprefix("module.") for name in names} == {name for name, _ in module.named_parameters()}


def test_the_current_hook_is_noted_and_tensors_still_become_parts_of_the_module() -> None:
    module = run()
    assert module.hooks == {"training_step"}
    module.further = nn.Parameter(torch.ones(1))
    assert "further" in dict(module.named_parameters())


def test_only_hooks_that_do_nothing_are_taken_out() -> None:
    watch = without_idle_hooks(Watch())
    taken = {name for name in STEP_HOOKS if getattr(watch, name) is None}
    assert taken == {"on_before_backward", "on_after_backward", "on_before_optimizer_step"}
    run(watch)
    assert watch.numbers == list(range(BATCHES * EPOCHS))


def test_a_run_without_a_profiler_times_nothing() -> None:
    profiler = NoProfiler()
    run(profiler=profiler)
    with profiler.profile("anything"):
        pass
    assert profiler.summary() == ""


def test_only_known_warnings_are_silenced() -> None:
    with pytest.warns(UserWarning, match="another"), known_warnings():  # noqa: PT031
        warnings.warn("Checkpoint directory x exists and is not empty", stacklevel=1)
        warnings.warn("another", stacklevel=1)


def test_the_bar_names_the_epoch_only() -> None:
    described = EpochProgressBar()._get_train_description(3)
    assert described.strip() == "Epoch 3"
