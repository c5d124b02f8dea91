"""Reports and plans from a small records that is made up."""

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made_up import BASE_DB, DATE, World, records_of, state_of

from restore import study, study_actions
from restore.studies.criteria import CRITERIA, Criterion, registered
from restore.studies.effects import Effect, seeds_needed
from restore.studies.experiment import Experiment
from restore.studies.judgement import Finding, Part
from restore.studies.plan import plan
from restore.studies.report import write_report
from restore.studies.requests import StudyRecords, Timing
from restore.studies.stages import StudyState

NAMES = ("one_decibel", "frozen_statistics", "weight_scale_does_not_matter")
AHEAD = (0.9, 1.0, 1.1, 0.95, 1.05)


class BatchNormAhead(World):
    def psnr(self, run: Experiment, seed: int | None) -> float | None:
        ahead = run.network.name == "DnCNN" and run.network.arguments["norm"] == "batch"
        return BASE_DB + (0 if seed is None or not ahead else AHEAD[seed % len(AHEAD)])


def noted(names: tuple[str, ...] = NAMES) -> dict[str, dict[str, str]]:
    criteria = {f"{name}/{part}": it for name in names for part, it in CRITERIA[name].items()}
    return registered({}, criteria, "abc")


@pytest.fixture(scope="module")
def studied() -> tuple[StudyRecords, dict[str, StudyState[Finding]]]:
    records = records_of()
    records.criteria = noted()
    return records, {name: state_of(name, BatchNormAhead(), records) for name in NAMES}


