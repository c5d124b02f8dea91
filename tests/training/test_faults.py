"""Training processes that are hurt from outside, by `scripts/faults.py`."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(sys.platform != "linux", reason="forks, mounts and signals as Linux does")
def test_whatever_stops_a_run_it_is_resumed_to_the_same_weights(tmp_path: Path) -> None:
    args = [sys.executable, ROOT / "scripts" / "faults.py", "--times", "1", "--json", tmp_path / "faults.json"]
    done = subprocess.run(args, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert "25 faults, 0 lost; " in done.stdout
