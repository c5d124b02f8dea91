"""scripts/gpu_page.py: measured memory beside the forecast of the same step, and the tables of the benchmarks."""

import json
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from restore.models import NetworkSpec, build
from restore.profiling import Step, forecast

sys.path.append(str(Path(__file__).parents[1] / "scripts"))

from gpu_page import main

MIB = 2**20
PROVENANCE = {"device": "cpu: a processor", "packages": {"torch": "2.15.0"}, "commit": "0123"}


def test_the_page_has_a_table_for_each_file_and_the_forecast_beside_the_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    step = Step(build(NetworkSpec("DnCNN", {"depth": 3, "features": 4, "norm": "batch"})).spec, 2, 8)
    expected = forecast(step)
    assert expected.tensors is not None
    assert expected.device is not None
    row = asdict(step) | {"network": "DnCNN", "variant": "batch", "source": "cuda"}
    row |= {"trained_by": step.optimizer, "optimizer": 4}  # bytes
    row["spec"] = json.dumps(asdict(step.network))
    sizes = {"tensors": 3 * MIB, "peak": 4 * MIB, "cuda_reserved": 20 * MIB, "cuda_used": None}
    document = {"rows": [row | sizes], "provenance": PROVENANCE}
    (tmp_path / "memory-bf16-mixed.json").write_text(json.dumps(document))
    document = {"title": "host: time of a step", "rows": [{"variant": "bare loop", "ms/step": "1.00"}]}
    (tmp_path / "host.json").write_text(json.dumps(document | {"provenance": PROVENANCE}))
    assert main([str(tmp_path)]) == 0
    page = (tmp_path / "index.md").read_text()
    assert page.count("On cpu: a processor, PyTorch 2.15.0, commit 0123.") == 1
    assert "## host: time of a step\n\n| variant | ms/step |" in page
    assert "## memory, bf16-mixed: measured and forecast, MiB" in page
    cells = next(line for line in page.splitlines() if line.startswith("| DnCNN")).strip("| ").split(" | ")
    assert cells[:5] == ["DnCNN", "batch", "cuda", "3.0", f"{expected.tensors / MIB:,.1f}"]
    assert "20.0" in cells
    assert cells[-1] == f"{expected.device.used / MIB:,.1f}"
    assert str(tmp_path / "index.md") in capsys.readouterr().out
