"""The package as a stranger gets it: a wheel, installed into a bare environment, away from the checkout."""

import os
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import cv2
import pytest
import yaml
from skimage import data

import restore
from restore.bundled import available
from restore.recipes import CONFIGS

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of a copy of the files under version control."""
    folder = tmp_path_factory.mktemp("build")
    files = subprocess.run(["git", "-C", str(ROOT), "ls-files", "-z"], capture_output=True, text=True, check=False)
    if files.returncode:
        pytest.skip("not a checkout")
    for name in filter(None, files.stdout.split("\0")):
        if not name.startswith(("docs/", "tests/")) and (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes((ROOT / name).read_bytes())
    program = "import sys; from setuptools import build_meta; print(build_meta.build_wheel(sys.argv[1]))"
    built = subprocess.run(
        [sys.executable, "-c", program, "dist"], cwd=folder, capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stderr
    return folder / "dist" / built.stdout.split()[-1]


def test_the_wheel_holds_models_recipes_license_and_command(wheel: Path) -> None:
    assert wheel.name == f"restore_bn-{restore.__version__}-py3-none-any.whl"
    names = zipfile.ZipFile(wheel).namelist()
    expected = [f"restore/bundled/{model.weights.name}" for model in available()]
    shared = f"restore_bn-{restore.__version__}.data/data/share/restore/configs"
    expected += [f"{shared}/{path.name}" for path in CONFIGS.glob("*.yaml")]
    expected += ["restore/py.typed", "restore/page/page.html"]
    assert not set(expected) - set(names)
    metadata = zipfile.ZipFile(wheel).read(f"restore_bn-{restore.__version__}.dist-info/METADATA").decode()
    assert "License-Expression: Apache-2.0" in metadata
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_installed_wheel_restores_a_photograph(wheel: Path, tmp_path: Path) -> None:
    """In an environment of its own that sees the dependencies of this one, but not the checkout."""
    venv.create(tmp_path / "env", symlinks=os.name == "posix")
    (site,) = (tmp_path / "env").glob("lib/python*/site-packages")
    dependencies = Path(cv2.__file__).parents[1]
    (site / "dependencies.pth").write_text(f"{dependencies}\n")
    pip = [sys.executable, "-m", "pip", "--python", str(tmp_path / "env/bin/python"), "install", "--no-deps"]
    subprocess.run([*pip, "--no-index", "--ignore-installed", "--quiet", str(wheel)], check=True)
    cv2.imwrite(str(tmp_path / "photo.png"), data.astronaut()[200:264, 200:280])
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def command(*args: str) -> str:
        program = str(tmp_path / "env/bin/restore")
        done = subprocess.run([program, *args], cwd=tmp_path, env=clean, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "norm: batch" in command("train", "--config", "dncnn_gray_25", "--print_config")
    assert command("--version") == f"restore {restore.__version__}\n"
    command("infer", "--denoise", "--input", "photo.png", "--output", "out", "--precision", "fp32")
    assert cv2.imread(str(tmp_path / "out/photo.png")).shape == (64, 80, 3)
    where = "import restore; print(restore.__file__)"
    python = [str(tmp_path / "env/bin/python"), "-c", where]
    place = subprocess.run(python, cwd=tmp_path, env=clean, capture_output=True, text=True, check=True).stdout
    assert Path(place.strip()).is_relative_to(tmp_path)


def test_versions_and_licenses_agree() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == restore.__version__
    assert citation["license"] == project["license"] == "Apache-2.0"
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License" in text
    assert "BSDS500" in text


def test_no_file_of_the_tree_is_a_symbolic_link() -> None:
    """Windows would check it out as a text file."""
    listed = subprocess.run(["git", "-C", str(ROOT), "ls-files", "-s"], capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a checkout")
    assert not [line for line in listed.stdout.splitlines() if line.startswith("120000")]
