"""Commands as a user meets them: help, mistakes, exit codes."""

import subprocess
import sys
from pathlib import Path

import pytest

COMMANDS = ("train", "infer", "evaluate")


def run(*args: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", *args], capture_output=True, text=True, check=False, cwd=cwd)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_examples(name: str) -> None:
    result = run(f"restore.{name}", "--help")
    assert result.returncode == 0
    assert f"python -m restore.{name} --" in result.stdout.partition("examples:")[2]


@pytest.mark.parametrize(("args", "complaint"), [
    (("restore.train", "--model.nrom", "none"), "nrom"),
    (("restore.train", "--model.norm", "bach"), "bach"),
    (("restore.train", "--config", "gone.yaml"), "gone.yaml"),
    (("restore.train", "--data.train", "Set99"), "Set99: neither a folder nor a known data set"),
    (("restore.train", "--data.degradation.sigma", "-3"), "sigma"),
    (("restore.infer", "--weights", "gone.safetensors", "--input", ".", "--output", "out"), "gone.safetensors"),
    (("restore.evaluate", "--weights", "noisy", "--data", "Set99"), "Set99"),
])  # fmt: skip
def test_a_mistake_is_one_line_and_exit_code_one(tmp_path: Path, args: tuple[str, ...], complaint: str) -> None:
    result = run(*args, cwd=tmp_path)
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    last = result.stderr.strip().splitlines()[-1]
    assert complaint in result.stderr
    assert last.startswith("error: ") or complaint in last
