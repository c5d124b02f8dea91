"""What importing and starting costs, and what it leaves alone."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from restore.__main__ import COMMANDS
from restore.images.io import write_image

ROOT = Path(__file__).parents[1]


def python(program: str) -> str:
    """What a program prints in a fresh process."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def loaded(program: str) -> set[str]:
    """The modules that are imported after a program."""
    return set(python(f"{program}\nimport sys\nprint('\\n' + '\\n'.join(sys.modules))").splitlines())


def test_importing_the_package_imports_no_dependency() -> None:
    assert not loaded("import restore") & {"torch", "numpy", "cv2", "PIL", "pytorch_lightning"}


def test_restoring_imports_neither_compilers_nor_trainers_nor_plots(tmp_path: Path) -> None:
    write_image(tmp_path / "in.png", np.zeros((16, 16, 1), np.uint8))
    command = ["--denoise", "25", "--precision", "fp32", "--backend", "torch"]
    command += ["--input", str(tmp_path / "in.png"), "--output", str(tmp_path / "out")]
    modules = loaded(
        f"from restore import infer; infer.main({command}); import restore; restore.load; restore.imresize"
    )
    slow = {
        "torch._dynamo", "torch.fx.experimental.symbolic_shapes", "scipy.stats", "pytorch_lightning", "matplotlib",
        "albumentations", "skimage", "openvino", "jinja2",
    }  # fmt: skip
    assert "torch" in modules
    assert not modules & slow


@pytest.mark.parametrize("name", COMMANDS)
def test_arguments_are_checked_before_torch_is_imported(name: str) -> None:
    program = f"""
import contextlib, io
from restore.__main__ import dispatch
from restore.errors import UserError
with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
    dispatch([{name!r}, "--help"])
try:
    dispatch([{name!r}, "--no-such-option"])
except UserError:
    pass
else:
    raise AssertionError
"""
    assert "torch" not in loaded(program)


def test_public_names_are_found_and_listed() -> None:
    callables = "*(callable(getattr(restore, name)) for name in restore.__all__ if name[0] != '_')"
    program = f"import restore\nprint({callables})\nprint(dir(restore))"
    found, listed = python(program).splitlines()
    assert set(found.split()) == {"True"}
    assert "imresize" in listed
