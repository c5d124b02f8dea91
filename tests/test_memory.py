"""python -m restore.memory: what it prints and writes."""

import csv
import json
import re
from pathlib import Path

import pytest
import torch
from skimage.io import imread

from restore import memory_table
from restore.errors import UserError
from restore.memory import main
from restore.memory_table import Steps
from restore.profiling import Memory, Profile, forecast

SMALL = ["--networks", "EDSR-baseline", "--batch", "8", "--patch", "32"]
MIB = 2**20


def test_a_pair_is_judged_and_its_rows_are_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table, document, plot = tmp_path / "rows.csv", tmp_path / "rows.json", tmp_path / "plot.png"
    argv = [*SMALL, "--layers", "--csv", str(table), "--json", str(document), "--plot", str(plot)]
    assert main(argv) == 0
    printed = capsys.readouterr().out

    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert [row["variant"] for row in rows] == ["batch", "batch, recomputed", "none"]
    assert {row["source"] for row in rows} == {"forecast"}
    for row in rows:
        assert sum(int(row[category]) for category in Memory.__dataclass_fields__) == int(row["peak"])
    batch, recomputed, none = (int(row["peak"]) for row in rows)
    assert none < recomputed < batch
    assert f"supported: {(batch - none) / batch:.1%} less memory from batch to none" in printed
    assert f"{recomputed / none:.2f}x the peak of none" in printed

    written = json.loads(document.read_text())
    assert [row["peak"] for row in written["rows"]] == [batch, recomputed, none]
    assert "body.0.body.0.norm" in {layer["name"] for layer in written["rows"][0]["layers"]}
    assert "body.0.body.0.norm" in printed
    assert written["provenance"]["command"]
    assert imread(plot).shape[1] > 600


