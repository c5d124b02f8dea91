"""A study's run on a GPU, from training to scores."""

from pathlib import Path

import pytest
import torch

from restore.studies.budget import BUDGETS
from restore.studies.data import StudyData
from restore.studies.experiment import Experiment
from restore.studies.runner import train

SMOKE = BUDGETS["smoke"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("experiment", [SMOKE.denoising(norm="batch"), SMOKE.edsr(norm="none")], ids=["DnCNN", "EDSR"])
def test_a_run_on_a_gpu_is_scored_there(tmp_path: Path, experiment: Experiment) -> None:
    data = StudyData("photos", tmp_path, images=1, crop=32)
    (tmp_path / "runs").mkdir()
    (tmp_path / "states").mkdir()
    record = train(experiment.of_length(20), data, 0, tmp_path, device=torch.device("cuda"))
    assert record is not None
    assert record.failed_at is None
    assert len(record.psnr["photos"]) == 1
    assert record.provenance["device"] == torch.cuda.get_device_name()
    (weights,) = (tmp_path / "runs").glob("*.safetensors")
    assert weights.stat().st_size > 0
