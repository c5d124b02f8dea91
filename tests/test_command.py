"""Commands as a user meets them: help, mistakes, exit codes."""

import subprocess
import sys
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest

from restore import command, convert, evaluate, export, infer, memory, train

COMMANDS = {module.__name__: module for module in (train, infer, evaluate, convert, export, memory)}


@pytest.mark.parametrize("module", COMMANDS.values(), ids=list(COMMANDS))
def test_help_shows_examples(module: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        module.main(["--help"])
    assert not end.value.code
    assert f"python -m {module.__name__}" in capsys.readouterr().out.partition("examples:")[2]


@pytest.mark.parametrize(("name", "args", "complaint"), [
    ("train", "--model.nrom none", "Option 'nrom' is not accepted"),
    ("train", "--model.norm bach", "'weight']. Got value: bach"),
    ("train", "--model.depth 1", "depth must be at least 2, not 1"),
    ("train", "--config gone.yaml", "gone.yaml"),
    ("train", "--data.train Set99", "Set99: neither a folder nor a known data set"),
    ("train", "--data.degradation.sigma -3", "sigma must be at least 0 and a range ascending, not -3"),
    ("train", "--data.degradation Blur", "Blur"),
    ("train", "--optim.lr tiny", "tiny"),
    ("train", "--trainer.max_stepz 4", "--trainer.max_stepz"),
    ("train", "--trainer.accelerator abacus", "abacus"),
    ("infer", "--weights gone.safetensors --input . --output out", "gone.safetensors: no such weights file"),
    ("infer", "--input .", "the following arguments are required: --output"),
    ("infer", "--weights w --input . --output out --device abacus", "argument --device: abacus is not to be had here"),
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
        command.run(partial(COMMANDS[f"restore.{name}"].main, args.split()))
    assert isinstance(end.value.code, str)
    assert end.value.code.startswith("error: ")
    assert complaint in end.value.code
    assert "\n" not in end.value.code


def test_a_mistake_ends_the_process_with_code_one_and_no_traceback() -> None:
    args = [sys.executable, "-m", "restore.infer", "--weights", "gone.safetensors", "--input", ".", "--output", "out"]
    result = subprocess.run(args, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stderr == "error: gone.safetensors: no such weights file\n"
