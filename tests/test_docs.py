"""README and docs: their commands run and print what the pages promise; links lead somewhere; the site builds.

A comment before a block of code says what a test does differently: `docs-test: skip: REASON`, `docs-test: add OPTIONS`
(to each `restore train`), `docs-test: needs FILE` (which `PREPARED` makes).
"""

import importlib.util
import json
import logging
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np
import pytest
import torch
from skimage import data

from restore import progress
from restore.__main__ import dispatch
from restore.checkpoint import Weights, save_weights
from restore.images.io import write_image
from restore.models import EDSR, DnCNN

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "CONTRIBUTING.md"]
BLOCK = re.compile(r"(?:<!-- docs-test: (?P<marker>[^\n]*?) -->\n)?```(?P<language>\w*)\n(?P<code>.*?)\n```", re.DOTALL)
RUN = ("bash", "console", "python")


class Block(NamedTuple):
    """A block of code on a page, with what the marker before it says."""

    language: str
    code: str
    marker: str


def blocks(page: Path) -> list[Block]:
    found = (Block(m["language"], m["code"], m["marker"] or "") for m in BLOCK.finditer(page.read_text()))
    return [block for block in found if block.language in RUN and not block.marker.startswith("skip: ")]


def _small_dncnn(path: Path) -> None:
    save_weights(path, Weights(DnCNN(channels=1, depth=8, features=32).eval()))


def _small_edsr(path: Path) -> None:
    """A checkpoint in the layout of EDSR-PyTorch."""
    network = EDSR(scale=2, blocks=1, features=8, res_scale=0.1, norm="none").eval()
    save_weights(path.with_suffix(".tmp.safetensors"), Weights(network))
    exported = path.with_suffix(".pt")
    dispatch(
        ["export", str(path.with_suffix(".tmp.safetensors")), "--format", "edsr-pytorch", "--output", str(exported)]
    )


PREPARED: dict[str, Callable[[Path], None]] = {
    "weights.safetensors": _small_dncnn,
    "runs/batch/weights.safetensors": _small_dncnn,
    "edsr.pt": _small_edsr,
}


def commands(code: str) -> list[tuple[list[str], list[str]]]:
    """Each command of a shell block with the lines of output below it, if it is a console's."""
    found: list[tuple[list[str], list[str]]] = []
    console = code.startswith("$ ")
    for line in code.replace("\\\n", " ").splitlines():
        if console and not line.startswith("$ "):
            found[-1][1].append(line)
        elif words := shlex.split(line.removeprefix("$ "), comments=True):
            found.append((words, []))
    return found


def importable(name: str) -> ModuleType:
    """A module for the classes of a page, which outlive its test and are looked up by jsonargparse in later ones."""
    return sys.modules.setdefault(name, ModuleType(name))


def shape(text: str) -> str:
    """A text without what differs between machines and lengths of runs: numbers, spaces, rules."""
    return re.sub(r"[\s-]+", " ", re.sub(r"-?\d[\d.,]*(e-\d+)?", "#", text)).strip()


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=lambda page: page.name)
def test_the_commands_of_a_page_run_and_print_what_it_shows(
    page: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(progress, "shown", False)
    write_image(Path("photo.jpg"), np.ascontiguousarray(data.astronaut()[180:260, 180:280]))
    write_image(Path("photos/a.png"), np.ascontiguousarray(data.astronaut()[180:220, 180:230]))
    threads = torch.get_num_threads()
    caplog.set_level(logging.INFO, logger="restore")
    for block in blocks(page):
        for name in re.findall(r"needs (\S+)", block.marker):
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            if not Path(name).exists():
                PREPARED[name](Path(name))
        if block.language == "python":
            exec(compile(block.code, str(page), "exec"), vars(importable(f"docs_{page.stem}")))
            continue
        for words, output in commands(block.code):
            assert words[0] == "restore", f"{page.name}: mark `{' '.join(words)}` as one that is not run here"
            added = block.marker.removeprefix("add ").split() if block.marker.startswith("add ") else []
            capsys.readouterr()
            caplog.clear()
            assert dispatch([*words[1:], *(added if words[1] == "train" else [])]) == 0
            printed = shape("\n".join([*caplog.messages, capsys.readouterr().out]))
            for line in output:
                assert shape(line) in printed, f"{page.name}: `{line}` is not what `{' '.join(words)}` prints"
    torch.set_num_threads(threads)


@pytest.mark.parametrize("page", [*PAGES, *sorted((ROOT / "docs/results").rglob("*.md"))], ids=lambda page: page.name)
def test_links_lead_to_files_of_the_checkout(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text())
    assert not [link for link in links if "://" not in link and not (page.parent / link).exists()]


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_bytes()) <= 10_000


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("sphinx")
    pytest.importorskip("myst_nb")
    args = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", str(ROOT / "docs"), str(tmp_path)]
    done = subprocess.run(args, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    api = (tmp_path / "api.html").read_text()
    for name in ("restore.api.load", "restore.models.DnCNN", "restore.training.fit"):
        assert f'id="{name}"' in api
    assert (tmp_path / "contrast.html").exists()


def test_the_notebook_is_that_of_its_script_and_executes(tmp_path: Path) -> None:
    pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    spec = importlib.util.spec_from_file_location("make_notebook", ROOT / "scripts/make_notebook.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    committed = json.loads((ROOT / "docs/contrast.ipynb").read_text())["cells"]
    assert [(cell["cell_type"], "".join(cell["source"])) for cell in committed] == script.CELLS
    assert all(cell["outputs"] or number == 1 for number, cell in enumerate(committed) if cell["cell_type"] == "code")
    short = script.write(tmp_path / "short.ipynb", replacing=("STEPS = 300", "STEPS = 50"))
    names = {output["output_type"] for cell in short.cells if cell.cell_type == "code" for output in cell.outputs}
    assert "error" not in names
    assert "display_data" in names
