"""A training step: ours against a plain one.

The reference is what today's projects do: eager, float32, NCHW, Adam as it comes, the allocator as it comes. All
variants train the same network on batches of the same size, with as many threads; ours draw and degrade them too.
"""

import argparse
import json
import logging
import tempfile
import threading
from collections.abc import Callable
from itertools import count
from pathlib import Path
from queue import Queue
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor

from benchmarks.machine import peak_rate
from benchmarks.turns import take_turns
from restore.data.catalog import find_images
from restore.data.degradation import Bicubic, GaussianNoise
from restore.data.pairs import Pair, PatchBatch, PatchSampler, make_pair
from restore.data.random import seeded
from restore.data.store import StoreSpec, default_cache, open_store
from restore.files import write_atomically
from restore.hardware import Hardware, gains_from_bf16, keep_pages
from restore.losses import find_loss
from restore.models import NetworkSpec, build, complete
from restore.profiling import Step, flops
from restore.provenance import provenance
from restore.tables import print_table
from restore.training import Optimization, PatchData, fit

SIZES = {"DnCNN": (128, 40, "half_squared_error"), "EDSR": (16, 48, "l1"), "SRResNet": (16, 24, "l1")}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--network", choices=list(SIZES), default="DnCNN")
    parser.add_argument("--norm", default=None, help="default: the network's own")
    parser.add_argument("--batch", type=int, help="default: the paper's")
    parser.add_argument("--patch", type=int, help="default: the paper's")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--compile", action="store_true", help="a variant of ours with torch.compile too")
    parser.add_argument("--seconds", type=float, default=30, help="of measuring each variant")
    parser.add_argument("--json", type=Path)


def run(args: argparse.Namespace) -> None:
    batch, patch, loss = SIZES[args.network]
    batch, patch = args.batch or batch, args.patch or patch
    spec = NetworkSpec(args.network, {"norm": args.norm} if args.norm else {})
    step = Step(complete(spec), batch, patch, loss)
    device = torch.device(args.device)
    variants: dict[str, tuple[Any, ...]] = {"reference": (reference, step, args.device, False)}
    if device.type == "cpu":
        variants["reference, pages kept"] = (reference, step, args.device, True)
    variants["ours without Lightning"] = (bare, step, args.device)
    variants["ours"] = (Ours, step, args.device, Hardware())
    if args.compile:
        variants["ours, compiled"] = (Ours, step, args.device, Hardware(compile=True))
    bf16 = gains_from_bf16(device)
    peaks = {"float32": peak_rate(device, torch.float32)}
    if bf16:
        peaks["bfloat16"] = peak_rate(device, torch.bfloat16)
    found = take_turns(variants, args.seconds)
    operations = flops(step)

    table = []
    for name, measured in found.items():
        peak = peaks["bfloat16" if bf16 and name.startswith("ours") else "float32"]
        ratio, low, high = measured.ratio(found["reference"])
        table.append({
            "variant": name,
            "ms/step": f"{1e3 * measured.median:.1f}",
            "images/s": f"{batch / measured.median:.1f}",
            "GFLOP/s": f"{operations / measured.median / 1e9:.0f}",
            "of peak": f"{operations / measured.median / peak:.0%}",
            "x reference": f"{ratio:.2f} ({low:.2f} to {high:.2f})",
            "peak RSS MiB": f"{measured.peak_rss_mib:.0f}",
            **({"peak GPU MiB": f"{measured.peak_cuda_mib:.0f}"} if device.type == "cuda" else {}),
        })  # fmt: skip
    rates = ", ".join(f"{rate / 1e9:.0f} GFLOP/s {name}" for name, rate in peaks.items())
    title = f"{args.network} training, {step.network.arguments['norm']} norm, batch {batch}, {patch}x{patch}"
    print_table(f"{title}, {device}; peak convolution: {rates}", table)
    if args.json:
        document = {"title": title, "rows": table, "seconds": {name: m.seconds for name, m in found.items()}}
        write_atomically(args.json, json.dumps(document | {"peaks": peaks, "provenance": provenance(device)}, indent=1))


