"""A run is resumed with the settings that it began with, or not at all."""

import csv
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from restore import train
from restore.data.degradation import GaussianNoise, Jpeg, from_description
from restore.errors import UserError
from restore.foreign_checkpoints import load_any
from restore.hardware import Hardware
from restore.models import DnCNN
from restore.training import Faults, Optimization, PatchData, fit

DATA = {"patch_size": 12, "batch_size": 4, "steps_per_epoch": 5}
TRAINER = {"accelerator": "cpu", "enable_progress_bar": False, "precision": "32-true", "log_every_n_steps": 1}


def go(
    folder: Path, *, steps: int = 5, network: Any = None, optim: Any = None, trainer: Any = None, run: str = "run",
    weights: Path | None = None, config: str = "asked: before\n", more: Any = None, **data: Any,
) -> dict[str, Any]:  # fmt: skip
    torch.manual_seed(0)
    patches = PatchData(str(folder / "train"), str(folder / "val"), **DATA | data)
    settings = {**TRAINER, "max_steps": steps, **(trainer or {})}
    tiny, how = DnCNN(depth=3, features=4, **(network or {})), Optimization(**(optim or {}))
    return fit(
        tiny, patches, how, folder / run, trainer=settings, resume="auto", weights=weights, config=config, **more or {}
    )


def test_a_run_is_not_resumed_with_another_setting_that_decides_its_outcome(photographs: Path) -> None:
    go(photographs, optim={"schedule": "onecycle"})
    before = {path: path.read_bytes() for path in (photographs / "run").rglob("*") if path.is_file()}
    others: list[tuple[str, dict[str, Any]]] = [
        ("seed 0 (asked for: 1)", {"seed": 1}),
        ("data.degradation.sigma 25.0 (asked for: 50)", {"degradation": GaussianNoise(50)}),
        ("data.degradation GaussianNoise (asked for: Jpeg)", {"degradation": Jpeg((10, 40))}),
        ("data.batch_size 4 (asked for: 2)", {"batch_size": 2}),
        ("data.patch_size 12 (asked for: 8)", {"patch_size": 8}),
        ("data.steps_per_epoch 5 (asked for: 4)", {"steps_per_epoch": 4}),
        ("data.sizes [1.0] (asked for: [1.0, 0.9])", {"sizes": (1.0, 0.9)}),
        ("optim.loss half_squared_error (asked for: l1)", {"optim": {"loss": "l1"}}),
        ("optim.lr 0.001 (asked for: 0.0001)", {"optim": {"lr": 1e-4}}),
        ("optim.betas [0.9, 0.999] (asked for: [0.5, 0.9]), optim.eps ", {"optim": {"betas": (0.5, 0.9), "eps": 0.1}}),
        ("optim.optimizer adam (asked for: muon)", {"optim": {"optimizer": "muon"}}),
        ("model.init released (asked for: he)", {"network": {"init": "he"}}),
        ("model.residual true (asked for: false)", {"network": {"residual": False}}),
        ("trainer.gradient_clip_val none (asked for: 1)", {"trainer": {"gradient_clip_val": 1}}),
        ("trainer.accumulate_grad_batches 1 (asked for: 2)", {"trainer": {"accumulate_grad_batches": 2}}),
        ("trainer.limit_val_batches 1.0 (asked for: 1)", {"trainer": {"limit_val_batches": 1}}),
        ("the learning rates of the first 5 steps would differ", {"steps": 15}),
    ]
    for words, changed in others:
        optim = {"schedule": "onecycle"} | changed.pop("optim", {})
        with pytest.raises(UserError) as refusal:
            go(photographs, **{"steps": 5, "optim": optim, "config": "asked: another\n"} | changed)
        assert words in str(refusal.value)
        assert "(--weights, --output)" in str(refusal.value)
    assert {path: path.read_bytes() for path in before} == before


def test_what_does_not_decide_the_outcome_may_change(photographs: Path, caplog: pytest.LogCaptureFixture) -> None:
    go(photographs)
    moved = photographs / "elsewhere"
    moved.mkdir()
    for name in ("run", "train", "val"):
        (photographs / name).rename(moved / name)
    more = {"checkpoint_every": 2, "hardware": Hardware(threads=1), "faults": Faults("skip")}
    summary = go(moved, steps=7, trainer={"precision": "bf16-mixed"}, config="asked: after\n", more=more, workers=1)
    assert (summary["steps"], summary["precision"]) == (7, "bf16-mixed")
    assert "trainer.precision was 32-true so far, and is bf16-mixed from here on" in caplog.messages
    assert (moved / "run/config.yaml").read_text() == "asked: after\n"


