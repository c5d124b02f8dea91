"""The campaign at full size, with made-up records."""

import json
import math
import re
import statistics
import zlib
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from restore.studies.contrast import FULL, FULL_SIZE, NORMS, OTHER_RATES, OTHER_RATES_LENGTH, SIZES, Contrast, so_far
from restore.studies.contrast_report import write_contrast
from restore.studies.contrast_results import compared, targets
from restore.studies.criteria import CONTRAST
from restore.studies.data import StudyData
from restore.studies.experiment import TUNING_SEED, Experiment
from restore.studies.pool import _in_rounds, adopt
from restore.studies.requests import StudyRecords, Task, Trial
from restore.studies.step_times import StepTimes

BEST_RATE = {"batch": 1e-2, "none": 1e-3}


def made_up(task: Task, effect: float) -> dict[str, object]:
    """A record in which every arm has its own best rate and batch norm is ahead by `effect` dB."""
    experiment = task.experiment
    norm = experiment.network.arguments["norm"]
    random = np.random.default_rng([task.seed, experiment.length])
    miss = math.log10(experiment.optim.lr / BEST_RATE.get(norm, 1e-3)) ** 2
    psnr = 27 + 0.4 * math.log2(experiment.length / 375) + effect * (norm == "batch") - miss
    arm = zlib.crc32(json.dumps(experiment.description).encode())
    of_arm = np.random.default_rng([task.seed, arm])
    images = (psnr + of_arm.normal(0, 0.003) + random.normal(0, 0.5, 10)).tolist()
    return {
        "experiment": experiment.description, "seed": task.seed,
        "psnr": {} if isinstance(task.request, Trial) else {"first": images}, "input_psnr": {"first": 20.0},
        "validation": psnr, "validation_input": 20.0, "train_psnr": 30.0, "train_mode_psnr": 30.1, "dead": 1.0,
        "losses": [1.0], "spikes": 0, "failed_at": None, "step_s": 0.1, "probed": {},
        "provenance": {"date": "2100-01-01", "commit": "abc", "device": "cpu", "packages": {"torch": "0"}},
    }  # fmt: skip


def campaign_with(effect: float, tmp_path: Path) -> tuple[StudyRecords, Contrast, list[list[Task]]]:
    """The campaign at its end, and what it asked for in each of its stages."""
    results, asked = answered(effect)
    records = StudyRecords.opened(tmp_path / "records.json", FULL, StudyData("papers", Path()), FULL.seeds, CONTRAST)
    records.results = dict(results)
    found, _ = so_far(records)
    return records, found, asked


@cache
def answered(effect: float) -> tuple[dict[str, Any], list[list[Task]]]:
    records = StudyRecords(FULL, StudyData("papers", Path()), FULL.seeds)
    asked = []
    while tasks := records.missing(so_far(records)[1]):
        asked.append(tasks)
        records.results |= {task.key(records.data): made_up(task, effect) for task in tasks}
    return records.results, asked


def _experiment(task: Task) -> Experiment:
    return task.experiment


def test_each_round_is_complete_before_the_next_and_searches_judge_nothing(tmp_path: Path) -> None:
    _, found, asked = campaign_with(0.3, tmp_path)
    rounds = [tasks for tasks in asked if not isinstance(tasks[0].request, Trial)]
    one_arm = [tasks for tasks in rounds if len({it.network.arguments["norm"] for it in map(_experiment, tasks)}) == 1]
    denoising = [it for it in rounds if it[0].experiment.degradation.scale == 1 and it not in one_arm]
    by_size: dict[tuple[int, int], list[int]] = {}
    for tasks in denoising:
        (size,) = {(it.network.arguments["depth"], it.network.arguments["features"]) for it in map(_experiment, tasks)}
        (length,) = {it.length for it in map(_experiment, tasks)}
        by_size.setdefault(size, []).append(length)
    assert set(by_size) == {(size.depth, size.features) for size in SIZES}
    assert all(lengths == list(FULL.lengths) for lengths in by_size.values())
    for tasks in denoising:
        assert {task.seed for task in tasks} == {0, 1, 2}
        assert len(tasks) == 3 * 2
    searched = [task for tasks in asked for task in tasks if isinstance(task.request, Trial)]
    assert {task.seed for task in searched} == {TUNING_SEED, TUNING_SEED + 1, TUNING_SEED + 2}
    tried: dict[tuple[str, str], set[float]] = {}
    for run in (task.experiment for tasks in one_arm for task in tasks):
        name = "EDSR" if run.network.name == "EDSR" else FULL_SIZE.name
        tried.setdefault((name, run.network.arguments["norm"]), set()).add(run.rate)
    assert tried.keys() == OTHER_RATES.keys()
    assert all({*rates} - tried[arm] <= {found.tuned[arm].best.rate} for arm, rates in OTHER_RATES.items())
    assert {task.experiment.length for tasks in one_arm for task in tasks} == {OTHER_RATES_LENGTH}
    assert found.tuned[FULL_SIZE.name, "batch"].best.optim.lr == 1e-2
    assert found.tuned[FULL_SIZE.name, "none"].best.optim.lr == 1e-3