def reference(step: Step, device: str, keep: bool) -> Callable[[], None]:
    """A step as most projects have it, on one batch."""
    if keep:
        keep_pages()
    network = build(step.network).to(device)
    optimizer = torch.optim.Adam(network.parameters(), 1e-4)
    scale, loss = network.scale, find_loss(step.loss)
    degraded = torch.rand(step.batch, network.channels, step.patch, step.patch, device=device)
    clean = torch.rand(step.batch, network.channels, scale * step.patch, scale * step.patch, device=device)

    def work() -> None:
        optimizer.zero_grad()
        value: Tensor = loss(network(degraded), clean).mean()
        value.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        value.item()  # they print it

    return work


class Batches:
    """Patches of photographs, as training draws and degrades them, on `device`."""

    def __init__(self, step: Step, device: str) -> None:
        network = build(step.network)
        images = find_images("photos", "train", Path())
        store = open_store(images, StoreSpec(network.channels, network.scale), default_cache())
        self._sampler = PatchSampler(store, step.patch, step.batch, seed=0)
        self._degradation = Bicubic(network.scale) if network.scale > 1 else GaussianNoise()
        self._device = device

    def drawn(self, number: int) -> PatchBatch:
        return self._sampler.batch(number).to(self._device)

    def degraded(self, batch: PatchBatch) -> Pair:
        return make_pair(batch, self._degradation, seeded(batch.step, device=self._device))


def bare(step: Step, device: str) -> Callable[[], None]:
    """Our step in a loop of its own: what is left of it when Lightning is taken away."""
    keep_pages()
    network = build(step.network).to(device).to(memory_format=torch.channels_last)
    optimizer, schedule = Optimization(loss=step.loss, lr=1e-4).build(network, steps=10**6)
    batches, numbers = Batches(step, device), count()
    dtype = torch.bfloat16 if gains_from_bf16(torch.device(device)) else None

    def work() -> None:
        pair = batches.degraded(batches.drawn(next(numbers)))
        with torch.autocast(device, dtype, enabled=dtype is not None):
            restored = network(pair.degraded.contiguous(memory_format=torch.channels_last))
        optimizer.zero_grad()
        find_loss(step.loss)(restored.float(), pair.clean).mean().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()

    return work


class Ours:
    """A run of `fit` on photographs, Lightning and all, that goes on by some steps per call."""

    def __init__(self, step: Step, device: str, hardware: Hardware, steps: int = 1) -> None:
        logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
        keep_pages()  # as the command does
        self._go: Queue[bool] = Queue()
        self._done: Queue[BaseException | None] = Queue()
        self._turns = _Turns(self._go, self._done, steps)
        thread = threading.Thread(target=self._run, args=(step, device, hardware), daemon=True)
        thread.start()

    def __call__(self) -> None:
        self._go.put(True)
        if failure := self._done.get():
            raise failure

    def _run(self, step: Step, device: str, hardware: Hardware) -> None:
        try:
            self._fit(step, device, hardware)
        except BaseException as failure:
            self._done.put(failure)

    def _fit(self, step: Step, device: str, hardware: Hardware) -> None:
        data = PatchData(patch_size=step.patch, batch_size=step.batch, steps_per_epoch=10**6)
        trainer = {
            "max_steps": 10**6,
            "accelerator": device,
            "devices": 1,
            "limit_val_batches": 0,
            "log_every_n_steps": 50,
            "num_sanity_val_steps": 0,
            "callbacks": [self._turns],
        }
        with tempfile.TemporaryDirectory() as folder:
            optim = Optimization(loss=step.loss, lr=1e-4)
            fit(
                build(step.network),
                data,
                optim,
                Path(folder),
                trainer=trainer,
                hardware=hardware,
                checkpoint_every=10**6,
            )


class _Turns(Callback):
    def __init__(self, go: "Queue[bool]", done: "Queue[BaseException | None]", steps: int) -> None:
        self._go = go
        self._done = done
        self._steps = steps

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Pair, batch_idx: int) -> None:
        """Lightning has fetched the batch before this, so a turn begins with the step and ends with the next batch."""
        if batch_idx % self._steps:
            return
        if batch_idx:
            self._done.put(None)
        self._go.get()
