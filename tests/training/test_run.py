"""Training runs: what they leave behind, and that stopping them changes nothing."""

import json
import logging
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.loggers import CSVLogger
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn

import restore
from restore import hardware, train
from restore.data.degradation import GaussianNoise
from restore.errors import UserError
from restore.hardware import Hardware
from restore.images.io import read_image, write_image
from restore.inference import tiling
from restore.models import EDSR, DnCNN, Normalization, RestorationNetwork
from restore.models.norm import ConvNorm
from restore.training import Optimization, PatchData, fit
from restore.training.callbacks import BestCheckpoint

TINY = partial(DnCNN, depth=3, features=4)
QUIET = {"accelerator": "cpu", "enable_progress_bar": False}


@pytest.fixture
def photographs(photographs: Path) -> Path:
    """With two more validation images."""
    random = np.random.default_rng(1)
    for name in ("val/y", "val/z"):
        write_image(photographs / f"{name}.png", random.integers(0, 256, (32, 36, 1), np.uint8))
    return photographs


def data(folder: Path, **settings: Any) -> PatchData:
    defaults = {"patch_size": 12, "batch_size": 4, "steps_per_epoch": 5}
    return PatchData(str(folder / "train"), str(folder / "val"), **defaults | settings)


def test_a_run_folder_holds_all_that_is_needed_to_judge_repeat_and_use_it(photographs: Path) -> None:
    output = photographs / "run"
    returned = fit(
        TINY(), data(photographs), Optimization(), output, trainer={**QUIET, "max_steps": 10}, config="a: 1\n"
    )
    summary = json.loads((output / "summary.json").read_text())
    assert summary == json.loads(json.dumps(returned))
    assert (output / "config.yaml").read_text() == "a: 1\n"
    assert "train/loss" in (output / "csv/version_0/metrics.csv").read_text()
    (events,) = (output / "tensorboard").glob("events*")
    log = EventAccumulator(str(events)).Reload()
    assert [image.step for image in log.Images("samples")] == [5, 10]
    assert {path.name for path in (output / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt", "previous.ckpt"}
    assert [path.name for path in sorted((output / "samples").iterdir())] == ["step-0000005.png", "step-0000010.png"]
    assert read_image(output / "samples/step-0000005.png").shape[0] > 3 * 32

    assert summary["steps"] == 10
    assert [row["model"] for row in summary["results"]] == ["baseline", "restored"]
    assert {row["protocol"] for row in summary["results"]} == {"denoise-gray"}
    assert {"images_per_s", "data_wait_share", "peak_rss_mib", "best_step", "seed", "provenance"} <= summary.keys()
    network = restore.load(output / "weights.safetensors")
    assert not network.training
    assert summary["parameters"] == sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize(("made", "found"), [
    (lambda image: image[..., ::2, ::2], r"\(1, 1, 8, 8\)"), (lambda image: (image, image), "a tuple"),
])  # fmt: skip
def test_a_network_whose_output_has_another_shape_is_refused_before_training(
    photographs: Path, made: Callable[[Tensor], Any], found: str
) -> None:
    class Wrong(RestorationNetwork):
        def __init__(self, channels: int = 1) -> None:
            super().__init__()
            self.gain = nn.Parameter(torch.ones(1))

        def forward(self, degraded: Tensor) -> Any:
            return made(self.gain * degraded)

    with pytest.raises(UserError, match=rf"Wrong: for an input of \(1, 1, 16, 16\) expected .*, found {found}$"):
        fit(Wrong(), data(photographs), Optimization(), photographs / "run", trainer=QUIET)


def test_a_network_without_channels_is_refused_before_training(photographs: Path) -> None:
    class Nameless(RestorationNetwork):
        def __init__(self) -> None:
            super().__init__()
            self.gain = nn.Parameter(torch.ones(1))

        def forward(self, degraded: Tensor) -> Tensor:
            return self.gain * degraded

    with pytest.raises(UserError, match=r"Nameless: the attribute channels is missing, 1 \(gray\) or 3 \(RGB\)"):
        fit(Nameless(), data(photographs), Optimization(), photographs / "run", trainer=QUIET)


def test_validation_is_tiled_where_memory_is_short(photographs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def results(name: str) -> tuple[list[float], set[torch.Size]]:
        torch.manual_seed(0)
        network = TINY(norm="none")
        sizes = set()

        def note(module: DnCNN, args: tuple[Tensor]) -> None:
            if not module.training and args[0].shape[2] > 16:  # smaller is what the network's needs are found out with
                sizes.add(args[0].shape[2:])

        network.register_forward_pre_hook(note)
        optim, trainer = Optimization(), {**QUIET, "max_steps": 5, "num_sanity_val_steps": 0}
        summary = fit(network, data(photographs), optim, photographs / name, trainer=trainer)
        return [summary["last"]["val/psnr"], summary["results"][1]["psnr"]], sizes

    whole, sizes = results("whole")
    assert sizes == {(32, 36)}
    monkeypatch.setattr(tiling, "free_memory", lambda _: 0)
    tiles, sizes = results("tiles")
    assert sizes == {(19, 21)}  # two of either for what lies inside of the halo of 3, which is added again
    assert tiles == pytest.approx(whole, abs=1e-3)


def test_a_run_limited_by_time_alone_ends_or_names_what_its_schedule_needs(photographs: Path) -> None:
    limited = {**QUIET, "max_steps": -1, "max_time": {"seconds": 2}}
    summary = fit(TINY(), data(photographs), Optimization(optimizer="muon"), photographs / "run", trainer=limited)
    assert summary["steps"] > 0
    with pytest.raises(UserError, match=r"optim\.schedule cosine needs to know how many steps"):
        fit(TINY(), data(photographs), Optimization(schedule="cosine"), photographs / "other", trainer=limited)


def test_the_kept_weights_are_those_of_the_best_validation(photographs: Path) -> None:
    output = photographs / "run"
    optim = Optimization(lr=0.05, schedule="constant")
    summary = fit(TINY(), data(photographs), optim, output, trainer={**QUIET, "max_steps": 30})
    lines = (output / "csv/version_0/metrics.csv").read_text().splitlines()
    header = lines[0].split(",")
    table = [dict(zip(header, line.split(","), strict=True)) for line in lines[1:]]
    psnrs = {int(row["step"]) + 1: float(row["val/psnr"]) for row in table if row["val/psnr"]}
    assert len(psnrs) == 6
    assert summary["best_step"] == max(psnrs, key=lambda step: psnrs[step])
    assert summary["results"][1]["psnr"] == pytest.approx(max(psnrs.values()), abs=1e-3)


def test_a_library_call_leaves_threads_and_the_allocator_as_they_were(
    photographs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "MALLOPT", None)  # so that `keep_pages` would fail
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        trainer, chosen = {**QUIET, "max_steps": 1}, Hardware(threads=1)
        fit(TINY(), data(photographs), Optimization(), photographs / "run", trainer=trainer, hardware=chosen)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_the_command_lets_the_allocator_keep_pages_unless_told_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = []
    monkeypatch.setattr("restore.hardware.keep_pages", lambda: kept.append(True))
    monkeypatch.setattr("restore.training.fit", lambda *_, **__: {})
    assert train.main(["--output", str(tmp_path), "--hardware.keep_pages", "false"]) == 0
    assert kept == []
    assert train.main(["--output", str(tmp_path)]) == 0
    assert kept == [True]


class Kill(Callback):
    """Ends the process as `kill -9` does, when a step is about to begin."""

    def __init__(self, step: int) -> None:
        self._step = step

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == self._step:
            os.kill(os.getpid(), signal.SIGKILL)


def fourteen_steps(folder: Path, name: str, ema_decay: float, resume: str | None, kill_at: int) -> None:
    torch.manual_seed(0)
    optim = Optimization(schedule="onecycle", lr=0.01, ema_decay=ema_decay)
    trainer = {**QUIET, "max_steps": 14, "callbacks": [Kill(kill_at)]}
    fit(TINY(), data(folder), optim, folder / name, trainer=trainer, resume=resume, checkpoint_every=3)


@pytest.mark.parametrize(("ema_decay", "kill_at"), [(0.0, 9), (0.9, 9), (0.9, 5)])
def test_a_killed_and_resumed_run_ends_with_the_weights_of_an_undisturbed_one(
    photographs: Path, ema_decay: float, kill_at: int
) -> None:
    fourteen_steps(photographs, "undisturbed", ema_decay, None, kill_at=-1)
    killed = multiprocessing.get_context("spawn").Process(
        target=fourteen_steps, args=(photographs, "killed", ema_decay, None, kill_at)
    )
    killed.start()
    killed.join()
    assert killed.exitcode == -signal.SIGKILL
    assert not (photographs / "killed/weights.safetensors").exists()
    fourteen_steps(photographs, "killed", ema_decay, "auto", kill_at=-1)

    for file in ("checkpoints/last.ckpt", "checkpoints/best.ckpt"):
        states = [torch.load(photographs / name / file, weights_only=True) for name in ("undisturbed", "killed")]
        assert states[0]["global_step"] == states[1]["global_step"]
        for key in {"state_dict", "current_model_state"} & states[0].keys():
            assert all(torch.equal(states[0][key][name], states[1][key][name]) for name in states[0][key])
    weights = [load_file(photographs / name / "weights.safetensors") for name in ("undisturbed", "killed")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_a_run_that_is_resumed_counts_all_its_steps_and_their_time(
    photographs: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "restore")
    counted = []
    for steps in (5, 10, 10, 2):  # the last two starts find the run at its end
        trainer = {**QUIET, "max_steps": steps}
        summary = fit(TINY(), data(photographs), Optimization(), photographs / "run", trainer=trainer, resume="auto")
        counted.append(summary["images_per_s"] * summary["elapsed_s"] / data(photographs).batch_size)
    assert counted == pytest.approx([5, 10, 10, 10])
    finished = [message for message in caplog.messages if "nothing was trained" in message]
    assert finished == [f"already finished: {steps} steps; nothing was trained" for steps in ("10 of 10", "10")]


def test_a_run_of_one_cycle_that_has_ended_is_not_made_longer(photographs: Path) -> None:
    go = partial(fit, TINY(), data(photographs), Optimization(schedule="onecycle"), photographs / "run", resume="auto")
    go(trainer={**QUIET, "max_steps": 6})
    with pytest.raises(UserError, match="the learning rates of the first 6 steps would differ from those they had"):
        go(trainer={**QUIET, "max_steps": 9})
    assert go(trainer={**QUIET, "max_steps": 6})["steps"] == 6


def test_a_run_that_was_moved_goes_on_with_its_best_weights(photographs: Path) -> None:
    optim = Optimization(lr=1e-9, schedule="constant")  # nothing is learnt; later scores differ in digits at most
    fit(TINY(), data(photographs), optim, photographs / "run", trainer={**QUIET, "max_steps": 5})
    last = photographs / "moved/checkpoints/last.ckpt"
    (photographs / "run").rename(photographs / "moved")
    state = torch.load(last, weights_only=True)
    (key,) = (key for key in state["callbacks"] if key.startswith("BestCheckpoint"))
    state["callbacks"][key]["best_model_score"] = torch.tensor(99.0)  # never reached again
    torch.save(state, last)
    trainer = {**QUIET, "max_steps": 10}
    summary = fit(TINY(), data(photographs), optim, photographs / "moved", trainer=trainer, resume="auto")
    assert (summary["weights"], summary["best_step"], summary["steps"]) == ("best", 5, 10)


def test_a_checkpoint_cannot_name_files_to_load_or_delete(tmp_path: Path) -> None:
    best = BestCheckpoint(tmp_path / "checkpoints" / "best.ckpt")
    foreign, score = str(tmp_path / "checkpoints/../precious"), torch.tensor(30.0)
    state = {"dirpath": best.dirpath, "best_model_score": score, "kth_value": score, "best_k_models": {foreign: score}}
    state |= dict.fromkeys(("best_model_path", "kth_best_model_path", "last_model_path"), foreign)
    best.load_state_dict(state)
    assert (best.best_model_path, best.best_model_score) == ("", None)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints/best.ckpt").touch()
    best.load_state_dict(state)
    own = str(tmp_path / "checkpoints/best.ckpt")
    assert (best.best_model_path, best.best_model_score) == (own, score)
    assert foreign not in str(best.state_dict())


def test_averaged_weights_under_fsdp_are_refused_in_one_line(photographs: Path) -> None:
    sharded = {**QUIET, "max_steps": 5, "strategy": "fsdp", "devices": 1, "accelerator": "cpu"}
    with pytest.raises(UserError, match="ema_decay needs whole weights"):
        fit(TINY(), data(photographs), Optimization(ema_decay=0.5), photographs / "run", trainer=sharded)


def test_averaged_weights_average_running_statistics_too(photographs: Path) -> None:
    optim = Optimization(ema_decay=0.5)
    fit(TINY(), data(photographs), optim, photographs / "run", trainer={**QUIET, "max_steps": 5})
    state = torch.load(photographs / "run/checkpoints/last.ckpt", weights_only=True)
    name = "network.body.2.norm.running_mean"
    averaged, current = state["state_dict"][name], state["current_model_state"][name]
    assert not torch.equal(averaged, current)
    assert averaged.abs().sum() > 0


RECORDER = """
from pathlib import Path
import torch
from pytorch_lightning import Callback

class Recorder(Callback):
    def __init__(self, folder: str):
        self.folder = Path(folder)
    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        torch.save(batch.clean, self.folder / f"batch-{trainer.global_rank}-{trainer.global_step}.pt")
    def on_train_end(self, trainer, module):
        torch.save([p.detach() for p in module.parameters()], self.folder / f"weights-{trainer.global_rank}.pt")
"""


def test_two_processes_train_on_different_shards_to_identical_weights(photographs: Path) -> None:
    (photographs / "recorder.py").write_text(RECORDER)
    callback = {"class_path": "recorder.Recorder", "init_args": {"folder": str(photographs)}}
    args = (
        f"--model.depth 3 --model.features 4 --data.train {photographs}/train --data.val {photographs}/val "
        "--data.patch_size 12 --data.batch_size 4 --data.steps_per_epoch 3 --trainer.max_steps 3 "
        "--optim.schedule constant --trainer.accelerator cpu --trainer.devices 2 --trainer.strategy ddp "
        "--trainer.enable_progress_bar false "
        f"--output {photographs}/run"
    ).split()
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "restore.train",
        *args,
        "--trainer.callbacks",
        json.dumps([callback]),
    ]
    paths = os.pathsep.join([str(photographs), str(Path(__file__).parents[2])])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "RESTORE_EXTENSIONS": "recorder"}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    for step in (1, 2, 3):
        batches = [torch.load(photographs / f"batch-{rank}-{step}.pt") for rank in (0, 1)]
        assert batches[0].shape == (2, 1, 12, 12)
        assert not torch.equal(*batches)
    weights = [torch.load(photographs / f"weights-{rank}.pt") for rank in (0, 1)]
    assert all(torch.equal(a, b) for a, b in zip(*weights, strict=True))
    summary = json.loads((photographs / "run/summary.json").read_text())
    assert summary["ranks"] == 2
    assert summary["last"]["val/psnr"] == pytest.approx(summary["results"][1]["psnr"], abs=1e-3)  # 3 images on 2 ranks


def test_a_diverging_run_stops_by_name_and_keeps_its_last_good_checkpoint(
    photographs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = photographs / "run"
    fit(TINY(), data(photographs), Optimization(), output, trainer={**QUIET, "max_steps": 5})
    network = TINY(norm="none")
    torch.nn.init.constant_(network.body[0].weight, 1e30)
    with pytest.raises(
        UserError,
        match=r"the loss is not finite at step 0 \(learning rate 0\.001; seed 0, images .*\); there is no checkpoint",
    ):
        fit(network, data(photographs), Optimization(), photographs / "bad", trainer={**QUIET, "max_steps": 5})

    good = (output / "checkpoints/last.ckpt").read_bytes()

    monkeypatch.setattr(GaussianNoise, "__call__", lambda _self, clean, _draws: clean * torch.nan)
    with pytest.raises(UserError, match=r"not finite at step 5 .*the last good checkpoint is .*last\.ckpt"):
        fit(TINY(), data(photographs), Optimization(), output, trainer={**QUIET, "max_steps": 10}, resume="auto")
    assert (output / "checkpoints/last.ckpt").read_bytes() == good


class Deletes(Callback):
    """Deletes the folder of the run."""

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        shutil.rmtree(trainer.default_root_dir, ignore_errors=True)


def test_a_run_whose_folder_is_deleted_ends_with_the_name_of_what_is_missing(photographs: Path) -> None:
    output = photographs / "run"
    trainer = {**QUIET, "max_steps": 10, "callbacks": [Deletes()], "logger": CSVLogger(output, "csv")}
    with pytest.raises(UserError, match=r"run/csv.*: No such file or directory; there is no checkpoint"):
        fit(TINY(), data(photographs), Optimization(), output, trainer=trainer)


def test_what_a_run_killed_in_the_middle_of_saving_has_left_is_deleted_as_it_is_resumed(photographs: Path) -> None:
    checkpoints = photographs / "run/checkpoints"
    checkpoints.mkdir(parents=True)
    left = checkpoints / ".last.ckpt.0123abcd", checkpoints / ".best.ckpt.0123abcd", checkpoints.parent / ".mine"
    for file in left:
        file.touch()
    trainer = {**QUIET, "max_steps": 1}
    fit(TINY(), data(photographs), Optimization(), photographs / "run", trainer=trainer, resume="auto")
    assert [file.exists() for file in left] == [False, False, True]


def test_a_folder_that_holds_a_run_is_not_trained_into_again(photographs: Path) -> None:
    go = partial(fit, TINY(), data(photographs), Optimization(), photographs / "run", trainer={**QUIET, "max_steps": 5})
    go()
    with pytest.raises(UserError, match="already contains a run; --resume auto continues it"):
        go()
    assert go(resume="auto")["steps"] == 5
    with pytest.raises(UserError, match=r"gone\.ckpt: no such checkpoint"):
        go(resume="gone.ckpt")


def test_that_the_best_weights_stay_in_another_runs_folder_is_said(
    photographs: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def go(name: str, steps: int, resume: str) -> None:
        trainer = {**QUIET, "max_steps": steps}
        fit(TINY(), data(photographs), Optimization(), photographs / name, trainer=trainer, resume=resume)

    last = photographs / "first/checkpoints/last.ckpt"
    go("first", 5, "auto")
    with caplog.at_level(logging.INFO):
        go("first", 6, str(last))
        assert "from here on only" not in caplog.text
        go("second", 10, str(last))
    kept = photographs / "second/checkpoints"
    assert f"Resuming from {last}; {kept} keeps the best weights of validations from here on only" in caplog.text


def test_bad_data_are_an_error_before_training(photographs: Path) -> None:
    def start(**settings: Any) -> None:
        fit(
            TINY(),
            data(photographs, **settings),
            Optimization(),
            photographs / "run",
            trainer={**QUIET, "max_steps": 5},
        )

    (photographs / "val/broken.png").write_text("no image")
    with pytest.raises(UserError, match=r"broken\.png: not a readable image"):
        start()
    for path in (photographs / "val").iterdir():
        path.unlink()
    with pytest.raises(UserError, match="val: no image found"):
        start()
    with pytest.raises(UserError, match="batch_size must be at least 1"):
        start(batch_size=0)
    with pytest.raises(UserError, match="has scale 1, but the network has scale 2"):
        fit(
            EDSR(blocks=1, features=4),
            data(photographs, degradation=GaussianNoise()),
            Optimization(),
            photographs / "run",
            trainer=QUIET,
        )
    assert not (photographs / "run").exists()


def test_a_network_whose_weights_nobody_has_set_is_refused(photographs: Path) -> None:
    class Unset(RestorationNetwork):
        def __init__(self, initial: bool, channels: int = 1) -> None:
            super().__init__()
            self.body = ConvNorm(channels, channels, Normalization("weight"))
            if initial:
                nn.init.zeros_(self.body.conv.bias)
                self.body.conv.weight = torch.full((1, 1, 3, 3), 0.1)

        def forward(self, degraded: Tensor) -> Tensor:
            return degraded - self.body(degraded)

    go = partial(fit, data=data(photographs), optim=Optimization(), trainer={**QUIET, "max_steps": 1})
    with pytest.raises(UserError, match=r"Unset: body\.conv\.bias was never initialized: call restore\.models\.init"):
        go(Unset(initial=False), output=photographs / "run")
    assert not (photographs / "run").exists()
    assert go(Unset(initial=True), output=photographs / "run", checkpoint_every=1)["steps"] == 1


def test_flags_reach_network_data_optimizer_and_trainer(photographs: Path) -> None:
    args = (
        f"--model.norm group --model.depth 3 --model.features 4 --data.train {photographs}/train --data.patch_size 8 "
        f"--data.val {photographs}/val --data.degradation Jpeg --data.degradation.quality [10,40] "
        "--data.steps_per_epoch 2 --optim.optimizer sgd --optim.lr 1e-5 --optim.schedule cosine --seed 3 "
        "--trainer.max_steps 4 --trainer.accumulate_grad_batches 2 --trainer.gradient_clip_val 1 "
        "--trainer.precision bf16-mixed --trainer.accelerator cpu --trainer.enable_progress_bar false "
        f"--output {photographs}/run"
    ).split()
    transforms = [{"class_path": "albumentations.RandomBrightnessContrast", "init_args": {"p": 1.0}}]
    assert train.main([*args, "--data.transforms", json.dumps(transforms), "--data.workers", "1"]) == 0
    summary = json.loads((photographs / "run/summary.json").read_text())
    assert summary["network"]["arguments"]["norm"] == "group"
    settings = {"quality": [10, 40], "subsampling": "4:2:0", "cropped": False}
    assert summary["degradation"] == {"class_path": "Jpeg", "init_args": settings}
    assert (summary["optim"]["optimizer"], summary["optim"]["lr"], summary["seed"]) == ("sgd", 1e-5, 3)
    assert (summary["precision"], summary["steps"]) == ("bf16-mixed", 4)
    config = yaml.safe_load((photographs / "run/config.yaml").read_text())
    assert config["model"]["init_args"]["norm"] == "group"
    assert config["trainer"]["accumulate_grad_batches"] == 2


@pytest.mark.parametrize(
    ("setting", "value", "complaint"),
    [
        ("limit_train_batches", 2, "does not apply: an epoch has data.steps_per_epoch"),
        ("limit_train_batches", 0, "does not apply: an epoch has data.steps_per_epoch"),
        ("overfit_batches", 2, "does not apply: an epoch has data.steps_per_epoch"),
        ("reload_dataloaders_every_n_epochs", 1, "does not apply: each epoch has batches of its own"),
        ("val_check_interval", 7000, r"7000 must divide an epoch, which has \d+ batches"),
        ("val_check_interval", 0.4, r"0\.4 must divide an epoch, which has \d+ batches"),
        ("precision", "64-true", "64-true: weights stay in float32; use 32-true, bf16-mixed or 16-mixed"),
    ],
)
def test_settings_of_the_trainer_that_do_not_apply_are_refused(
    photographs: Path, setting: str, value: object, complaint: str
) -> None:
    with pytest.raises(UserError, match=f"trainer.{setting} {complaint}"):
        fit(TINY(), data(photographs), Optimization(), photographs / "run", trainer={setting: value})


SIGNALED = """
import os, signal
from torch.utils.data import Dataset
from restore.training.loaders import TrainLoader
class Numbers(Dataset):
    def __getitem__(self, step): return step
signal.signal(signal.SIGTERM, lambda *_: None)
found = []
for number in TrainLoader(Numbers(), 50, workers=1):
    found.append(int(number))
    if number == 3:
        os.killpg(0, signal.SIGTERM)
print(found == list(range(50)))
"""


def test_workers_outlive_a_signal_to_the_whole_group() -> None:
    args = [sys.executable, "-c", SIGNALED]
    done = subprocess.run(args, capture_output=True, text=True, check=False, start_new_session=True)
    assert done.stdout == "True\n", done.stderr
