"""Commands as a user meets them: help, mistakes, exit codes."""

import logging
import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import restore
from restore import cli, convert, evaluate, export, infer, memory, progress, recipes, study, train
from restore.__main__ import COMMANDS as NAMES
from restore.__main__ import dispatch
from restore.checkpoint import Weights, save_weights
from restore.data import __main__ as data
from restore.errors import UserError
from restore.images.io import write_image
from restore.memory_table import Steps
from restore.models import DnCNN

COMMANDS = {module.__name__: module for module in (train, infer, evaluate, convert, export, memory, study)}
HELP_LINES = 2 * 40  # two screens


@pytest.mark.parametrize("name", [*NAMES, "memory fit", "study run"])
def test_help_shows_examples_before_options_on_two_screens_of_80_columns(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        dispatch([*name.split(), "--help"])
    assert not end.value.code
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert len(lines) <= HELP_LINES
    if name != "study run":
        before_options = "\n".join(lines[: next(n for n, line in enumerate(lines) if line.startswith("options"))])
        assert f"\n  restore {name}" in before_options.partition("examples:")[2]


def test_the_command_lists_its_subcommands_and_its_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert dispatch([]) == 0
    listed = capsys.readouterr().out
    assert all(f"\n  {name} " in listed for name in NAMES)
    assert dispatch(["--version"]) == 0
    assert capsys.readouterr().out == f"restore {restore.__version__}\n"
    with pytest.raises(UserError, match="abacus: unknown command; known: infer, train"):
        dispatch(["abacus"])


def test_a_shipped_recipe_is_named_without_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = str(recipes.CONFIGS / "edsr_x2.yaml")
    assert train._with_recipes(["--config", "edsr_x2", "--output", "dncnn3"]) == [
        "--config",
        path,
        "--output",
        "dncnn3",
    ]
    assert train._with_recipes(["--config=configs/edsr_x2.yaml"]) == [f"--config={path}"]
    assert train._with_recipes(["--config", "gone"]) == ["--config", "gone"]


def test_every_command_takes_the_home_folder_by_its_sign(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    save_weights(tmp_path / "w.safetensors", Weights(DnCNN(depth=3, features=4)))
    assert export.main(["~/w.safetensors", "--format", "kair", "--output", "~/kair.pth"]) == 0
    assert convert.main(["~/kair.pth", "--output", "~/again.safetensors"]) == 0
    assert (tmp_path / "again.safetensors").is_file()
    write_image(tmp_path / "Set5/HR/a.png", np.zeros((8, 8, 3), np.uint8))
    assert data.main(["verify", "Set5", "--root", "~"]) == 1
    assert "wrong: Set5 test: 1 images, expected 5" in capsys.readouterr().out
    assert data.main(["Set5", "--root", "~/other", "--from", "~/Set5"]) == 1
    assert f"{tmp_path}/Set5: {tmp_path}/Set5/HR holds 1 images, expected 5" in capsys.readouterr().err
    asked = memory._parser().parse_args(["--json", "~/a", "--csv", "~/b", "--plot", "~/c.png"])
    assert {asked.json.parent, asked.csv.parent, asked.plot.parent} == {tmp_path}
    asked = study._parser().parse_args(["run", "--output", "~/runs", "--data.root", "~/data"])
    assert (asked.output, asked.root) == (tmp_path / "runs", tmp_path / "data")
    assert study._parser().parse_args(["report", "~/runs"]).folder == tmp_path / "runs"
    (tmp_path / "recipe.yaml").write_text("model: {class_path: DnCNN}\ndata: {batch_size: 2, patch_size: 8}\n")
    assert Steps(["~/recipe.yaml"], ["none"]).recipe("~/recipe.yaml").patch == 8


def test_an_empty_path_is_not_the_current_folder() -> None:
    for option in ("--output", "--weights"):
        with pytest.raises(UserError, match=f"argument {option}: the path is empty"):
            train.main([option, ""])
    with pytest.raises(UserError, match="argument --input: the path is empty"):
        infer.main(["--denoise", "--input", "", "--output", "out"])


def test_output_that_nobody_reads_ends_the_command_without_a_traceback() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    args = [sys.executable, "-m", "restore", "--help"]
    done = subprocess.run(args, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (cli.CLOSED_PIPE, "")


def test_quiet_shows_no_notes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "shown", True)
    parser = cli.ArgumentParser("infer", "Restore images.", "examples:")
    parser.parse_args(["--quiet"])
    assert not progress.shown
    assert not cli.LOG.isEnabledFor(logging.INFO)
    assert cli.LOG.isEnabledFor(logging.WARNING)
    cli.LOG.setLevel(logging.NOTSET)


@pytest.mark.parametrize(("name", "args", "complaint"), [
    ("train", "--model.nrom none", "Option 'nrom' is not accepted"),
    ("train", "--model.norm bach", "Expected one of ['batch', 'none'"),
    ("train", "--model.depth 1", "depth must be at least 2, not 1"),
    ("train", "--config gone.yaml", "gone.yaml"),
    ("train", "--data.train Set99", "Set99: neither a folder nor a known data set"),
    ("train", "--data.degradation.sigma -3", "sigma must be at least 0 and finite, and a range"),
    ("infer", "--denoise inf --input . --output out", "expected a noise level of 0 or more (0-255), found inf"),
    ("train", "--data.degradation.sigma .inf", "sigma must be at least 0 and finite, and a range"),
    ("train", "--data.degradation Blur", "Blur"),
    ("train", "--optim.lr tiny", "tiny"),
    ("train", "--trainer.max_stepz 4", "--trainer.max_stepz"),
    ("train", "--trainer.accelerator abacus", "abacus"),
    ("infer", "--denoise --sigma 30 --input . --output out", "--sigma: give the level as --denoise 30"),
    ("train", "--data.workers -1", "data.workers must be at least 0, not -1"),
    ("train", "--hardware.threads -1", "hardware.threads must be at least 1, not -1"),
    ("train", "--lr 3", "unrecognized argument: --lr (see restore train --help)"),
    ("infer", "--weights gone.safetensors --input . --output out", "gone.safetensors: no such weights file"),
    ("infer", "--input .", "the following arguments are required: --output"),
    ("infer", "--weights w --input . --output out --device abacus", "'abacus' is not available on this"),
    ("infer", "--weights w --input . --output out --quality 0", "argument --quality: expected 1 to 100, found 0"),
    ("infer", "--weights w --input . --output out --workers 0", "argument --workers: expected 1 or more, found 0"),
    ("infer", "--weights w --input . --output out --max-megapixels no", "expected a number above 0, found no"),
    ("infer", "--weights w --input . --output out --resume --overwrite", "not allowed with argument --resume"),
    ("convert", "gone.pth --output w.safetensors", "gone.pth: no such weights file"),
    ("export", "gone.pth --format onnx --output w.onnx", "gone.pth: no such weights file"),
    ("export", "w.pth --format abacus --output w.onnx", "argument --format: invalid choice: 'abacus'"),
    ("infer", "--weights w --input . --output out --tile -8", "argument --tile: expected auto or a number of pixels"),
    ("evaluate", "--weights noisy --data photos --tile big", "expected auto or a number of pixels, found 'big'"),
    ("evaluate", "--weights noisy --data Set99", "Set99: neither a folder nor a known data set"),
])  # fmt: skip
def test_a_mistake_is_one_line_that_names_it(
    name: str, args: str, complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        cli.run(partial(COMMANDS[f"restore.{name}"].main, args.split()))
    assert isinstance(end.value.code, str)
    assert end.value.code.startswith("error: ")
    assert complaint in end.value.code
    assert "\n" not in end.value.code


def test_a_mistake_ends_the_process_with_code_one_and_no_traceback() -> None:
    args = [sys.executable, "-m", "restore.infer", "--weights", "gone.safetensors", "--input", ".", "--output", "out"]
    result = subprocess.run(args, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stderr == "error: gone.safetensors: no such weights file\n"


@pytest.mark.parametrize(("name", "args", "complaint"), [
    ("train", "--outp x", "unrecognized argument: --outp; did you mean --output?"),
    ("train", "--required x", "unrecognized argument: --required"),
    ("train", "--trainer.max_step 3", "--trainer.max_step 3; did you mean --trainer.max_steps?"),
    ("train", "--data.trian photos", "did you mean --data.train?"),
    ("train", "--model.nrom none", "Option 'nrom' is not accepted; did you mean norm?"),
    ("train", "--model DnCN", "model: unknown class DnCN; did you mean DnCNN?; known networks: DnCNN, EDSR"),
    ("train", "--model mine.Net", "mine.Net: to import it, add mine to the environment variable RESTORE_EXTENSIONS"),
    ("train", "--data.degradation Jpg", "unknown class Jpg; did you mean Jpeg?; known degradations: GaussianNoise, "),
    ("evaluate", "--weights noisy --data photos --degradation Jpg", "unknown class Jpg; did you mean Jpeg?; known d"),
    ("evaluate", "--weights noisy --data photos --degradation Jpeg --degradation.qualty 3", "did you mean quality?"),
    ("evaluate", "--weights noisy --dta photos", "unrecognized arguments: --dta; did you mean --data?"),
    ("infer", "--denoise --inptu a.png --output out", "unrecognized arguments: --inptu; did you mean --input?"),
    ("infer", "--denoize --input a.png --output=out", "unrecognized arguments: --denoize; did you mean --denoise?"),
    ("evaluate", "--weights noisy --data sett5", "known data set; did you mean Set5?"),
    ("evaluate", "--model dncn-gray-25 --data Set5", "unknown model; did you mean dncnn-gray-25?"),
    ("study", "run higher_learning_rate", "unknown claim; did you mean higher_learning_rates?"),
    ("train", "--optim.optimizer adma", "unknown optimizer 'adma'; did you mean adam?"),
])  # fmt: skip
def test_a_misspelled_word_is_named_with_the_one_that_is_meant(name: str, args: str, complaint: str) -> None:
    with pytest.raises(SystemExit) as end:
        cli.run(partial(COMMANDS[f"restore.{name}"].main, args.split()))
    assert complaint in end.value.code


@pytest.mark.parametrize(("text", "value"), [("1", 1), ("1.0", 1.0), ("0.5", 0.5)])
def test_one_batch_is_not_all_batches(text: str, value: float) -> None:
    settings = train.build_parser().parse_args(["--model", "DnCNN", "--trainer.limit_val_batches", text])
    found = settings.trainer.limit_val_batches
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(("content", "complaint"), [
    ("optm: {lr: 1}", "mine.yaml: Option 'optm.lr' is not accepted; did you mean optim?"),
    ("data: {patchsize: 8}", "mine.yaml: Group 'data' does not accept option 'patchsize'; did you mean patch_size?"),
    ("data: {patch_size: abc}", "mine.yaml: data.patch_size: "),
    ("", "mine.yaml: the configuration is empty"),
    ("data: [", "mine.yaml: Problems parsing config: while parsing a flow node"),
    ("model: {class_path: DnCNN, init_args: {dept: 3}}", "'dept' is not accepted; did you mean depth?"),
])  # fmt: skip
def test_a_mistake_in_a_configuration_names_its_file(content: str, complaint: str, tmp_path: Path) -> None:
    config = tmp_path / "mine.yaml"
    config.write_text(content)
    with pytest.raises(UserError) as found:
        train.main(["--config", str(config), "--output", str(tmp_path / "run")])
    assert str(found.value).startswith(str(config))
    assert complaint in str(found.value)


def test_runs_of_different_settings_get_folders_of_their_own_by_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    started: list[tuple[Path, str | None]] = []

    def record(*args: object, config: str, resume: str | None, **_: object) -> dict[str, object]:
        output = args[3]
        assert isinstance(output, Path)
        output.mkdir(parents=True, exist_ok=True)
        (output / "config.yaml").write_text(config)
        started.append((output, resume))
        return {}

    monkeypatch.setattr("restore.training.fit", record)
    for args in ([], ["--model.norm", "none"], ["--seed", "1"], ["--model.norm", "none", "--resume", "auto"],
                 ["--model.norm=none", "--trainer.max_steps=9"], ["--output", "~/mine"]):  # fmt: skip
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        assert train.main([*args, "--trainer.accelerator", "cpu"]) == 0
    folders = ["runs/quickstart", "runs/quickstart-2", "runs/quickstart-3", "runs/quickstart-2", "runs/quickstart-2"]
    assert [str(output) for output, _ in started] == [*folders, str(tmp_path / "home/mine")]


def test_progress_is_a_line_now_and_then_without_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def work() -> list[str]:
        for _ in progress.progress(range(3), "Restoring"):
            with progress.counting("tiles", 8, within=True) as advance:
                for _ in range(8):
                    advance()
        return capsys.readouterr().err.splitlines()

    monkeypatch.setattr("restore.progress.time.monotonic", lambda: 29.0)
    assert work() == []
    now = iter(range(0, 10_000, 10))
    monkeypatch.setattr("restore.progress.time.monotonic", lambda: next(now))
    lines = work()
    assert re.fullmatch(r"Restoring: 0 done; tiles: \d of 8 done, about 0:0\d:\d\d left", lines[0])
    assert any(re.fullmatch(r"Restoring: 1 of 3 done, about \S+ left; tiles: .*", line) for line in lines)
