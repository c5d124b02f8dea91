"""What runs are wired to: faults that are the same on both sides of every comparison of two runs."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from pytorch_lightning import Callback, Trainer
from safetensors.torch import load_file
from torch import Tensor

from restore.data.catalog import ImageSet
from restore.data.degradation import GaussianNoise, Jpeg
from restore.data.pairs import load_pair
from restore.images.io import write_image
from restore.models import DnCNN
from restore.optim import Optimization
from restore.training import PatchData, fit
from restore.training.checkpoints import read_checkpoint

TINY = {"depth": 3, "features": 4}
QUIET = {"accelerator": "cpu", "enable_progress_bar": False}


def settings(folder: Path, **more: Any) -> PatchData:
    fixed = {"patch_size": 12, "batch_size": 8, "steps_per_epoch": 2}
    return PatchData(str(folder / "train"), str(folder / "val"), **fixed | more)


class Records(Callback):
    """What noise and which flips the steps of a run have seen."""

    def __init__(self) -> None:
        self.noise: list[Tensor] = []
        self.clean: list[Tensor] = []

    def on_train_batch_start(self, trainer: Trainer, module: Any, batch: Any, batch_idx: int) -> None:
        self.noise.append(batch.degraded - batch.clean)
        self.clean.append(batch.clean)


def record(folder: Path, name: str, **more: Any) -> Records:
    records = Records()
    data = settings(folder, degradation=GaussianNoise(25.0), **more)
    trainer = {**QUIET, "max_steps": 4, "callbacks": [records], "num_sanity_val_steps": 0}
    fit(DnCNN(**TINY), data, Optimization(lr=1e-9), folder / name, trainer=trainer)
    return records


def test_noise_differs_between_steps_and_seeds_and_is_the_same_for_the_same_step(photographs: Path) -> None:
    first, again, other = (record(photographs, name, seed=seed) for name, seed in (("a", 0), ("b", 0), ("c", 1)))
    for step in range(4):
        assert torch.equal(first.noise[step], again.noise[step])
        assert torch.equal(first.clean[step], again.clean[step])
        assert not torch.equal(first.noise[step], other.noise[step])
        assert first.noise[step].std() * 255 == pytest.approx(25, rel=0.06)
        for later in range(step + 1, 4):
            correlation = torch.corrcoef(torch.stack([first.noise[step].flatten(), first.noise[later].flatten()]))[0, 1]
            assert abs(correlation) < 0.15


def test_all_eight_flips_and_turns_are_met_and_are_not_the_same_at_every_step(tmp_path: Path) -> None:
    ramp = (np.arange(12)[:, None] * 16 + np.arange(12)).astype(np.uint8)[:, :, None]
    for name in ("train/a", "val/a"):
        write_image(tmp_path / f"{name}.png", ramp)
    records = record(tmp_path, "run", batch_size=32)
    seen = [[bytes((patch * 255).round().to(torch.uint8).numpy()) for patch in batch] for batch in records.clean]
    symmetries = {bytes(np.ascontiguousarray(turned)) for base in (ramp[:, :, 0], ramp[:, :, 0].T)
                  for turned in (base, base[::-1], base[:, ::-1], base[::-1, ::-1])}  # fmt: skip
    assert set().union(*seen) == symmetries
    assert len({tuple(batch) for batch in seen}) == 4


def test_red_is_red_in_gray_stores_and_in_evaluation(tmp_path: Path) -> None:
    red = np.zeros((40, 44, 3), np.uint8)
    red[:, :, 2] = 255  # as OpenCV writes it
    for name in ("train/a.png", "val/a.png"):
        (tmp_path / name).parent.mkdir()
        cv2.imwrite(str(tmp_path / name), red)
    prepared = settings(tmp_path).prepare(DnCNN(**TINY))
    prepared.trainer = SimpleNamespace(
        global_rank=0, world_size=1, strategy=SimpleNamespace(root_device=torch.device("cpu"))
    )
    batch = next(iter(prepared.train_dataloader()))
    assert set(batch.clean.unique().tolist()) == {76}  # 0.299 * 255
    pair = load_pair(ImageSet("red", (tmp_path / "val/a.png",), {}), 0, Jpeg(90), 1)
    assert set(pair.clean.unique().tolist()) == {76}
    in_color = load_pair(ImageSet("red", (tmp_path / "val/a.png",), {}), 0, Jpeg(90), 3)
    assert in_color.clean[0, :, 0, 0].tolist() == [255, 0, 0]


class Spoils(Callback):
    """Makes the weights worse after the first validation, so that the last ones are not the best."""

    def on_train_epoch_start(self, trainer: Trainer, module: Any) -> None:
        if trainer.current_epoch == 1:
            with torch.no_grad():
                module.network.body[-1].weight.add_(0.5)


def test_the_weights_that_are_kept_are_the_best_where_the_last_are_not(photographs: Path) -> None:
    trainer = {**QUIET, "max_steps": 6, "callbacks": [Spoils()], "num_sanity_val_steps": 0}
    summary = fit(DnCNN(**TINY), settings(photographs), Optimization(lr=1e-6), photographs / "run", trainer=trainer)
    assert (summary["weights"], summary["best_step"], summary["steps"]) == ("best", 2, 6)
    kept = load_file(photographs / "run/weights.safetensors")
    states = [
        read_checkpoint(photographs / "run/checkpoints" / name)["state_dict"] for name in ("best.ckpt", "last.ckpt")
    ]
    name = [key for key in kept if key.endswith("weight")][-1]
    assert torch.equal(kept[name], states[0][f"network.{name}"])
    assert not torch.equal(kept[name], states[1][f"network.{name}"])
    assert summary["results"][1]["psnr"] > summary["last"]["val/psnr"] + 1


def test_the_checkpoint_before_is_an_earlier_step_in_a_file_of_its_own(photographs: Path) -> None:
    trainer = {**QUIET, "max_steps": 7}
    fit(DnCNN(**TINY), settings(photographs, steps_per_epoch=7), Optimization(), photographs / "run", trainer=trainer,
        checkpoint_every=3)  # fmt: skip
    last, previous = (photographs / "run/checkpoints" / name for name in ("last.ckpt", "previous.ckpt"))
    assert not last.samefile(previous)
    assert not previous.is_symlink()
    assert [read_checkpoint(path)["global_step"] for path in (previous, last)] == [6, 7]


def test_a_network_in_eval_mode_is_trained_as_any_other(photographs: Path) -> None:
    states = []
    for name, evaluating in (("from train mode", False), ("from eval mode", True)):
        torch.manual_seed(0)
        network = DnCNN(**TINY)
        if evaluating:
            network.eval()
        fit(
            network, settings(photographs), Optimization(lr=1e-2), photographs / name, trainer={**QUIET, "max_steps": 3}
        )
        states.append(load_file(photographs / name / "weights.safetensors"))
    assert states[0].keys() == states[1].keys()
    for name, tensor in states[0].items():
        assert torch.equal(tensor, states[1][name]), name
