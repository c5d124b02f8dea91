"""Ways to stop a run: every signal saves at a whole step, and what is resumed ends as if nothing had happened."""

import multiprocessing
import os
import pty
import signal
import threading
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import Callback, Trainer
from safetensors.torch import load_file

from restore.errors import UserError
from restore.models import DnCNN
from restore.training import Faults, Optimization, PatchData, fit

QUIET = {"accelerator": "cpu", "enable_progress_bar": False}


class At(Callback):
    """Does something when a batch of the run begins."""

    def __init__(self, batch: int, act: Any) -> None:
        self._left, self._act = batch, act

    def on_train_batch_start(self, *_: Any) -> None:
        self._left -= 1
        if self._left == 0:
            self._act()


def train(
    folder: Path, name: str, *, accumulate: int = 1, ema: float = 0.0, act: At | None = None, every: int = 500,
    on_bad_step: Any = "stop", **trainer: Any,
) -> dict[str, Any]:  # fmt: skip
    torch.manual_seed(0)
    data = PatchData(
        str(folder / "train"), str(folder / "val"), patch_size=12, batch_size=4, steps_per_epoch=7 * accumulate
    )
    settings = {**QUIET, "max_steps": 16, "accumulate_grad_batches": accumulate, **trainer}
    if act:
        settings["callbacks"] = [act]
    optim = Optimization(schedule="onecycle", lr=0.01, ema_decay=ema)
    return fit(
        DnCNN(depth=3, features=4), data, optim, folder / name, trainer=settings, resume="auto",
        checkpoint_every=every, faults=Faults(on_bad_step=on_bad_step),
    )  # fmt: skip