def test_the_central_pairs_reach_6000_steps_before_any_other_arm_begins(tmp_path: Path) -> None:
    _, _, asked = campaign_with(0.3, tmp_path)
    central = {(name, norm) for name in ("DnCNN", "EDSR") for norm in ("batch", "none")}
    before = []
    for tasks in asked:
        networks = [task.experiment.network for task in tasks]
        if any((it.name, it.arguments["norm"]) not in central or it.arguments.get("init") == "zero" for it in networks):
            break
        before += [task for task in tasks if not isinstance(task.request, Trial)]
    done = {(task.experiment.network.name, task.experiment.length) for task in before}
    assert done == {(name, length) for name in ("DnCNN", "EDSR") for length in (750, 1500, 3000, 6000)}


def test_within_a_stage_shorter_runs_and_earlier_seeds_come_first() -> None:
    base = FULL.denoising(norm="none")
    tasks = [Task(base.of_length(length), seed) for length in (1500, 750) for seed in (1, 0)]
    ordered = sorted(tasks, key=_in_rounds)
    assert [(it.experiment.length, it.seed) for it in ordered] == [(750, 0), (750, 1), (1500, 0), (1500, 1)]


@pytest.mark.parametrize(("effect", "verdict"), [(0.3, "supported"), (-0.3, "refuted"), (0.0, "equal")])
def test_the_report_says_what_the_records_say(tmp_path: Path, effect: float, verdict: str) -> None:
    records, found, _ = campaign_with(effect, tmp_path)
    paths = write_contrast(records, found, tmp_path)
    content = json.loads((tmp_path / "contrast.json").read_text())
    of_dncnn = [row for row in content["verdicts"] if row["comparison"] == "DnCNN"]
    assert [row["steps"] for row in of_dncnn] == [900, 1800, 3600, 7200, 14400]
    assert {row["verdict"] for row in of_dncnn} == {verdict}
    assert [row["tested"] for row in of_dncnn] == [False, False, False, False, True]
    tested = [row for row in content["verdicts"] if row["tested"]]
    assert {row["comparison"]: row["steps"] for row in tested} == {"DnCNN": 14400, "EDSR": 14400}
    lower, higher = sorted(tested, key=lambda row: row["p"])
    assert lower["p_holm"] == pytest.approx(min(1, 2 * lower["p"]))
    assert higher["p_holm"] == pytest.approx(max(higher["p"], lower["p_holm"]))
    opposite = {"supported": "refuted", "refuted": "supported", "equal": "equal"}[verdict]
    assert {row["verdict"] for row in content["verdicts"] if row["comparison"] == "EDSR"} == {opposite}
    assert content["trend"]["holds"]
    text = (tmp_path / "contrast.md").read_text()
    for picture in re.findall(r"!\[.+\]\((.+)\)", text):
        assert (tmp_path / picture) in paths
    of_sizes = text.partition("## DnCNN of all sizes")[2].partition("\n## ")[0].splitlines()
    for size in SIZES:
        told = next(line for line in of_sizes if line.startswith(f"| {size.name} |")).split("|")[2:-1]
        for cell, length in zip(told, FULL.lengths, strict=True):
            batch, none = (np.mean([run.psnr["first"] for run in found.runs[(size.name, it), length]]) for it in NORMS)
            assert float(cell.split()[0]) == pytest.approx(batch - none, abs=6e-4)
    again = {path: path.read_bytes() for path in paths}
    write_contrast(records, found, tmp_path)
    assert {path: path.read_bytes() for path in paths} == again