@pytest.fixture(scope="module")
def folder(
    studied: tuple[StudyRecords, dict[str, StudyState[Finding]]], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("report")
    write_report(*studied, folder)
    return folder


def verdicts(folder: Path) -> dict[str, Any]:
    return {entry["claim"]: entry for entry in json.loads((folder / "verdicts.json").read_text())["verdicts"]}


def test_verdicts_say_all_that_they_rest_on(folder: Path) -> None:
    found = verdicts(folder)
    assert list(found) == ["one_decibel", "weight_scale_does_not_matter", "frozen_statistics"]  # by number
    one = found["one_decibel"]
    assert (one["number"], one["verdict"], one["unit"], one["seeds"]) == (3, "supported", "dB", 5)
    assert (one["budget"], one["stochastic"], one["criterion_before_data"]) == ("small", True, True)
    assert one["effect"] == pytest.approx(1, abs=0.01)
    assert one["interval"][0] < 1 < one["interval"][1]
    (part,) = one["parts"]
    assert part.keys() >= {"name", "verdict", "effect", "interval", "values", "p", "p_holm", "criterion", "void"}
    assert part["values"] == pytest.approx(AHEAD, abs=0.01)
    assert part["p"] < part["p_holm"] < 0.05
    assert "above 0.5 dB" in part["criterion"]
    exact = found["weight_scale_does_not_matter"]
    assert (exact["stochastic"], exact["verdict"], exact["interval"]) == (False, "supported", [exact["effect"]] * 2)
    assert [it["verdict"] for it in found["frozen_statistics"]["parts"]] == ["equal", "equal"]


def test_the_page_says_each_verdict_with_sizes_and_steps_in_its_line(folder: Path) -> None:
    text = (folder / "report.md").read_text()
    assert "**supported** (DnCNN 10x16, 900 steps): " in text
    assert "**equal** (WDSRB 8x16, 900 steps; EDSR 8x16, 900 steps): " in text
    assert "| ✔ supported | DnCNN 10x16, 900 steps |" in text
    assert "`python -m restore.study run one_decibel --budget small --seeds 5`" in text


def test_a_claim_may_have_more_seeds_than_the_others(
    studied: tuple[StudyRecords, dict[str, StudyState[Finding]]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, states = studied
    records = StudyRecords.opened(tmp_path / "records.json", before.budget, before.data, 5, {}, NAMES)
    records.results |= before.results
    records.save(tmp_path / "records.json")
    records = StudyRecords.opened(tmp_path / "records.json", before.budget, before.data, 8, {}, ["one_decibel"])
    assert StudyRecords.load(tmp_path / "records.json").asked == dict.fromkeys(NAMES, 5) | {"one_decibel": 8}
    study.main(["report", str(tmp_path)])
    assert "not all on record yet: one_decibel\n" in capsys.readouterr().out
    assert verdicts(tmp_path)["one_decibel"]["seeds"] == 5

    made = state_of("one_decibel", BatchNormAhead(), records.with_seeds(8))
    write_report(records, states | {"one_decibel": made}, tmp_path)
    records.save(tmp_path / "records.json")
    text = (tmp_path / "report.md").read_text()
    assert "- seeds: 5, from 10; 8 of claim 3\n" in text
    assert "`python -m restore.study run one_decibel --budget small --seeds 8`" in text
    assert "`python -m restore.study run frozen_statistics --budget small --seeds 5`" in text
    assert verdicts(tmp_path)["one_decibel"]["seeds"] == 8
    study.main(["report", str(tmp_path)])
    assert "not all on record" not in capsys.readouterr().out
    assert (tmp_path / "report.md").read_text() == text
    records = StudyRecords.opened(tmp_path / "records.json", before.budget, before.data, 5, {}, NAMES)
    assert records.asked["one_decibel"] == 8  # never fewer


def test_every_picture_that_is_linked_is_there_and_no_other(folder: Path) -> None:
    pictures = re.findall(r"!\[.+\]\((.+)\)", (folder / "report.md").read_text())
    assert pictures
    assert sorted(pictures) == sorted(str(path.relative_to(folder)) for path in (folder / "plots").iterdir())


def test_the_same_records_give_the_same_files_to_the_byte_after_they_were_saved_and_loaded(
    studied: tuple[StudyRecords, dict[str, StudyState[Finding]]], folder: Path, tmp_path: Path
) -> None:
    studied[0].save(tmp_path / "records.json")
    again = StudyRecords.load(tmp_path / "records.json")
    write_report(again, {name: state_of(name, World(), again) for name in NAMES}, tmp_path)
    files = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    assert len(files) > 3
    for file in files:
        assert (tmp_path / file).read_bytes() == (folder / file).read_bytes(), file


def test_notes_of_the_records_are_in_the_report_and_outlive_a_new_start(
    studied: tuple[StudyRecords, dict[str, StudyState[Finding]]], tmp_path: Path
) -> None:
    before, states = studied
    settings = before.budget, before.data, before.seeds
    StudyRecords(*settings, before.results, notes=["One.", "Two."]).save(tmp_path / "records.json")
    again = StudyRecords.opened(tmp_path / "records.json", *settings, {})
    write_report(again, states, tmp_path)
    assert "- notes: One. Two." in (tmp_path / "report.md").read_text()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, True),
        ({"since": DATE}, True),
        ({"hash": "0" * 12}, False),
        ({"since": "2030-01-01T00:00:01+00:00"}, False),
    ],
)
@pytest.mark.parametrize("name", ["one_decibel", "weight_scale_does_not_matter"])
def test_a_criterion_is_older_than_its_data_if_it_was_noted_as_it_is_before_the_first_run(
    studied: tuple[StudyRecords, dict[str, StudyState[Finding]]],
    tmp_path: Path,
    name: str,
    change: dict[str, str],
    expected: bool,
) -> None:
    records, states = studied
    changed = {key: it | (change if key.startswith(name) else {}) for key, it in records.criteria.items()}
    other = StudyRecords(records.budget, records.data, records.seeds, records.results, changed)
    write_report(other, {name: states[name], "frozen_statistics": states["frozen_statistics"]}, tmp_path)
    found = verdicts(tmp_path)
    assert found[name]["criterion_before_data"] is expected
    assert found["frozen_statistics"]["criterion_before_data"] is True
    assert f"| {'yes' if expected else 'no'} |" in (tmp_path / "report.md").read_text()


