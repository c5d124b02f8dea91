"""Several processes on one task: the same weights and the same scores as one process, and no orphans when one dies."""

import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.utilities import rank_zero_only
from safetensors.torch import load_file
from torch import Tensor

from restore import evaluate
from restore.checkpoint import Weights, save_weights
from restore.data.degradation import DnCNN3Mixture, GaussianNoise
from restore.errors import UserError
from restore.images.io import write_image
from restore.models import DnCNN
from restore.training import Optimization, PatchData, fit

STEPS = 6
TIMEOUT_S = 300


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Training and validation images as in real folders, small."""
    folder = tmp_path_factory.mktemp("photographs")
    random = np.random.default_rng(0)
    for name in ("train/a", "train/b", "val/x", "val/y", "val/z"):
        write_image(folder / f"{name}.png", random.integers(0, 256, (32, 36, 1), np.uint8))
    return folder


def train(folder: Path, name: str, strategy: str = "ddp", resume: str | None = None, **settings: Any) -> None:
    """A run on all the processes that the environment tells of."""
    torch.manual_seed(0)
    settings = {"norm": "none", "ema_decay": 0.0, "max_steps": STEPS, "batch_size": 8, "sync": False} | settings
    network = DnCNN(depth=3, features=4, norm=settings["norm"])
    sizes = {"patch_size": 12, "batch_size": settings["batch_size"], "steps_per_epoch": 3}
    data = PatchData(str(folder / "train"), str(folder / "val"), degradation=DnCNN3Mixture(), **sizes)
    trainer = {
        "accelerator": "cpu",
        "devices": int(os.environ.get("WORLD_SIZE", "1")),
        "strategy": strategy,
        "precision": "32-true",
        "max_steps": settings["max_steps"],
        "sync_batchnorm": settings["sync"],
        "enable_progress_bar": False,
        "callbacks": settings.get("callbacks", []),
    }
    optim = Optimization(lr=0.01, ema_decay=settings["ema_decay"])
    fit(network, data, optim, folder / name, trainer=trainer, resume=resume)


def as_rank(rank: int, ranks: int, port: int, work: Callable[[], None]) -> None:
    """What torchrun does before it starts a process."""
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(ranks), LOCAL_WORLD_SIZE=str(ranks))
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), TORCHELASTIC_RUN_ID="test")
    rank_zero_only.rank = rank  # which Lightning reads from the environment when it is imported: before the fork
    torch.set_num_threads(1)
    work()


def on_ranks(ranks: int, work: Callable[[], Any]) -> None:
    """`work` done by several processes at once; they start fast, since they fork from one that has imported all."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["restore.train", "restore.evaluate"])
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    processes = [context.Process(target=as_rank, args=(rank, ranks, port, work)) for rank in range(ranks)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(TIMEOUT_S)
        process.kill()
    assert [process.exitcode for process in processes] == [0] * ranks


def weights(folder: Path, name: str) -> dict[str, Tensor]:
    return load_file(folder / name / "weights.safetensors")


def difference(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    assert one.keys() == other.keys()
    worst = max(float((one[name].double() - other[name]).abs().max()) for name in one)
    print(f"weights differ by at most {worst:.1e}")
    return worst


@pytest.fixture(scope="module")
def alone(photographs: Path) -> dict[str, Tensor]:
    """Weights after `STEPS` steps in one process."""
    on_ranks(1, partial(train, photographs, "alone", "auto"))
    return weights(photographs, "alone")


@pytest.mark.parametrize(("ranks", "strategy"), [(2, "ddp"), (4, "ddp"), (4, "fsdp")])
def test_any_number_of_processes_trains_to_the_weights_of_one(
    ranks: int, strategy: str, photographs: Path, alone: dict[str, Tensor]
) -> None:
    name = f"{strategy}{ranks}"
    on_ranks(ranks, partial(train, photographs, name, strategy))
    assert difference(weights(photographs, name), alone) < 1e-6
    summaries = [json.loads((photographs / run / "summary.json").read_text()) for run in (name, "alone")]
    assert [summary["ranks"] for summary in summaries] == [ranks, 1]
    assert summaries[0]["last"] == pytest.approx(summaries[1]["last"], abs=1e-4)


def test_a_sharded_run_is_resumed_from_a_whole_checkpoint_by_more_processes(
    photographs: Path, alone: dict[str, Tensor]
) -> None:
    on_ranks(2, partial(train, photographs, "halves", "fsdp", max_steps=3))
    state = torch.load(photographs / "halves/checkpoints/last.ckpt", weights_only=True)["state_dict"]
    assert {name.removeprefix("network."): tensor.shape for name, tensor in state.items() if "network" in name} == {
        name: tensor.shape for name, tensor in alone.items()
    }
    on_ranks(4, partial(train, photographs, "halves", "fsdp", resume="auto"))
    assert difference(weights(photographs, "halves"), alone) < 1e-6


def test_batch_norm_sees_each_process_s_patches_alone(photographs: Path) -> None:
    on_ranks(1, partial(train, photographs, "bn1", "auto", norm="batch"))
    on_ranks(2, partial(train, photographs, "bn2", norm="batch"))
    assert difference(weights(photographs, "bn1"), weights(photographs, "bn2")) > 1e-3


def test_a_batch_that_cannot_be_shared_equally_and_synchronized_batch_norm_on_cpus_are_refused(
    photographs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(UserError, match="3 cannot share 8 patches equally, but 6 or 9"):
        train(photographs, "uneven")
    with pytest.raises(UserError, match=r"3 cannot share 2 patches equally, but 3 would work$"):
        train(photographs, "uneven", batch_size=2)
    with pytest.raises(UserError, match="sync_batchnorm: PyTorch supports it on GPUs only"):
        train(photographs, "sync", batch_size=9, sync=True)
    with pytest.raises(UserError, match="sync_batchnorm: PyTorch would replace the norm adadm by plain batch norm"):
        train(photographs, "sync", batch_size=9, sync=True, norm="adadm")


class Die(Callback):
    """Ends one process as a kill or a lack of memory does, in the middle of a run."""

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == 4 and trainer.global_rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)


def test_a_process_that_dies_ends_the_job_with_a_message_and_the_job_resumes(
    photographs: Path, alone: dict[str, Tensor]
) -> None:
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", __file__]
    root = Path(__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        [*launch, str(photographs)], env=environment, capture_output=True, text=True, check=False, timeout=TIMEOUT_S
    )
    assert result.returncode == 1
    assert "Signal 9 (SIGKILL) received by PID" in result.stderr
    assert not (photographs / "killed/weights.safetensors").exists()
    on_ranks(2, partial(train, photographs, "killed", resume="auto"))
    assert difference(weights(photographs, "killed"), alone) < 1e-6


def measure(folder: Path, json_file: str) -> None:
    files = [str(folder / "plain.safetensors"), str(folder / "bn.safetensors")]
    evaluate.main(["--weights", *files, "--data", str(folder / "val"), "--json", str(folder / json_file)])


def test_shared_evaluation_has_the_rows_of_one_process(photographs: Path) -> None:
    for name, norm in (("plain", "none"), ("bn", "batch")):
        network = DnCNN(depth=3, features=4, norm=norm).eval()
        save_weights(photographs / f"{name}.safetensors", Weights(network, GaussianNoise(25.0).description))
    on_ranks(1, partial(measure, photographs, "one.json"))
    on_ranks(2, partial(measure, photographs, "two.json"))
    rows = [json.loads((photographs / name).read_text())["rows"] for name in ("one.json", "two.json")]
    assert len(rows[0]) == 3
    assert rows[0] == rows[1]


if __name__ == "__main__":
    train(Path(sys.argv[1]), "killed", callbacks=[Die()])