def test_targets_that_no_run_passes_are_said_to_be_missed(tmp_path: Path) -> None:
    _, found, _ = campaign_with(0.3, tmp_path)
    full = {(one.norm, one.psnr): one for one in targets(found.runs) if one.size == FULL_SIZE.name}
    assert (full["none", 28.5].passed, full["none", 28.5].seeds) == (3, 3)
    assert full["batch", 28.5].steps is not None
    assert full["none", 28.5].steps is not None
    assert full["batch", 28.5].steps < full["none", 28.5].steps
    above = full["batch", 27.5]
    assert (above.first, above.last, above.before, above.passed, above.steps) == (900, 14400, 3, 0, None)
    records, *_ = campaign_with(-0.3, tmp_path / "lower")
    write_contrast(records, found, tmp_path)
    assert "| 17x64 batch | 27.5 | before 900 steps: 3 of 3 |" in (tmp_path / "contrast.md").read_text()


@pytest.mark.parametrize(("effect", "words"), [
    (0.3, ["DnCNN-17x64 ends higher with batch norm than without it after 14,400 steps (+0.3",
           "EDSR-baseline x2 ends lower without batch norm than with it after 14,400 steps (-0."]),
    (-0.3, ["DnCNN-17x64 ends lower with batch norm than without it",
            "WDSR-B x2 ends higher without batch norm than with"]),
    (0.0, ["DnCNN-17x64 ends as high with batch norm as without, within 0.05 dB, after 14,400 steps",
           "EDSR-baseline x2 ends as high with batch norm as without, within 0.03 dB"]),
])  # fmt: skip
def test_the_page_answers_in_plain_words(effect: float, words: list[str], tmp_path: Path) -> None:
    records, found, _ = campaign_with(effect, tmp_path)
    write_contrast(records, found, tmp_path)
    text = (tmp_path / "contrast.md").read_text()
    assert [each for each in words if each not in text] == []


def test_to_a_target_that_both_pass_the_page_says_who_is_sooner(tmp_path: Path) -> None:
    records, found, _ = campaign_with(0.3, tmp_path)
    write_contrast(records, found, tmp_path)
    said = re.search(
        r"To (.+) dB it takes (.+) steps .+ with batch norm, (.+) steps \(.+\) without\.",
        (tmp_path / "contrast.md").read_text(),
    )
    assert said
    assert float(said[1]) == 28.75
    batch, none = (float(number.replace(",", "")) for number in said.groups()[1:])
    assert none / batch == pytest.approx(2 ** (0.3 / 0.4), rel=0.2)  # 0.4 dB for each doubling


def test_what_edsr_does_at_other_learning_rates_is_told_beside_what_was_searched(tmp_path: Path) -> None:
    records, found, _ = campaign_with(0.3, tmp_path)
    key = ("EDSR", "none"), 5.5e-4
    first, *others = found.other_rates[key]
    found.other_rates[key] = [replace(first, psnr={"first": [20.5]}), *others]  # 0.5 dB above its input
    write_contrast(records, found, tmp_path)
    text = (tmp_path / "contrast.md").read_text()
    table = text.partition("## Other learning rates")[2].partition("\n## ")[0]
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines() if line.startswith("| EDSR")
    ]
    assert [tuple(row[:2]) for row in rows] == [
        ("EDSR batch", "0.0018"), ("EDSR batch", "0.01 (searched)"),
        ("EDSR none", "0.00055"), ("EDSR none", "0.001 (searched)"),
    ]  # fmt: skip
    of_none = {row[1]: row for row in rows if row[0] == "EDSR none"}
    assert of_none["0.00055"][7] == "1 of 3"
    assert of_none["0.00055"][6] == "1.0, 1.0, 1.0"
    by_seed = [float(it) for it in of_none["0.00055"][5].split(", ")]
    assert len(by_seed) == 2  # but the one that collapsed
    assert np.mean(by_seed) == pytest.approx(float(of_none["0.00055"][4].split()[0]), abs=0.01)
    kept = np.mean([run.psnr["first"] for run in others])
    assert float(of_none["0.00055"][3]) == pytest.approx(kept, abs=0.01)
    of_batch = next(row for row in rows if row[1] == "0.0018")
    assert (
        f"relative to batch norm at its own: without batch norm {of_none['0.00055'][4]} dB with 0.00055 (1 of 3 runs "
        f"failed); with it {of_batch[4]} dB with 0.0018 (0 of 3 runs failed)."
    ) in text


