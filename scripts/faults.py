"""Hurt training runs in every way that a machine can, and see that nothing is lost.

Each run is a process of its own, forked from this one. It is killed, terminated, left without disk space, given damaged
checkpoints, a rival or other images; then it is resumed, and its weights are compared, bit for bit, with those of
an undisturbed run. Moments follow from `--seed`. Exits with 1 where anything was lost.
"""

import argparse
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.utils.tensorboard  # once for all runs
import yaml
from safetensors.torch import load_file

from restore import cli, train
from restore.checkpoint import load_weights
from restore.errors import UserError
from restore.files import write_atomically
from restore.images.io import read_image, write_image
from restore.provenance import provenance
from restore.tables import print_table
from restore.training.checkpoints import DAMAGED, LAST, PREVIOUS, read_checkpoint

LONGEST_S = 120
SETTINGS = (
    "--model.depth 3 --model.features 4 --data.patch_size 12 --data.batch_size 4 --data.steps_per_epoch 6 "
    "--optim.schedule onecycle --optim.lr 0.01 --optim.ema_decay 0.9 --trainer.max_steps 21 --trainer.accelerator cpu "
    "--trainer.precision 32-true --trainer.enable_progress_bar false --trainer.num_sanity_val_steps 0 "
    "--hardware.threads 1 --checkpoint_every 2"
)
OTHERS = {
    "accumulated gradients": "--trainer.accumulate_grad_batches 3 --data.steps_per_epoch 20",
    "clipped gradients": "--trainer.gradient_clip_val 0.1",
    "bf16": "--trainer.precision bf16-mixed",
    "FSDP": "--trainer.strategy fsdp --trainer.devices 1 --optim.ema_decay 0",
}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT

Hook = Callable[[str, Path], None]


@dataclass(frozen=True)
class Case:
    """A place with images of its own, where a run is hurt.

    Attributes:
        folder: holds `train/`, `val/`, the store in `cache/`, the run in `run/` and what it said in `log.txt`.
        settings: of the run, besides those of all runs.
    """

    folder: Path
    settings: tuple[str, ...] = ()

    @property
    def run(self) -> Path:
        return self.folder / "run"

    @property
    def checkpoints(self) -> Path:
        return self.run / "checkpoints"

    def said(self) -> str:
        return (self.folder / "log.txt").read_text()

    def start(self, *args: str, hook: Hook | None = None) -> int:
        """Fork a training process, `hook` being told of each file operation before it happens; returns its id."""
        sys.stdout.flush()
        if pid := os.fork():
            return pid
        log = os.open(self.folder / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.environ["RESTORE_CACHE"] = str(self.folder / "cache")
        if hook is not None:
            sys.addaudithook(partial(self._tell, hook))
        places = f"--data.train {self.folder}/train --data.val {self.folder}/val --output {self.run}"
        code: int | str | None = 1
        try:
            cli.run(partial(train.main, [*SETTINGS.split(), *places.split(), *self.settings, *args]))
        except SystemExit as end:
            code = end.code
        except BaseException:
            traceback.print_exc()
        if isinstance(code, str):
            print(code, file=sys.stderr)
            code = 1
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code or 0)

    def _tell(self, hook: Hook, event: str, args: tuple[Any, ...]) -> None:
        writes = event in ("os.rename", "os.link", "os.mkdir", "os.remove") or (event == "open" and args[2] & WRITING)
        if writes and isinstance(args[0], str | Path) and self.folder in (path := Path(args[0])).parents:
            hook(event, path)

    def end(self, *args: str, hook: Hook | None = None) -> int:
        """Train until the process ends; returns its exit code, -9 where it was killed."""
        return wait(self.start(*args, hook=hook))

    def unreadable(self) -> list[str]:
        """What a person could not use of the run folder as it is."""
        readers: dict[str, Callable[[Path], object]] = {
            ".ckpt": read_checkpoint,
            ".png": read_image,
            ".yaml": lambda path: yaml.safe_load(path.read_text()),
            ".json": lambda path: json.loads(path.read_text()),
            ".safetensors": load_weights,
        }
        faults = []
        for path in self.run.rglob("[!.]*.*"):
            try:
                readers.get(path.suffix, Path.exists)(path)
            except (UserError, ValueError, yaml.YAMLError) as error:
                faults.append(str(error))
        return faults


