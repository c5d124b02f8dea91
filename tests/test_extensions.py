"""Networks, degradations and losses of a package of the user's own, from training to the last command."""

import json
import os
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import restore
from restore import evaluate, export, infer
from restore.checkpoint import load_weights
from restore.data.degradation import from_description
from restore.errors import UserError
from restore.extensions import load, packages
from restore.images.io import read_image, write_image
from restore.models import RestorationNetwork
from restore.models.fold import fold

PACKAGE = """
import os
from dataclasses import dataclass

import torch
from torch import nn

from restore.data.degradation import Degradation
from restore.models import RestorationNetwork


class Plain(RestorationNetwork):
    def __init__(self, width: int = 4, channels: int = 1) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, channels, 3,
            padding=1))
        self.steps = 0

    def forward(self, degraded):
        self.steps += self.training
        if self.steps == int(os.environ.get("KILLED_AT", 0)) > 0:
            os._exit(9)
        return degraded - self.layers(degraded)


@dataclass(frozen=True)
class Stripes(Degradation):
    strength: float = 10.0
    rows: int = 2

    def __call__(self, clean, draws):
        degraded = clean.clone()
        degraded[..., :: self.rows, :] += self.strength / 255
        return degraded

    @property
    def label(self):
        return f"stripes {self.strength:g}"


def cubed(restored, clean):
    return (restored - clean).abs().pow(3).flatten(1).mean(1)
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A folder with `myown.py` and a run that was killed and resumed; what the second start said."""
    folder = tmp_path_factory.mktemp("extension")
    (folder / "myown.py").write_text(PACKAGE)
    random = np.random.default_rng(0)
    for name in ("a", "b"):
        write_image(folder / f"photos/{name}.png", random.integers(0, 256, (32, 36, 1), np.uint8))
    command = (
        "-m restore.train --model myown.Plain --data.degradation myown.Stripes --data.degradation.strength 30 "
        "--optim.loss myown.cubed --optim.optimizer muon --optim.schedule constant --trainer.max_steps 6 "
        f"--data.train {folder}/photos --data.val {folder}/photos --data.patch_size 12 --data.batch_size 2 "
        "--data.steps_per_epoch 3 --checkpoint_every 1 --trainer.accelerator cpu --trainer.enable_progress_bar false "
    ).split()
    paths = os.pathsep.join([str(folder), str(Path(__file__).parents[1])])
    environment = {**os.environ, "PYTHONPATH": paths, "RESTORE_EXTENSIONS": "myown", "OMP_NUM_THREADS": "1"}

    def start(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-W", "ignore", *command, *words],
            env=environment | variables,
            capture_output=True,
            text=True,
            check=False,
        )

    undisturbed = start("--output", str(folder / "whole"))
    assert undisturbed.returncode == 0, undisturbed.stderr
    assert start("--output", str(folder / "run"), KILLED_AT="5").returncode == 9
    resumed = start("--output", str(folder / "run"), "--resume", "auto")
    assert resumed.returncode == 0, resumed.stderr
    return folder, resumed


@pytest.fixture
def weights(trained: tuple[Path, object], monkeypatch: pytest.MonkeyPatch) -> Path:
    """The run's weights file, in a process that may import its package."""
    monkeypatch.syspath_prepend(trained[0])
    monkeypatch.setenv("RESTORE_EXTENSIONS", "myown")
    return trained[0] / "run/weights.safetensors"


def test_a_killed_run_is_resumed_to_the_same_weights_and_its_memory_is_forecast(
    trained: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    folder, resumed = trained
    assert "this run needs about" in resumed.stderr
    whole, run = (load_file(folder / name / "weights.safetensors") for name in ("whole", "run"))
    assert all(torch.equal(tensor, run[name]) for name, tensor in whole.items())
    summary = json.loads((folder / "run/summary.json").read_text())
    assert summary["network"] == {"name": "myown:Plain", "arguments": {"width": 4, "channels": 1}}
    assert summary["degradation"]["class_path"] == "myown:Stripes"
    assert summary["optim"]["loss"] == "myown.cubed"


def test_without_the_variable_the_file_says_which_to_set_and_nothing_is_imported(
    trained: tuple[Path, object],
) -> None:
    folder, _ = trained
    script = f"import restore; restore.load({str(folder / 'run/weights.safetensors')!r})"
    paths = os.pathsep.join([str(folder), str(Path(__file__).parents[1])])
    environment = {**os.environ, "PYTHONPATH": paths}
    failed = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False
    )
    message = failed.stderr.splitlines()[-1]
    assert (
        "weights.safetensors: myown:Plain: to import it, add myown to the environment variable RESTORE_EXT" in message
    )