def test_at_equal_time_the_slower_arm_has_fewer_steps(tmp_path: Path) -> None:
    _, found, _ = campaign_with(0.3, tmp_path)
    slower = {
        (arm, length): [replace(run, step_s=0.1 * 2**0.5 if arm[1] == "batch" else 0.1) for run in runs]
        for (arm, length), runs in found.runs.items()
    }
    assert all(one.equal_time in (None, one.effect) for one in compared(found.runs))
    for name, batch, sign in (("DnCNN", (FULL_SIZE.name, "batch"), 1), ("EDSR", ("EDSR", "batch"), -1)):
        first, *later = (one for one in compared(slower) if one.name == name)
        assert first.equal_time is None  # no shorter run is on record
        for one, (short, full) in zip(later, pairwise(FULL.lengths), strict=True):
            ends = [statistics.fmean(x for run in slower[batch, it] for x in run.psnr["first"]) for it in (short, full)]
            assert one.equal_time is not None
            expected = one.effect.mean + sign * (ends[0] - ends[1]) / 2  # half of a doubling
            assert one.equal_time.mean == pytest.approx(expected)


def test_a_collapsed_run_counts_as_failed_and_enters_no_mean(tmp_path: Path) -> None:
    records, found, _ = campaign_with(0.3, tmp_path)
    key = (FULL_SIZE.name, "none"), FULL.lengths[-1]
    first, *others = found.runs[key]
    found.runs[key] = [replace(first, psnr={"first": [20.5] * 10}), *others]
    write_contrast(records, found, tmp_path)
    content = json.loads((tmp_path / "contrast.json").read_text())
    (row,) = (row for row in content["verdicts"] if row["comparison"] == "DnCNN" and row["steps"] == 14400)
    assert row["seeds"] == 2
    assert row["failed"] == ["0 of 3", "1 of 3"]
    assert row["effect (dB)"] == pytest.approx(0.3, abs=0.05)
    assert content["trend"]["holds"]


def test_times_measured_in_turns_take_the_place_of_those_of_the_runs(tmp_path: Path) -> None:
    records, found, _ = campaign_with(0.3, tmp_path)
    seconds = {" ".join(arm): (0.2, 0.3, 0.3) if arm[1] == "batch" else (0.1, 0.2, 0.2) for arm in found.tuned}
    times = StepTimes(seconds, {"device": "cpu: a processor", "commit": "abc"})
    assert {one.time for one in compared(found.runs) if one.name == "DnCNN"} == {1.0}
    assert [one.time for one in compared(found.runs, times) if one.name == "DnCNN"] == pytest.approx([1.5] * 5)
    assert [one.time for one in compared(found.runs, times) if one.name == "EDSR"] == pytest.approx([2 / 3] * 5)
    written = write_contrast(records, found, tmp_path)[1]
    assert "processor time of the runs" in written.read_text()
    times.save(tmp_path)
    write_contrast(records, found, tmp_path)
    assert "measured in turns, cpu: a processor, commit abc" in written.read_text()
    assert "| minutes of one core |" in written.read_text()
    assert "| 17x64 batch minus 17x64 none | 14,400 |" in written.read_text()
    StepTimes(seconds, {"device": "NVIDIA H100", "commit": "abc"}).save(tmp_path)
    write_contrast(records, found, tmp_path)
    assert "| minutes of one NVIDIA H100 |" in written.read_text()
    assert "one core" not in written.read_text()