def wait(pid: int) -> int:
    until = time.monotonic() + LONGEST_S
    while time.monotonic() < until:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    raise LossError(f"hangs: still running after {LONGEST_S} s")


class LossError(Exception):
    """Something that should have survived did not."""


class At:
    """Does something at the `number`th file operation of a kind: in the `store`, on a `checkpoint` or any `other`."""

    def __init__(self, kind: str, number: int, act: Callable[[], None]) -> None:
        self._kind, self._left, self._act = kind, number, act

    def __call__(self, event: str, path: Path) -> None:
        if kind_of(path) == self._kind:
            self._left -= 1
            if self._left == -1:
                self._act()


def kind_of(path: Path) -> str:
    return "store" if "cache" in path.parts else "checkpoint" if "checkpoints" in path.parts else "other"


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Lab:
    """An undisturbed run and what hurt ones are compared with."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self._folder = folder
        self._cases = 0
        undisturbed = self.case()
        events = undisturbed.folder / "events.txt"
        started = time.monotonic()
        with events.open("a", buffering=1) as file:
            code = undisturbed.end(hook=lambda _, path: print(kind_of(path), file=file))
        assert code == 0, undisturbed.said()
        self.elapsed_s = time.monotonic() - started
        self.operations = Counter(events.read_text().split())
        self._weights, self._step = self._ended(undisturbed)

    def _ended(self, case: Case) -> tuple[dict[str, torch.Tensor], int]:
        step = json.loads((case.run / "summary.json").read_text())["best_step"]
        return load_file(case.run / "weights.safetensors"), step

    def case(self, place: Path | None = None, settings: str = "") -> Case:
        """A new case, with the same images as all."""
        self._cases += 1
        folder = (place or self._folder) / str(self._cases)
        pixels = np.random.default_rng(0)
        for name in ("train/a", "train/b", "train/c", "val/x", "val/y", "val/z"):
            write_image(folder / f"{name}.png", pixels.integers(0, 256, (32, 36, 1), np.uint8))
        return Case(folder, tuple(settings.split()))

    def expect_the_same(self, case: Case, undisturbed: Case | None = None) -> None:
        """Resume a run and compare what it ends with."""
        weights_before, step_before = self._ended(undisturbed) if undisturbed else (self._weights, self._step)
        if faults := case.unreadable():
            raise LossError(f"unreadable: {'; '.join(faults)}")
        if code := case.end("--resume", "auto"):
            raise LossError(f"not resumed, exit code {code}")
        weights = load_file(case.run / "weights.safetensors")
        if not all(torch.equal(weights[name], tensor) for name, tensor in weights_before.items()):
            raise LossError("other weights")
        if json.loads((case.run / "summary.json").read_text())["best_step"] != step_before:
            raise LossError("another best step")
        if "Traceback" in case.said():
            raise LossError("a traceback")


def killed_at_a_file(lab: Lab, kind: str) -> None:
    case = lab.case()
    code = case.end(hook=At(kind, int(lab.random.integers(lab.operations[kind])), die))
    expect(code == -signal.SIGKILL, f"was not killed, exit code {code}")
    lab.expect_the_same(case)


def killed_at_a_time(lab: Lab) -> None:
    stopped_at_a_time(lab, signal.SIGKILL)


def terminated(lab: Lab) -> None:
    """SIGTERM while it trains or validates: one line, exit code 143, and the checkpoint that the line names."""
    case = lab.case()
    number = int(lab.random.integers(4, lab.operations["checkpoint"]))
    code = case.end(hook=At("checkpoint", number, lambda: os.kill(os.getpid(), signal.SIGTERM)))
    expect(code in (143, 0), f"exit code {code}")
    expect(code == 0 or "stopped by SIGTERM; the last good checkpoint is " in case.said(), "nothing was said")
    lab.expect_the_same(case)


def terminated_at_a_time(lab: Lab) -> None:
    stopped_at_a_time(lab, signal.SIGTERM)


def stopped_at_a_time(lab: Lab, number: signal.Signals) -> None:
    case = lab.case()
    pid = case.start()
    time.sleep(lab.random.uniform(0, lab.elapsed_s))
    os.kill(pid, number)
    code = wait(pid)
    expect(code in (0, 128 + number, -number), f"exit code {code}")
    lab.expect_the_same(case)


def without_space(lab: Lab) -> None:
    """The disk is full from one file operation on a checkpoint on."""
    with tempfile.TemporaryDirectory() as place:
        small = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", place], capture_output=True, check=False
        )
        mounted = small.returncode == 0
        try:
            case = lab.case(Path(place))

            def fill() -> None:
                if not mounted:  # the next best: no file may grow larger than a part of a checkpoint
                    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
                    return
                with suppress(OSError), (case.folder / "ballast").open("wb", buffering=0) as file:
                    while True:  # until it is full
                        file.write(bytes(4096))

            number = int(lab.random.integers(12, lab.operations["checkpoint"]))
            code = case.end(hook=At("checkpoint", number, fill))
            said = case.said().strip().splitlines()
            (case.folder / "ballast").unlink(missing_ok=True)
            expect(code == 1, f"exit code {code}")
            expect(said[-1].startswith("error: ") and "the last good checkpoint is " in said[-1], f"said {said[-1]}")
            lab.expect_the_same(case)
        finally:
            if mounted:
                subprocess.run(["umount", place], check=True)


def damaged(lab: Lab, how: str) -> None:
    """The newest checkpoint loses its end or a bit of a tensor."""
    case = lab.case()
    case.end(hook=At("checkpoint", int(lab.random.integers(20, lab.operations["checkpoint"])), die))
    path = case.checkpoints / LAST
    content = bytearray(path.read_bytes())
    if how == "truncated":
        del content[int(lab.random.integers(len(content))) :]
    else:
        content[int(lab.random.integers(len(content)))] ^= 1 << int(lab.random.integers(8))
    path.write_bytes(content)
    if case.unreadable():
        code = case.end("--resume", "auto")
        expect(code == 0, f"not resumed, exit code {code}")
        words = f"resuming from {case.checkpoints / PREVIOUS} instead, the damaged file is now {DAMAGED}"
        expect(words in case.said() and str(path) in case.said(), "not named")
        (case.checkpoints / DAMAGED).unlink()
    else:  # a bit that nothing reads, in the padding between tensors
        expect(how == "flipped", "not detected")
    lab.expect_the_same(case)


def rivals(lab: Lab) -> None:
    """Two runs start into one folder at once: one trains, the other is told."""
    case = lab.case()
    codes = sorted(map(wait, [case.start(), case.start()]))
    expect(codes == [0, 1], f"exit codes {codes}")
    told = ("another run is writing there", "already contains a run")
    expect(any(words in case.said() for words in told), "nothing was said")
    lab.expect_the_same(case)


def changed(lab: Lab, part: str, how: str) -> None:
    """An image changes or vanishes: of validation while it trains, of training before it is resumed."""
    case = lab.case()
    image = case.folder / part / {"train": "b.png", "val": "y.png"}[part]
    good = image.read_bytes()

    def spoil() -> None:
        if how == "vanished":
            image.unlink()
        else:
            image.write_bytes((case.folder / part / {"train": "a.png", "val": "x.png"}[part]).read_bytes())

    number = int(lab.random.integers(12, lab.operations["checkpoint"] // 2))
    if part == "val":
        code = case.end(hook=At("checkpoint", number, spoil))
    else:
        case.end(hook=At("checkpoint", number, die))
        spoil()
        code = case.end("--resume", "auto")
    words = case.said().strip().splitlines()[-1]
    expect(code == 1 and words.startswith("error: "), f"exit code {code}, said {words}")
    expect(str(image) in words or f"data.{part}" in words, f"not named: {words}")
    image.write_bytes(good)
    lab.expect_the_same(case) if part == "train" else expect(not case.unreadable(), "unreadable")


def stopped_with(lab: Lab, settings: str, number: signal.Signals) -> None:
    """A run of other settings, stopped at any time and resumed, ends as an undisturbed one of those settings."""
    undisturbed = lab.case(settings=settings)
    expect(undisturbed.end() == 0, "the undisturbed run failed")
    hurt = lab.case(settings=settings)
    pid = hurt.start()
    time.sleep(lab.random.uniform(0.2, 1) * lab.elapsed_s)
    os.kill(pid, number)
    code = wait(pid)
    expect(code in (0, 128 + number, -number), f"exit code {code}")
    lab.expect_the_same(hurt, undisturbed)


def diverging(lab: Lab) -> None:
    """A learning rate beyond all measure: stopped, the batch named, nothing of it saved."""
    case = lab.case(settings="--optim.lr 1e30")
    code = case.end()
    words = case.said().strip().splitlines()[-1]
    expect(code == 1 and "is not finite at step" in words and "; seed 0, images " in words, f"said {words}")
    expect(not case.unreadable(), "unreadable")


def expect(met: bool, otherwise: str) -> None:
    if not met:
        raise LossError(otherwise)


FAULTS: dict[str, Callable[[Lab], None]] = {
    "SIGKILL while the store is built": partial(killed_at_a_file, kind="store"),
    "SIGKILL while checkpointing": partial(killed_at_a_file, kind="checkpoint"),
    "SIGKILL at another file operation": partial(killed_at_a_file, kind="other"),
    "SIGKILL at any time": killed_at_a_time,
    "SIGTERM while checkpointing": terminated,
    "SIGTERM at any time": terminated_at_a_time,
    "Ctrl+C at any time": partial(stopped_at_a_time, number=signal.SIGINT),
    "closed terminal at any time": partial(stopped_at_a_time, number=signal.SIGHUP),
    **{
        f"{number.name}, {name}": partial(stopped_with, settings=settings, number=number)
        for name, settings in OTHERS.items()
        for number in (signal.SIGKILL, signal.SIGINT)
    },
    "disk full while checkpointing": without_space,
    "checkpoint truncated": partial(damaged, how="truncated"),
    "checkpoint with a flipped bit": partial(damaged, how="flipped"),
    "two runs into one folder": rivals,
    "training image changed": partial(changed, part="train", how="changed"),
    "training image vanished": partial(changed, part="train", how="vanished"),
    "validation image changed": partial(changed, part="val", how="changed"),
    "validation image vanished": partial(changed, part="val", how="vanished"),
    "loss not finite": diverging,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=5, help="how often each SIGKILL; all else a third as often")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--json", type=Path, help="write the table and where it comes from")
    args = parser.parse_args()

    started = time.monotonic()
    rows, all_injected, all_lost = [], 0, 0
    with tempfile.TemporaryDirectory() as place:
        lab = Lab(Path(place), args.seed)
        for fault, inject in FAULTS.items():
            lost, times = 0, args.times if fault.startswith("SIGKILL") else -(-args.times // 3)
            for _ in range(times):
                try:
                    inject(lab)
                except LossError as loss:
                    lost += 1
                    print(f"{fault}: {loss}\n{Case(Path(place) / str(lab._cases)).said()}", flush=True)
                shutil.rmtree(Path(place) / str(lab._cases), ignore_errors=True)
            counts = {"injected": times, "survived": times - lost, "lost": lost}
            rows.append({"fault": fault, **{name: str(count) for name, count in counts.items()}})
            all_injected, all_lost = all_injected + times, all_lost + lost
    print_table("Training runs", rows)
    print(f"{all_injected} faults, {all_lost} lost; {time.monotonic() - started:.0f} s")
    if args.json:
        write_atomically(
            args.json, json.dumps({"rows": rows, "provenance": provenance(torch.device("cpu"))}, indent=2) + "\n"
        )
    return int(all_lost > 0)


if __name__ == "__main__":
    sys.exit(main())
