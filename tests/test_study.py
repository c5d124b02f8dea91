"""python -m restore.study, from claims to the page."""

import json
import re
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from restore import study, study_actions
from restore.errors import UserError
from restore.studies.claims import CLAIMS

# Few enough to take some seconds: denoising, super-resolution, measurements, forecasts.
STUDIED = ("one_decibel", "scale_is_lost", "frozen_statistics", "folding_and_recomputing")
EXACT = "folding_and_recomputing"


@pytest.fixture(scope="module")
def studied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    assert study.main(["run", *STUDIED, "--budget", "smoke", "--output", str(folder)]) == 0
    return folder


def verdicts(folder: Path) -> dict[str, Any]:
    return {entry["claim"]: entry for entry in json.loads((folder / "verdicts.json").read_text())["verdicts"]}


def test_one_seed_of_a_few_steps_never_decides_what_training_decides(studied: Path) -> None:
    found = verdicts(studied)
    assert found.keys() == set(STUDIED)
    for name, entry in found.items():
        assert (entry["budget"], entry["seeds"], entry["criterion_before_data"]) == ("smoke", 1, True)
        if name == EXACT:
            assert (entry["stochastic"], entry["verdict"]) == (False, "supported")
        else:
            assert entry["stochastic"]
            assert entry["verdict"] in ("undecided", "void")
            assert entry["interval"] is None


def test_the_criteria_are_on_record_with_the_date_of_the_first_start(studied: Path) -> None:
    noted = json.loads((studied / "records.json").read_text())["criteria"]
    assert noted.keys() == {f"{name}/{part}" for name in CLAIMS for part in CLAIMS[name].criteria}  # they share runs
    assert json.loads((studied / "records.json").read_text())["asked"] == dict.fromkeys(STUDIED, 1)
    assert noted["one_decibel/gain"]["hash"] == CLAIMS["one_decibel"].criteria["gain"].hash


def test_the_report_shows_each_claim_with_pictures_that_are_there(studied: Path) -> None:
    text = (studied / "report.md").read_text()
    for name in STUDIED:
        claim = CLAIMS[name]
        assert f"## {claim.number}. {claim.title}" in text
        assert f"`python -m restore.study run {claim.name} --budget smoke --seeds 1`" in text
    pictures = re.findall(r"!\[.+\]\((.+)\)", text)
    assert {str(path.relative_to(studied)) for path in (studied / "plots").iterdir()} == set(pictures) != set()


def test_reporting_again_from_the_records_alone_gives_the_same_verdicts(studied: Path, tmp_path: Path) -> None:
    (tmp_path / "records.json").write_bytes((studied / "records.json").read_bytes())
    assert study.main(["report", str(tmp_path)]) == 0
    assert (tmp_path / "verdicts.json").read_bytes() == (studied / "verdicts.json").read_bytes()
    assert (tmp_path / "report.md").read_bytes() == (studied / "report.md").read_bytes()


def test_running_again_trains_nothing_and_gives_the_same_verdicts(
    studied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("restore.studies.pool.ProcessPoolExecutor", lambda *_: nullcontext())
    before = (studied / "verdicts.json").read_bytes()
    assert study.main(["run", *STUDIED, "--budget", "smoke", "--output", str(studied)]) == 0
    assert (studied / "verdicts.json").read_bytes() == before


def test_records_of_another_budget_are_refused_in_one_line(studied: Path) -> None:
    with pytest.raises(UserError, match="records of the budget smoke on photos, not small on photos"):
        study.main(["run", "--budget", "small", "--output", str(studied)])


def test_a_plan_needs_two_seeds(studied: Path) -> None:
    with pytest.raises(UserError, match="no comparison has two seeds on record; run the studies with more --seeds"):
        study.main(["plan", str(studied)])


def test_the_page_opens_in_a_browser_with_a_row_for_each_claim(studied: Path, browser: Any) -> None:
    browser.get((studied / "report.html").as_uri())
    rows = browser.find_elements("css selector", "table")[0].find_elements("css selector", "tbody tr")
    assert len(rows) == len(STUDIED)
    loaded = "return [...document.images].every(image => image.complete && image.naturalWidth > 0)"
    assert browser.execute_script(loaded)
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []


def test_the_list_names_every_claim_and_what_would_decide_it(capsys: pytest.CaptureFixture[str]) -> None:
    study.main(["list"])
    printed = capsys.readouterr().out
    assert all(claim.name in printed and claim.title in printed for claim in CLAIMS.values())
    assert all(it.estimand in printed for claim in CLAIMS.values() for it in claim.criteria.values())
    assert "between 35 % and 45 %" in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "phlogiston"], "phlogiston: unknown claim"),
        (["run", "--seeds", "0"], "argument --seeds: expected 1 or more, found 0"),
        (["run", "--jobs", "0"], "argument --jobs: expected 1 or more, found 0"),
        (["contrast", "--jobs", "-1"], "argument --jobs: expected 1 or more, found -1"),
        (["run", "--budget", "vast"], "invalid choice"),
        (["run", "--for", "soon"], "expected a number with s, m or h, such as 150m, found 'soon'"),
        (["report", "nowhere"], "no records of studies here"),
        (["plan", "nowhere"], "no records of studies here"),
    ],
)
def test_mistakes_are_one_line(arguments: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        study.main(arguments)
    assert "\n" not in str(caught.value)


def test_a_study_that_stops_before_any_claim_is_complete_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study_actions, "put_on_record", lambda *_, **__: False)
    caplog.set_level("INFO", "restore")
    study.main(["run", "one_decibel", "--budget", "smoke", "--for", "1s", "--output", str(tmp_path)])
    assert "stopped; the same command continues from here" in caplog.text
    assert f"no claim has all of its runs on record yet: {tmp_path / 'records.json'} has 0" in caplog.text
    with pytest.raises(UserError, match="no claim has all of its runs on record"):
        study.main(["report", str(tmp_path)])


def test_missing_images_are_named_before_anything_is_written(tmp_path: Path) -> None:
    asked = ["--data", "papers", "--data.root", str(tmp_path / "none"), "--output", str(tmp_path / "out")]
    with pytest.raises(UserError, match=r"Train400 \(train\) not found"):
        study.main(["run", "one_decibel", "--budget", "smoke", *asked])
    assert not (tmp_path / "out").exists()
    with pytest.raises(UserError, match="nowhere: no such folder"):
        study.main(["times", "nowhere"])
