"""python -m restore.study, from claims to the page."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from restore import study
from restore.errors import UserError
from restore.studies.claims import CLAIMS


@pytest.fixture(scope="module")
def studied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    assert study.main(["run", "--budget", "smoke", "--output", str(folder)]) == 0
    return folder


def test_the_smoke_budget_judges_every_claim_and_is_inconclusive_where_training_decides(studied: Path) -> None:
    verdicts = {entry["claim"]: entry for entry in json.loads((studied / "verdicts.json").read_text())["verdicts"]}
    assert verdicts.keys() == CLAIMS.keys()
    for entry in verdicts.values():
        if entry["stochastic"]:
            assert (entry["verdict"], entry["interval"]) == ("inconclusive", None)
    assert {name for name, entry in verdicts.items() if not entry["stochastic"]} == {
        "forty_percent_of_memory", "folding_and_recomputing", "weight_scale_does_not_matter",
    }  # fmt: skip
    assert 35 < verdicts["forty_percent_of_memory"]["effect"] < 45


def test_the_report_shows_each_claim_with_pictures_that_are_there(studied: Path) -> None:
    text = (studied / "report.md").read_text()
    for claim in CLAIMS.values():
        assert f"## {claim.number}. {claim.title}" in text
        assert f"`python -m restore.study run {claim.name} --budget smoke --seeds 1`" in text
    pictures = re.findall(r"!\[.+\]\((.+)\)", text)
    assert len(pictures) >= len(CLAIMS)
    assert {str(path.relative_to(studied)) for path in (studied / "plots").iterdir()} == set(pictures)


def test_reporting_again_gives_the_same_verdicts(studied: Path, tmp_path: Path) -> None:
    (tmp_path / "records.json").write_bytes((studied / "records.json").read_bytes())
    assert study.main(["report", str(tmp_path)]) == 0
    assert (tmp_path / "verdicts.json").read_text() == (studied / "verdicts.json").read_text()


def test_the_page_opens_in_a_browser_with_a_ledger_that_sorts(studied: Path, browser: Any) -> None:
    browser.get((studied / "report.html").as_uri())
    rows = browser.find_elements("css selector", "table")[0].find_elements("css selector", "tbody tr")
    assert len(rows) == len(CLAIMS)
    loaded = "return [...document.images].every(image => image.complete && image.naturalWidth > 0)"
    assert browser.execute_script(loaded)
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []


def test_the_list_names_every_claim(capsys: pytest.CaptureFixture[str]) -> None:
    study.main(["list"])
    printed = capsys.readouterr().out
    assert all(claim.name in printed and claim.title in printed for claim in CLAIMS.values())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "phlogiston"], "phlogiston: no such claim"),
        (["run", "--seeds", "0"], "--seeds must be at least 1"),
        (["run", "--budget", "vast"], "invalid choice"),
        (["report", "nowhere"], "no records of studies here"),
    ],
)
def test_mistakes_are_one_line(arguments: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        study.main(arguments)