def test_a_checkpoint_of_an_earlier_version_that_says_nothing_of_settings_is_resumed(photographs: Path) -> None:
    go(photographs)
    last = photographs / "run/checkpoints/last.ckpt"
    state = torch.load(last, weights_only=True)
    del state["settings"]
    torch.save(state, last)
    assert go(photographs, steps=7, seed=1)["steps"] == 7
    with pytest.raises(UserError, match=r"seed 1 \(asked for: 0\)"):
        go(photographs, steps=9)


def test_a_resumed_run_remembers_the_weights_that_it_began_with(photographs: Path) -> None:
    go(photographs, run="first")
    weights = photographs / "first/weights.safetensors"
    resume = partial(go, photographs, run="second")
    assert resume(weights=weights)["weights_at_start"] == str(weights)
    weights.unlink()
    assert resume(steps=7)["weights_at_start"] == resume(steps=9, weights=weights)["weights_at_start"] == str(weights)
    with pytest.raises(UserError, match=r"weights .*first/weights\.safetensors \(asked for: other\.safetensors\)"):
        resume(steps=11, weights=Path("other.safetensors"))


def test_what_a_resumed_run_logs_has_the_numbers_of_its_steps(photographs: Path) -> None:
    logged = []
    for number, steps in enumerate((5, 7, 12)):  # the end of an epoch, and the middle of one
        go(photographs, steps=steps)
        with (photographs / f"run/csv/version_{number}/metrics.csv").open() as file:
            logged += [int(row["step"]) for row in csv.DictReader(file) if row["train/loss"]]
    assert logged == list(range(12))


def test_the_command_names_the_option_and_keeps_the_configuration(photographs: Path) -> None:
    args = (
        f"--data.train {photographs}/train --data.val {photographs}/val --data.patch_size 12 --data.batch_size 2 "
        "--data.steps_per_epoch 2 --model.depth 3 --model.features 4 --optim.schedule constant --trainer.max_steps 2 "
        f"--trainer.accelerator cpu --trainer.enable_progress_bar false --output {photographs}/run --resume auto"
    ).split()
    assert train.main(args) == 0
    config = (photographs / "run/config.yaml").read_text()
    with pytest.raises(UserError, match=r"last\.ckpt: the run was made with seed 0 \(asked for: 3\); resume it with"):
        train.main([*args, "--seed", "3"])
    assert (photographs / "run/config.yaml").read_text() == config
    assert train.main([*args, "--trainer.max_steps", "4"]) == 0
    assert "max_steps: 4" in (photographs / "run/config.yaml").read_text()


def test_a_checkpoint_of_a_run_is_read_as_its_network(photographs: Path) -> None:
    go(photographs, degradation=Jpeg((10, 40)))
    best, of_run = (load_any(photographs / "run" / name) for name in ("weights.safetensors", "checkpoints/best.ckpt"))
    assert of_run.network.spec == best.network.spec
    assert of_run.degradation == best.degradation
    assert from_description(of_run.degradation) == Jpeg((10, 40))
    assert of_run.training == {"steps": 5}
    assert not of_run.network.training
    images = torch.rand(2, 1, 12, 12)
    assert torch.equal(of_run.network(images), best.network(images))
    go(photographs, run="from", weights=photographs / "run/checkpoints/last.ckpt")


def test_a_checkpoint_whose_settings_do_not_fit_its_tensors_is_named(photographs: Path) -> None:
    go(photographs)
    path = photographs / "run/checkpoints/last.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    for name, value, words in (
        ("model.depth", 4, "tensors do not fit"),
        ("model.features", 10**9, "far more than its tensors hold"),
        ("model", "Nothing", "Nothing"),
    ):
        torch.save({**checkpoint, "settings": checkpoint["settings"] | {name: value}}, path)
        with pytest.raises(UserError, match=rf"last.ckpt: .*{words}"):
            load_any(path)
    torch.save({**checkpoint, "state_dict": {"network.body.0.weight": 1}}, path)
    with pytest.raises(UserError, match=r"last.ckpt: .*tensors"):
        load_any(path)