def test_a_criterion_that_was_never_noted_is_not_older_than_its_data(
    studied: tuple[StudyRecords, dict[str, StudyState[Finding]]], tmp_path: Path
) -> None:
    records, states = studied
    other = StudyRecords(records.budget, records.data, records.seeds, records.results, noted(NAMES[1:]))
    write_report(other, states, tmp_path)
    assert verdicts(tmp_path)["one_decibel"]["criterion_before_data"] is False


@pytest.mark.parametrize(
    "change", [{"estimand": "b"}, {"threshold": 1.0}, {"margin": 0.1}, {"direction": "below"}, {"void": "never"}]
)
def test_a_criterion_that_changes_in_any_way_is_noted_anew(change: dict[str, Any]) -> None:
    old = Criterion("a", "dB", "above", 0.0)
    before = {"a": registered({}, {"a": old}, "first")["a"] | {"since": "2020-01-01T00:00:00+00:00"}}
    assert registered(before, {"a": old}, "second") == before
    after = registered(before, {"a": replace(old, **change)}, "second")["a"]
    assert after["hash"] != before["a"]["hash"]
    assert after["since"] > before["a"]["since"]
    assert after["commit"] == "second"


def test_claims_whose_every_run_failed_are_reported_as_void(tmp_path: Path) -> None:
    class Failed(World):
        def psnr(self, run: Experiment, seed: int | None) -> float | None:
            return None

    records = records_of(seeds=2)
    names = ("one_decibel", "regularizes", "scale_is_lost", "frozen_statistics", "population_statistics")
    write_report(records, {name: state_of(name, Failed(), records) for name in names}, tmp_path)
    found = verdicts(tmp_path)
    assert {name: entry["verdict"] for name, entry in found.items()} == dict.fromkeys(found, "void")


def test_a_criterion_in_words_has_its_threshold_and_margin() -> None:
    words = Criterion("a gain", "dB", "above", 0.1, 0.05).in_words
    assert words == "a gain: above 0.1 dB; equal within 0.05 dB"
    words = Criterion("a saving", "%", "between", 35.0, upper=45.0).in_words
    assert words == "a saving: between 35 % and 45 %"


def test_the_plan_says_how_many_seeds_each_comparison_needs(
    studied: tuple[StudyRecords, dict[str, StudyState[Finding]]],
) -> None:
    rows = {row["claim"]: row for row in plan(studied[1])}
    assert rows.keys() == {"3. one_decibel", "17. frozen_statistics"}
    row = rows["3. one_decibel"]
    assert (row["part"], row["seeds on record"], row["to detect"]) == ("gain", "5", "0.05 dB")
    spread = 0.0791  # standard deviation of AHEAD
    assert float(row["spread between seeds"]) == pytest.approx(spread, abs=0.001)
    assert row["seeds needed"] == str(seeds_needed(spread, 0.05))


def test_a_ratio_is_planned_for_a_tenth_more_or_less_whatever_its_threshold() -> None:
    values = tuple(2.0 * math.exp(0.3 * it) for it in (-1, 0, 1))  # a spread of 0.3 between their logarithms
    criterion = Criterion("a ratio", "x", "above", 5.0)
    finding = Finding([Part("SGD", Effect(values, "x"), criterion)], "")
    (row,) = plan({"higher_learning_rates": StudyState(finding, {}, (), 3)})
    assert row["to detect"] == "1.1x"
    assert row["seeds needed"] == str(seeds_needed(0.3, math.log(1.1)))


def test_a_claim_that_is_complete_is_not_asked_again_and_one_that_lacks_times_is() -> None:
    records = records_of()
    names = ["one_decibel", "from_srresnet_to_edsr"]
    records.asked = dict.fromkeys(names, records.seeds)
    state_of("one_decibel", World(), records)
    state_of("from_srresnet_to_edsr", World(), records)
    for key in [key for key in records.results if key.endswith("-times")]:
        del records.results[key]  # as in a folder of studies that was made before steps were timed in turns
    left = list(names)
    missing = study_actions._missing(left, records)
    assert left == ["from_srresnet_to_edsr"]
    assert {type(task.request) for task in missing} == {Timing}
    assert len(missing) == records.seeds