def test_a_real_step_comes_with_its_time(capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["--networks", "EDSR-baseline", "--batch", "1", "--patch", "8", "--norms", "none", "--device", "cpu"]
    assert main(argv) == 0
    printed = capsys.readouterr().out
    assert "(cpu, fp32; time: real steps of 1 x 8x8 on cpu)" in printed
    assert "1.00x" in printed


def test_a_sweep_shows_the_saving_grow_with_the_batch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "rows.csv"
    argv = ["--networks", "DnCNN-17", "--patch", "16", "--sweep", "batch", "--csv", str(table)]
    assert main([*argv, "--plot", str(tmp_path / "sweep.png")]) == 0
    rows = list(csv.DictReader(table.read_text().splitlines()))
    peaks = {(row["batch"], row["variant"]): int(row["peak"]) for row in rows}
    savings = [1 - peaks[batch, "none"] / peaks[batch, "batch"] for batch in ("1", "4", "16", "64")]
    assert savings == sorted(savings)
    assert f"{savings[-1]:.1%}" in capsys.readouterr().out
    assert imread(tmp_path / "sweep.png").shape[1] > 600


def test_a_sweep_compares_all_norms_with_the_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table, recipe = tmp_path / "rows.csv", tmp_path / "small.yaml"
    recipe.write_text("model: {class_path: DnCNN, init_args: {depth: 3}}\ndata: {batch_size: 2, patch_size: 8}\n")
    argv = ["--networks", str(recipe), "--sweep", "features", "--norms", "none", "instance", "batch"]
    assert main([*argv, "--csv", str(table)]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"instance saves % +batch saves %", printed)
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert {row["variant"] for row in rows} == {"none", "instance", "batch"}
    none, batch = (int(next(row["peak"] for row in rows if row["variant"] == it)) for it in ("none", "batch"))
    assert f"{1 - batch / none:.1%}" in printed


def test_fit_says_what_the_saving_buys(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = tmp_path / "small.yaml"
    recipe.write_text(
        "model: {class_path: EDSR, init_args: {blocks: 3, features: 16}}\ndata: {batch_size: 8, patch_size: 32}\n"
    )
    assert main(["fit", "--budget", "15MiB", "--networks", str(recipe)]) == 0
    printed = capsys.readouterr().out
    assert "what fits in 15MiB" in printed
    lines = [line.split() for line in printed.splitlines()]
    batch, none = ([int(cell) for cell in cells] for norm, *cells in filter(None, lines) if norm in ("batch", "none"))
    assert all(more >= fewer for more, fewer in zip(none, batch, strict=True))
    bought = re.search(r"With batch norm 3 blocks x 16 take \d+ MiB; .* holds (\d+) blocks x 16 or 3 x (\d+)", printed)
    assert bought
    assert int(bought[1]) > 3
    assert int(bought[2]) >= 16


def test_a_device_that_no_step_fits_into_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(memory_table, "available_device", lambda _: torch.device("cuda:0"))
    monkeypatch.setattr(memory_table, "measure", lambda step, _: Profile(step, "cuda", None))
    table = tmp_path / "rows.csv"
    assert main([*SMALL, "--device", "cuda", "--csv", str(table)]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "(cuda, fp32; none fits, so none is timed)" in printed
    assert printed.count("out of memory") == 3
    assert "what the GPU shows" not in printed
    assert [row["peak"] for row in csv.DictReader(table.read_text().splitlines())] == [""] * 3
    with pytest.raises(UserError, match=r"plot\.png: not written, because no training step fits into cuda:0's memory"):
        main([*SMALL, "--device", "cuda", "--plot", str(tmp_path / "plot.png")])


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        (["--networks", "VDSR"], "VDSR: no such recipe; known networks: EDSR-baseline"),
        (["--compile"], "--compile needs --device"),
        (["--layers", "--device", "cpu"], "--layers and --sweep use the forecast; drop --device"),
        (["fit", "--budget", "12 apples"], "--budget: expected a size such as 12GiB"),
        (["fit", "--budget", "1.2.3GiB"], "--budget: expected a size such as 12GiB"),
        (["fit"], "--budget"),
        (["--device", "abacus"], "--device: 'abacus' is not available on this machine"),
        (["--norms", "bach"], "--norms"),
        (
            ["--sweep", "batch", "--norms", "none"],
            "name at least two with --norms, not only none",
        ),
        (["--networks", "ffdnet_gray", "--patch", "41"], "FFDNet: the patch size must be a multiple of 2, not 41"),
    ],
)
def test_a_mistake_is_named(argv: list[str], complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        main(argv)


def test_a_file_that_is_no_recipe_is_named(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("model: 3\n")
    with pytest.raises(UserError, match=r"recipe\.yaml: not a recipe"):
        main(["--networks", str(path)])


def test_what_is_asked_for_takes_the_place_of_the_recipes() -> None:
    steps = Steps(
        ["EDSR-baseline"], ["none"], batch=3, patch=10, scale=4, optimizer="sgd", precision="bf16-mixed",
        channels_last=True, compile=0.5,
    )  # fmt: skip
    step = steps.recipe("EDSR-baseline")
    assert (step.batch, step.patch, step.network.arguments["scale"], step.optimizer) == (3, 10, 4, "sgd")
    assert (step.precision, step.channels_last, step.compile) == ("bf16-mixed", True, 0.5)
    recipe = Steps(["EDSR-baseline"], ["none"]).recipe("EDSR-baseline")
    assert (recipe.batch, recipe.patch, recipe.network.arguments["scale"], recipe.optimizer) == (16, 48, 2, "adam")
    assert "scale" not in Steps(["DnCNN-17"], ["none"], scale=4).recipe("DnCNN-17").network.arguments


def test_a_recipes_own_optimizer_has_its_arguments_and_another_has_not(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(
        "model: {class_path: DnCNN, init_args: {depth: 3, features: 4}}\n"
        "data: {batch_size: 1, patch_size: 8}\n"
        "optim: {optimizer: torch.optim.RMSprop, optimizer_args: {momentum: 0.5, centered: true}}\n"
    )
    tensors_of_state = {}
    for asked in (None, "adam", "sgd"):
        memory = forecast(Steps([str(path)], ["none"], optimizer=asked).recipe(str(path))).memory
        assert memory is not None
        tensors_of_state[asked] = round(memory.optimizer / memory.parameters)
    assert tensors_of_state == {None: 3, "adam": 2, "sgd": 1}
