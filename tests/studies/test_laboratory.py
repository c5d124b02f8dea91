"""Runs on record: made once, resumed, shared, and judged again from the file alone."""

import json
from pathlib import Path

import pytest

from restore.errors import UserError
from restore.studies.budget import BUDGETS
from restore.studies.claims import CLAIMS
from restore.studies.experiment import Bench
from restore.studies.laboratory import Archive, fulfil

BENCH = Bench("photos", "photos", Path(), crops=2, crop=32)
NAME = "frozen_statistics"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("studies")
    fulfil([NAME], Archive(BUDGETS["smoke"], BENCH, seeds=1), folder, jobs=1)
    return folder


def test_the_verdict_is_the_same_from_the_records_alone(folder: Path) -> None:
    archive = Archive(BUDGETS["smoke"], BENCH, seeds=1)
    fulfil([NAME], archive, folder, jobs=1)
    again = Archive.load(folder / "records.json")
    assert again.judge(CLAIMS[NAME]) == archive.judge(CLAIMS[NAME])


def test_what_is_on_record_is_not_made_again(folder: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (folder / "runs").iterdir()}
    fulfil([NAME], Archive(BUDGETS["smoke"], BENCH, seeds=1), folder, jobs=1)
    assert {path: path.stat().st_mtime_ns for path in (folder / "runs").iterdir()} == before


def test_a_run_that_is_lost_is_made_again_alone(folder: Path) -> None:
    lost, *kept = sorted((folder / "runs").glob("*.json"))
    content = json.loads(lost.read_text())
    before = {path: path.stat().st_mtime_ns for path in kept}
    lost.unlink()
    fulfil([NAME], Archive(BUDGETS["smoke"], BENCH, seeds=1), folder, jobs=1)
    assert json.loads(lost.read_text())["psnr"] == content["psnr"]
    assert {path: path.stat().st_mtime_ns for path in kept} == before


def test_a_claim_without_its_runs_is_refused_by_name(folder: Path) -> None:
    archive = Archive.load(folder / "records.json")
    assert archive.covers(CLAIMS[NAME])
    assert not archive.covers(CLAIMS["regularises"])
    with pytest.raises(UserError, match="regularises: not all of its runs are on record"):
        archive.judge(CLAIMS["regularises"])


@pytest.mark.parametrize("content", ["", "{}", '{"budget": "none"}', "[1]"])
def test_damaged_records_are_one_line(tmp_path: Path, content: str) -> None:
    (tmp_path / "records.json").write_text(content)
    with pytest.raises(UserError, match="not the records of studies, or damaged"):
        Archive.load(tmp_path / "records.json")