def test_a_criterion_that_is_younger_than_a_run_is_named(tmp_path: Path) -> None:
    records, found, _ = campaign_with(0.3, tmp_path)
    page = write_contrast(records, found, tmp_path)[1]
    assert "All were noted before the first run that is judged." in page.read_text()
    records.criteria["EDSR"]["since"] = "2200-01-01"
    records.criteria["WDSR-B, none"]["hash"] = "another"
    write_contrast(records, found, tmp_path)
    said = "not those that were noted: WDSR-B, none; noted after the first run that is judged (2100-01-01): EDSR."
    assert said in page.read_text()


def test_a_page_without_a_complete_round_says_so(tmp_path: Path) -> None:
    records = StudyRecords.opened(tmp_path / "records.json", FULL, StudyData("papers", Path()), FULL.seeds, CONTRAST)
    written = write_contrast(records, Contrast({}, {}, "search of settings"), tmp_path)
    assert [path.name for path in written] == ["contrast.json", "contrast.md"]
    text = (tmp_path / "contrast.md").read_text()
    assert "No round at the papers' sizes is complete yet." in text
    assert "![" not in text


def test_a_group_on_record_is_told_about_while_others_are_not_begun(tmp_path: Path) -> None:
    records, *_ = campaign_with(0.3, tmp_path)
    central = {size.features for size in SIZES} - {FULL_SIZE.features}
    records.results = {
        key: it
        for key, it in records.results.items()
        if it["experiment"]["network"]["arguments"]["features"] not in central
    }
    found, requests = so_far(records)
    assert {(FULL_SIZE.name, "batch"), ("EDSR", "none")} <= {arm for arm, length in found.runs if length == 12_000}
    assert not any(arm[0] == SIZES[0].name for arm, _ in found.runs)
    asked = {task.experiment.network.arguments["features"] for task in records.missing(requests)}
    assert asked == {SIZES[0].features}
    assert SIZES[0].name in found.stage


def test_a_target_that_one_norm_reaches_before_the_shortest_round_is_told_too(tmp_path: Path) -> None:
    records, found, _ = campaign_with(0.3, tmp_path)
    higher = {
        key: [replace(run, psnr={"first": [value + 1.6 for value in run.psnr["first"]]}) for run in runs]
        if key[0] == (FULL_SIZE.name, "batch")
        else runs
        for key, runs in found.runs.items()
    }
    text = write_contrast(records, replace(found, runs=higher), tmp_path)[1].read_text()
    assert re.search(r"To 28\.75 dB it takes fewer than 900 steps with batch norm, [\d,]+ steps \(.+\) without\.", text)


@pytest.mark.parametrize(("lowest", "words", "is_told"), [
    (9.0, "with another seed 9.00", True), (98.5, "with another seed 98.50", False),
    (None, "with another seed it fails", True),
])  # fmt: skip
@pytest.mark.parametrize(("length", "steps"), [(1500, "1,800"), (6000, "7,200")])
def test_the_page_names_a_rate_that_only_the_first_seed_liked(
    length: int, steps: str, lowest: float | None, words: str, is_told: bool, tmp_path: Path
) -> None:
    records, found, _ = campaign_with(0.3, tmp_path)
    arm = (FULL_SIZE.name, "none")
    tuned = found.tuned[arm]
    row = next(row for row in tuned.table if row["steps"] == length)
    fooled = row | {"learning rate": 0.5, "validation PSNR (dB)": lowest and (99.0 + lowest) / 2, "seeds": 2}
    found.tuned[arm] = replace(tuned, table=[*tuned.table, fooled | {"by seed (dB)": [99.0, lowest]}])
    text = write_contrast(records, found, tmp_path)[1].read_text()
    assert text.count(f"0.5: 99.00 dB, {words}") == 1
    told = f"In the search 17x64 none has 99.00 dB (validation images) with a learning rate of 0.5 after {steps} steps"
    assert (f"{told}, but {words}; so " in text) == is_told


def test_what_another_machine_has_made_is_adopted(tmp_path: Path) -> None:
    records, *_ = campaign_with(0.3, tmp_path)
    key, result = next(iter(records.results.items()))
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / f"{key}.json").write_text(json.dumps(result))
    records.results = {}
    adopt(records, tmp_path)
    assert records.results == {key: json.loads(json.dumps(result))}