def test_it_is_evaluated_at_the_degradation_that_it_states(weights: Path, tmp_path: Path) -> None:
    photos = str(weights.parents[1] / "photos")
    asked = ["--weights", str(weights), "--data", photos, "--json", str(tmp_path / "rows.json")]
    assert evaluate.main(asked) == 0
    rows = json.loads((tmp_path / "rows.json").read_text())["rows"]
    assert [(row["degradation"], row["sigma"]) for row in rows] == [("stripes 30", None)] * 2
    assert evaluate.main([*asked, "--degradation", "myown.Stripes", "--degradation.strength", "5"]) == 0
    rows = json.loads((tmp_path / "rows.json").read_text())["rows"]
    assert rows[0]["degradation"] == "stripes 5"
    half_of_the_rows = 20 * np.log10(255 / 5) + 10 * np.log10(2)
    assert rows[0]["psnr"] == pytest.approx(half_of_the_rows)


def test_it_restores_folders_and_is_folded_and_exported(weights: Path, tmp_path: Path) -> None:
    network = restore.load(weights)
    assert type(network).__name__ == "Plain"
    folded = fold(network)
    x = torch.rand(1, 1, 16, 16)
    torch.testing.assert_close(folded(x), network(x), rtol=1e-4, atol=1e-5)
    photos = str(weights.parents[1] / "photos")
    assert infer.main(["--input", photos, "--output", str(tmp_path), "--weights", str(weights)]) == 0
    assert read_image(tmp_path / "a.png").shape == (32, 36, 1)
    pytest.importorskip("onnxruntime")
    assert export.main([str(weights), "--format", "onnx", "--output", str(tmp_path / "x.onnx")]) == 0


def test_it_runs_in_int8_judged_at_its_own_degradation(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("nncf")
    photos = str(weights.parents[1] / "photos")
    assert evaluate.main(["--weights", str(weights), "--data", photos, "--precision", "int8"]) == 0
    assert "against fp32, at stripes 30" in capsys.readouterr().out


def test_a_network_defined_in_the_running_program_needs_no_variable() -> None:
    class Here(RestorationNetwork):
        channels = 1

        def __init__(self, width: int = 2, **more: int) -> None:
            super().__init__()
            self.convolution = torch.nn.Conv2d(1, 1, 1)

        def forward(self, degraded: torch.Tensor) -> torch.Tensor:
            return self.convolution(degraded)

    network = Here(3, other=7)
    assert network.spec.arguments == {"width": 3, "other": 7}
    assert type(restore.models.build(network.spec)) is Here


def test_a_network_without_arguments_is_rebuilt_from_its_name() -> None:
    class Copy(RestorationNetwork):
        channels = 1

        def forward(self, degraded: torch.Tensor) -> torch.Tensor:
            return degraded

    assert Copy().spec.arguments == {}
    assert type(restore.models.build(Copy().spec)) is Copy


def test_what_an_allowed_module_has_imported_is_not_allowed_with_it() -> None:
    for name, home in (("os.system", os.system.__module__), ("shutil.rmtree", "shutil")):
        with pytest.raises(UserError, match=f"store:{name}: to import it, add {home} to the environment variable"):
            load(f"restore.data.store:{name}")


def test_packages_may_be_separated_by_spaces_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESTORE_EXTENSIONS", "mine, collections ,")
    assert packages() == ["mine", "collections"]
    assert load("collections.OrderedDict") is OrderedDict


def test_what_is_no_degradation_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"evil:Thing: to import it, add evil to the environment variable"):
        from_description({"class_path": "evil:Thing"})
    monkeypatch.setenv("RESTORE_EXTENSIONS", "collections")
    with pytest.raises(UserError, match="unknown degradation"):
        from_description({"class_path": "collections:OrderedDict"})


def test_weights_of_a_missing_package_are_one_line(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESTORE_EXTENSIONS", "gone")
    with pytest.raises(UserError, match=r"gone:Net: cannot be imported \(No module named 'gone'\)"):
        restore.models.build(restore.models.NetworkSpec("gone:Net", {}))
    assert load_weights(weights).degradation["class_path"] == "myown:Stripes"