def assert_same_run(folder: Path, one: str, other: str) -> None:
    states = [torch.load(folder / name / "checkpoints/last.ckpt", weights_only=True) for name in (one, other)]
    assert states[0]["global_step"] == states[1]["global_step"]
    for key in {"state_dict", "current_model_state"} & states[0].keys():
        assert all(torch.equal(states[0][key][name], states[1][key][name]) for name in states[0][key])
    weights = [load_file(folder / name / "weights.safetensors") for name in (one, other)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    sheets = [{path.name: path.read_bytes() for path in (folder / name / "samples").iterdir()} for name in (one, other)]
    assert sheets[0] == sheets[1]  # of all validations


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP, signal.SIGTERM])
@pytest.mark.parametrize(("accumulate", "batch"), [(1, 10), (1, 7), (3, 31), (3, 32), (3, 20)])
def test_a_signal_saves_at_the_next_whole_step_and_says_how_to_go_on(
    photographs: Path, number: signal.Signals, accumulate: int, batch: int, caplog: pytest.LogCaptureFixture
) -> None:
    train(photographs, "undisturbed", accumulate=accumulate)
    handlers = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM)}
    with caplog.at_level("INFO"), pytest.raises(SystemExit) as end:
        train(photographs, "hurt", accumulate=accumulate, act=At(batch, partial(os.kill, os.getpid(), number)))
    assert end.value.code == 128 + number
    last = photographs / "hurt/checkpoints/last.ckpt"
    assert f"stopped by {number.name}; the last good checkpoint is {last}; --resume auto continues" in caplog.text
    state = torch.load(last, weights_only=True)
    assert state["global_step"] == -(-batch // accumulate)  # the step that was being made
    assert {each: signal.getsignal(each) for each in handlers} == handlers
    train(photographs, "hurt", accumulate=accumulate)
    assert_same_run(photographs, "undisturbed", "hurt")


@pytest.mark.parametrize(("accumulate", "interval", "batch"), [(1, 1, 3), (2, 2, 6), (2, 7, 7), (3, 3, 9), (3, 7, 20)])
def test_a_run_that_is_stopped_where_it_validates_within_an_epoch_misses_no_validation(
    photographs: Path, accumulate: int, interval: int, batch: int
) -> None:
    train(photographs, "undisturbed", accumulate=accumulate, val_check_interval=interval)
    stop = At(batch, partial(os.kill, os.getpid(), signal.SIGTERM))
    with pytest.raises(SystemExit):
        train(photographs, "hurt", accumulate=accumulate, val_check_interval=interval, act=stop)
    train(photographs, "hurt", accumulate=accumulate, val_check_interval=interval)
    assert_same_run(photographs, "undisturbed", "hurt")


class KilledInValidation(At):
    def on_train_batch_start(self, *_: Any) -> None:
        pass

    def on_validation_batch_start(self, *_: Any) -> None:
        super().on_train_batch_start()


def killed_in_validation(folder: Path, number: int) -> None:
    act = KilledInValidation(number, partial(os.kill, os.getpid(), 9))
    train(folder, "hurt", every=2, val_check_interval=1, act=act)


@pytest.mark.parametrize("number", [3, 8])
def test_a_run_that_is_killed_while_it_validates_within_an_epoch_misses_no_validation(
    photographs: Path, number: int
) -> None:
    train(photographs, "undisturbed", val_check_interval=1)
    process = multiprocessing.get_context("spawn").Process(target=killed_in_validation, args=(photographs, number))
    process.start()
    process.join()
    assert process.exitcode == -9
    train(photographs, "hurt", every=2, val_check_interval=1)
    assert_same_run(photographs, "undisturbed", "hurt")


def killed(folder: Path, accumulate: int, every: int, batch: int) -> None:
    train(folder, "hurt", accumulate=accumulate, every=every, act=At(batch, partial(os.kill, os.getpid(), 9)), ema=0.9)


@pytest.mark.parametrize(("accumulate", "every", "batch"), [(3, 2, 17), (2, 5, 26), (8, 3, 60)])
def test_a_killed_run_with_accumulated_gradients_is_resumed_bit_for_bit(
    photographs: Path, accumulate: int, every: int, batch: int
) -> None:
    train(photographs, "undisturbed", accumulate=accumulate, ema=0.9)
    process = multiprocessing.get_context("spawn").Process(target=killed, args=(photographs, accumulate, every, batch))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    state = torch.load(photographs / "hurt/checkpoints/last.ckpt", weights_only=True)
    done = (batch - 1) // accumulate
    assert state["global_step"] == max(step for step in range(1, done + 1) if step % every == 0 or step % 7 == 0)
    train(photographs, "hurt", accumulate=accumulate, every=every, ema=0.9)
    assert_same_run(photographs, "undisturbed", "hurt")


class AtValidation(Callback):
    """Sends SIGINT when the validation of the first epoch begins."""

    def on_validation_start(self, trainer: Trainer, *_: Any) -> None:
        if not trainer.sanity_checking and trainer.current_epoch == 0:
            os.kill(os.getpid(), signal.SIGINT)


def test_a_signal_in_a_validation_loses_neither_it_nor_the_epoch(photographs: Path) -> None:
    train(photographs, "undisturbed")
    with pytest.raises(SystemExit):
        train(photographs, "hurt", callbacks=[AtValidation()])
    assert torch.load(photographs / "hurt/checkpoints/last.ckpt", weights_only=True)["global_step"] == 7
    train(photographs, "hurt")
    assert_same_run(photographs, "undisturbed", "hurt")


def test_a_second_signal_ends_the_run_at_once(photographs: Path) -> None:
    def twice() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(SystemExit) as end:
        train(photographs, "hurt", accumulate=3, act=At(13, twice))
    assert end.value.code == 128 + signal.SIGINT


def test_a_signal_that_is_ignored_stays_ignored(photographs: Path) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        summary = train(photographs, "run", act=At(10, partial(os.kill, os.getpid(), signal.SIGHUP)))
    finally:
        signal.signal(signal.SIGHUP, before)
    assert summary["steps"] == 16


def test_training_in_another_thread_needs_no_signals(photographs: Path) -> None:
    found: list[dict[str, Any]] = []
    thread = threading.Thread(target=lambda: found.append(train(photographs, "run")))
    thread.start()
    thread.join()
    assert found[0]["steps"] == 16


def in_a_terminal(folder: Path) -> None:
    """Train as the first process of a terminal that closes at the tenth batch."""
    main, terminal = pty.openpty()
    os.setsid()
    for descriptor in (0, 1, 2):
        os.dup2(terminal, descriptor)
    threading.Thread(target=drain, args=(main,), daemon=True).start()

    def close() -> None:
        os.close(main)
        os.kill(os.getpid(), signal.SIGHUP)
        print("nobody reads this", flush=True)

    train(folder, "run", act=At(10, close), enable_progress_bar=True)


def drain(descriptor: int) -> None:
    with suppress(OSError):  # closed
        while os.read(descriptor, 4096):
            pass


def test_a_run_whose_terminal_is_closed_saves_although_nobody_reads_what_it_says(photographs: Path) -> None:
    process = multiprocessing.get_context("spawn").Process(target=in_a_terminal, args=(photographs,))
    process.start()
    process.join(120)
    assert process.exitcode == 128 + signal.SIGHUP
    assert torch.load(photographs / "run/checkpoints/last.ckpt", weights_only=True)["global_step"] == 10


@pytest.mark.parametrize("accumulate", [1, 3])
def test_a_limit_of_time_ends_a_run_at_a_whole_step_with_weights_and_summary(
    photographs: Path, accumulate: int
) -> None:
    for steps in (-1, 10**6):
        name = f"run{steps}"
        data = PatchData(
            str(photographs / "train"), str(photographs / "val"), patch_size=12, batch_size=4, steps_per_epoch=999
        )
        settings = {**QUIET, "max_steps": steps, "max_time": {"seconds": 1}, "accumulate_grad_batches": accumulate}
        summary = fit(DnCNN(depth=2, features=4), data, Optimization(), photographs / name, trainer=settings)
        assert 0 < summary["steps"] < 10**6
        state = torch.load(photographs / name / "checkpoints/last.ckpt", weights_only=True)
        batches = state["loops"]["fit_loop"]["epoch_loop.batch_progress"]["total"]["ready"]
        assert batches == accumulate * summary["steps"]
        assert (photographs / name / "weights.safetensors").exists()


def test_a_schedule_over_the_whole_run_needs_its_end(photographs: Path) -> None:
    with pytest.raises(UserError, match=r"optim.schedule onecycle needs to know .*: set trainer.max_steps"):
        train(photographs, "run", max_steps=-1, max_time="00:00:00:05")


def test_what_is_not_finite_in_a_window_leaves_no_trace_in_running_statistics(photographs: Path) -> None:
    class PoisonsOne(Callback):
        def on_train_batch_start(self, trainer: Trainer, module: Any, batch: Any, batch_idx: int) -> None:
            if batch_idx == 4:  # the second of three batches of a step
                batch.degraded.fill_(torch.nan)

    summary = train(photographs, "run", accumulate=3, on_bad_step="skip", callbacks=[PoisonsOne()], max_steps=5)
    assert summary["bad_steps"]["skipped"] == 1
    assert all(tensor.isfinite().all() for tensor in load_file(photographs / "run/weights.safetensors").values())
