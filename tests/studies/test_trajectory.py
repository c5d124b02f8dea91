"""Runs of a few steps: whatever stops them, they end as if nothing had; what is on record is not made again."""

import json
import math
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import asdict, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from restore.checkpoint import load_weights
from restore.data.degradation import Bicubic
from restore.errors import UserError
from restore.images.tensors import quantize
from restore.metrics import psnr
from restore.studies import pool, runner
from restore.studies import trajectory as trajectories
from restore.studies.budget import BUDGETS
from restore.studies.data import StudyData
from restore.studies.experiment import Experiment, Record
from restore.studies.pool import put_on_record
from restore.studies.requests import Measurement, StudyRecords, Task, Timing, Trial, rounded
from restore.studies.runner import train
from restore.studies.trajectory import Trajectory

BUDGET = BUDGETS["smoke"]
DATA = StudyData("photos", Path(), images=1, crop=32)
CPU = torch.device("cpu")
ARMS = [("batch", "adam"), ("none", "adam"), ("batch", "sgd"), ("none", "sgd")]

Outcome = tuple[dict[str, Any], dict[str, Tensor]]


def denoising(norm: str = "batch", optimizer: str = "adam", length: int = 5, **arguments: Any) -> Experiment:
    lr = 1e-3 if optimizer == "adam" else 1e-4
    experiment = BUDGET.denoising(norm=norm, **arguments).with_optim(optimizer=optimizer, lr=lr)
    return experiment.of_length(length)


@pytest.fixture
def folders(tmp_path: Path) -> Callable[[str], Path]:
    """Makes folders of studies."""

    def make(name: str) -> Path:
        for part in ("runs", "states"):
            (tmp_path / name / part).mkdir(parents=True, exist_ok=True)
        return tmp_path / name

    return make


Folders = Callable[[str], Path]


def weights(experiment: Experiment, folder: Path, seed: int = 0) -> dict[str, Tensor]:
    return load_weights(folder / "runs" / f"{experiment.key(DATA, seed)}.safetensors").network.state_dict()


def outcome(experiment: Experiment, folder: Path, seed: int = 0) -> Outcome:
    """The record, but for times, and the weights of a run that continues from what the folder holds."""
    record = train(experiment, DATA, seed, folder)
    assert record is not None
    content = {name: it for name, it in asdict(record).items() if name not in ("step_s", "provenance")}
    return content, weights(experiment, folder, seed)


def assert_equal(one: Outcome, other: Outcome) -> None:
    assert one[0] == other[0]
    assert one[1].keys() == other[1].keys()
    assert all(torch.equal(value, other[1][name]) for name, value in one[1].items())


def after(steps: int) -> Callable[[], bool]:
    """Interrupts after so many steps."""
    left = iter(range(steps))
    return lambda: next(left, None) is None


def start(experiment: Experiment, seed: int = 0) -> Trajectory:
    return Trajectory(experiment, DATA, seed, CPU)


@pytest.mark.parametrize(("norm", "optimizer"), ARMS)
def test_a_run_interrupted_anywhere_ends_as_one_that_was_not(norm: str, optimizer: str, folders: Folders) -> None:
    experiment = denoising(norm, optimizer, length=30)  # losses are noted every 25 steps; the decay takes 6
    undisturbed = outcome(experiment, folders("undisturbed"))
    assert len(undisturbed[0]["losses"]) == 1
    folder = folders("interrupted")
    for steps in (1, 11, 17, 1, 3):  # to 1, 12, 29, 30 and, in the decay, 33
        assert train(experiment, DATA, 0, folder, interrupted=after(steps)) is None
    assert list((folder / "states").glob("*.decay.pt"))
    assert_equal(outcome(experiment, folder), undisturbed)
    assert not list((folder / "states").glob("*.decay.pt"))


def test_a_shorter_run_leaves_the_state_of_a_longer_one_that_was_interrupted(folders: Folders) -> None:
    short, long = denoising(length=5), denoising(length=20)
    folder = folders("both")
    assert train(long, DATA, 0, folder, interrupted=after(15)) is None
    (state,) = (folder / "states").glob("*.pt")
    kept = state.read_bytes()
    assert train(short, DATA, 0, folder, interrupted=after(2)) is None
    assert_equal(outcome(short, folder), outcome(short, folders("alone")))
    assert state.read_bytes() == kept
    assert_equal(outcome(long, folder), outcome(long, folders("long")))


def test_dropout_draws_the_same_after_an_interruption(folders: Folders) -> None:
    base = denoising()
    network = replace(base.network, name="DnCNNVariant", arguments=base.network.arguments | {"dropout": 0.3})
    experiment = replace(base, network=network)
    folder = folders("interrupted")
    assert train(experiment, DATA, 0, folder, interrupted=after(3)) is None
    assert_equal(outcome(experiment, folder), outcome(experiment, folders("undisturbed")))


def test_runs_of_other_lengths_share_their_steps_in_any_order(folders: Folders) -> None:
    short, long = denoising(length=5), denoising(length=10)
    alone = {it.length: outcome(it, folders(f"alone {it.length}")) for it in (short, long)}
    upwards, downwards = folders("upwards"), folders("downwards")
    assert_equal(outcome(short, upwards), alone[5])
    assert_equal(outcome(long, upwards), alone[10])
    assert_equal(outcome(long, downwards), alone[10])
    assert_equal(outcome(short, downwards), alone[5])
    assert_equal(outcome(denoising(length=10), downwards), alone[10])  # again, after the shorter


def test_a_longer_run_goes_on_from_the_shorter_one(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = folders("upwards")
    outcome(denoising(length=5), folder)
    taken: list[int] = []
    take = Trajectory.take_step

    def noted(trajectory: Trajectory) -> float:
        taken.append(trajectory.step)
        return take(trajectory)

    monkeypatch.setattr(Trajectory, "take_step", noted)
    outcome(denoising(length=10), folder)
    assert taken == [5, 6, 7, 8, 9, 10, 11]


def test_seeds_differ_in_initial_weights_batches_and_noise() -> None:
    one, other = (start(denoising(), seed) for seed in (0, 1))
    for a, b in zip(one.network.parameters(), other.network.parameters(), strict=True):
        assert a.dim() < 4 or not torch.equal(a, b)
    pairs = [each.pair(0) for each in (one, other)]
    assert not torch.equal(pairs[0].clean, pairs[1].clean)
    noises = [pair.degraded - pair.clean for pair in pairs]
    assert not torch.allclose(noises[0], noises[1], atol=1e-3)


def test_twins_that_differ_in_norm_start_alike_and_see_the_same_pairs(tmp_path: Path) -> None:
    twins = [start(denoising(norm)) for norm in ("batch", "none", "adadm")]
    weights = [[p for p in twin.network.parameters() if p.dim() == 4] for twin in twins]
    assert all(torch.equal(a, b) for other in weights[1:] for a, b in zip(weights[0], other, strict=True))
    for twin in twins:
        twin.advance(3, tmp_path / "state.pt", lambda: False)
    for step in range(5):
        first, *others = (twin.pair(step) for twin in twins)
        for other in others:
            assert torch.equal(first.degraded, other.degraded)
            assert torch.equal(first.clean, other.clean)


def test_noise_differs_between_steps_and_repeats_for_the_same_step() -> None:
    run, again = start(denoising()), start(denoising())
    noises = [pair.degraded - pair.clean for pair in map(run.pair, range(4))]
    assert all(not torch.allclose(a, b, atol=1e-3) for a, b in pairwise(noises))
    assert all(0.07 < noise.std() < 0.12 for noise in noises)  # 25 / 255 = 0.098
    assert torch.equal(again.pair(3).degraded, run.pair(3).degraded)


def test_frozen_statistics_stay_during_the_decay_and_move_before(folders: Folders) -> None:
    moving, frozen = denoising(length=10), replace(denoising(length=10), freeze_in_decay=True)
    folder = folders("both")
    outcome(moving, folder)
    outcome(frozen, folder)
    trunk = torch.load(next((folder / "states").glob("*.10.pt")), weights_only=True)["network"]
    name = "body.2.norm.running_mean"
    assert trunk[name].abs().max() > 0
    assert torch.equal(weights(frozen, folder)[name], trunk[name])
    assert not torch.equal(weights(moving, folder)[name], trunk[name])
    assert not torch.equal(weights(frozen, folder)["body.2.norm.weight"], trunk["body.2.norm.weight"])


def test_the_learning_rate_warms_up_stays_and_decays_to_near_nothing() -> None:
    experiment = denoising(length=1000)
    factors = [experiment.rate_factor(step) for step in range(experiment.steps)]
    assert len(factors) == 1200
    assert factors[0] == 0.01
    assert factors[:100] == pytest.approx([(step + 1) / 100 for step in range(100)])
    assert factors[100:1000] == [1.0] * 900
    assert all(a > b for a, b in pairwise(factors[999:]))
    assert factors[1100] == pytest.approx(1 - math.sqrt(0.5), abs=2e-3)
    assert 0 < factors[-1] < 0.003


def test_the_optimizer_is_given_the_rate_of_each_step(tmp_path: Path) -> None:
    run = start(denoising(length=5))
    run.advance(3, tmp_path / "state.pt", lambda: False)
    assert [group["lr"] for group in run._optimizer.param_groups] == pytest.approx([0.03 * 1e-3] * 2)


def test_a_run_that_diverges_is_on_record_with_its_step(folders: Folders) -> None:
    experiment = denoising("none", length=10).with_optim(lr=1e30)
    folder = folders("diverged")
    record, _ = outcome(experiment, folder)
    assert record["failed_at"] is not None
    assert record["failed_at"] < 10
    assert record["psnr"] == {}
    assert record["validation"] is None
    assert record["input_psnr"]["photos"] > 10
    path = folder / "runs" / f"{experiment.key(DATA, 0)}.safetensors"
    assert not load_weights(path).training["finite"]


def test_the_recorded_psnr_is_that_of_the_kept_weights(folders: Folders) -> None:
    experiment, folder = BUDGET.edsr(norm="batch"), folders("sr")
    record, _ = outcome(experiment, folder)
    network = load_weights(folder / "runs" / f"{experiment.key(DATA, 0)}.safetensors").network
    (pair,) = DATA.test_pairs(Bicubic(2), 3)["photos"]
    with torch.no_grad():
        restored = quantize(network(pair.degraded))
    luma = torch.tensor([65.481, 128.553, 24.966]).view(3, 1, 1) / 255
    found, clean = (((image * luma).sum(1, keepdim=True))[..., 2:-2, 2:-2] for image in (restored, pair.clean))
    assert record["psnr"]["photos"] == [pytest.approx(psnr(found, clean).item(), abs=0.02)]


def test_probing_a_run_does_not_change_it(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        trajectories, "PROBES", {name: replace(schedule, every=2) for name, schedule in trajectories.PROBES.items()}
    )
    plain = denoising(length=5)
    probing = plain.probing("percentiles", "effective_lr", "landscape", "shift")
    unwatched, watched = outcome(plain, folders("plain")), outcome(probing, folders("probing"))
    steps = {name: [entry["step"] for entry in entries] for name, entries in watched[0].pop("probed").items()}
    assert steps == {name: [2, 4] for name in probing.probes}
    assert unwatched[0].pop("probed") == {}
    assert unwatched[0].pop("experiment") != watched[0].pop("experiment")
    assert_equal(watched, unwatched)


def test_a_gain_multiplies_all_weights_but_the_last_by_one_factor_and_the_last_by_another() -> None:
    plain, gained = (
        [p for p in start(replace(denoising("none"), gain=gain)).network.parameters() if p.dim() == 4]
        for gain in ((1.0, 1.0), (3.0, 2.0))
    )
    assert all(torch.equal(b, 3 * a) for a, b in zip(plain[:-1], gained[:-1], strict=True))
    assert torch.equal(gained[-1], 2 * plain[-1])


@pytest.mark.parametrize(
    "change",
    [
        lambda it: it.with_network(norm="none"),
        lambda it: it.with_optim(lr=0.5),
        lambda it: it.of_length(6),
        lambda it: it.probing("shift"),
        lambda it: replace(it, images=4),
        lambda it: replace(it, gain=(2.0, 1.0)),
        lambda it: replace(it, freeze_in_decay=True),
        lambda it: replace(it, degradation=Bicubic(2)),
    ],
)
def test_whatever_changes_the_outcome_changes_the_key(change: Callable[[Experiment], Experiment]) -> None:
    base = denoising()
    assert change(base).key(DATA, 0) != base.key(DATA, 0)
    shares_steps = change(base).trunk_key(DATA, 0) == base.trunk_key(DATA, 0)
    assert shares_steps == (change(base).length != 5 or change(base).freeze_in_decay)


def test_the_key_names_seed_and_data_but_no_place() -> None:
    base = denoising()
    assert base.key(DATA, 0) != base.key(DATA, 1)
    assert base.key(DATA, 0) != base.key(replace(DATA, crop=48), 0)
    assert base.key(DATA, 0) == base.key(replace(DATA, root=Path("elsewhere")), 0)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Works in this process, as others take long to start."""

    class Here:
        def __init__(self, _: int, __: object, ___: object, arguments: tuple[Any, ...]) -> None:
            *_, stop, until = arguments
            monkeypatch.setattr(pool, "_INTERRUPTED", partial(pool._over, stop, until))

        def __enter__(self) -> "Here":
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def submit(self, work: Callable[..., bool], *arguments: Any) -> Future[bool]:
            future: Future[bool] = Future()
            future.set_result(work(*arguments))
            return future

    monkeypatch.setattr(pool, "ProcessPoolExecutor", Here)


def test_another_process_makes_the_same_record(folders: Folders) -> None:
    records = StudyRecords(BUDGET, DATA, seeds=1)
    assert put_on_record(lambda: records.missing({"plain": denoising()}), records, folders("processes"), jobs=1)
    expected, _ = outcome(denoising(), folders("here"))
    (found,) = records.results.values()
    assert found["losses"] == expected["losses"]
    assert found["psnr"]["photos"] == pytest.approx(expected["psnr"]["photos"], abs=1e-3)


@pytest.mark.usefixtures("here")
def test_what_is_on_record_is_not_made_again_and_what_is_lost_is(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "TURN_S", 0.01)
    folder = folders("studies")
    requests = {
        "plain": denoising(),
        "trial": Trial(denoising("none")),
        "weights": Measurement(denoising(), "contrast"),
        "times": Timing((("batch", denoising()), ("none", denoising("none")))),
    }

    def done(until: float | None = None) -> tuple[bool, dict[str, int], StudyRecords]:
        records = StudyRecords(BUDGET, DATA, seeds=1)
        complete = put_on_record(lambda: records.missing(requests), records, folder, jobs=1, until=until)
        return complete, {path.name: path.stat().st_mtime_ns for path in (folder / "runs").iterdir()}, records

    assert done(until=time.time() - 1)[:2] == (False, {})
    complete, first, records = done()
    assert complete
    assert len([name for name in first if name.endswith(".json")]) == 4
    (times,) = records.answer(requests)["times"]
    assert {name: len(seconds) for name, seconds in times.seconds.items()} == {"batch": 3, "none": 3}
    assert done()[:2] == (True, first)
    assert StudyRecords.load(folder / "records.json").results == records.results

    lost = folder / "runs" / f"{denoising().key(DATA, 0)}.json"
    content = json.loads(lost.read_text())
    lost.unlink()
    complete, second, _ = done()
    assert complete
    kept = [name for name in first if name.endswith(".json") and name != lost.name]
    assert [first[name] for name in kept] == [second[name] for name in kept]
    made = json.loads(lost.read_text())
    assert {**made, "step_s": 0, "provenance": 0} == {**content, "step_s": 0, "provenance": 0}

    lost.write_text(lost.read_text()[:100])
    with pytest.raises(UserError, match=rf"{lost.name}: damaged .*; delete it"):
        done()


@pytest.mark.usefixtures("here")
def test_a_run_that_the_end_of_the_time_interrupts_is_not_said_to_be_on_record(folders: Folders) -> None:
    records = StudyRecords(BUDGET, DATA, seeds=1)
    ask = partial(records.missing, {"long": denoising(length=10**6)})
    assert not put_on_record(ask, records, folders("studies"), jobs=1, until=time.time() + 1)
    assert records.results == {}


@pytest.mark.usefixtures("here")
def test_a_timing_that_the_end_of_the_time_interrupts_is_not_on_record(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "TURN_S", 10**6)
    records = StudyRecords(BUDGET, DATA, seeds=1)
    ask = partial(records.missing, {"times": Timing((("batch", denoising()),))})
    assert not put_on_record(ask, records, folders("studies"), jobs=1, until=time.time() + 1)
    assert records.results == {}


@pytest.mark.usefixtures("here")
def test_what_was_done_is_on_record_after_an_error(folders: Folders) -> None:
    records, folder = StudyRecords(BUDGET, DATA, seeds=1), folders("studies")

    def ask() -> list[Task]:
        if not records.results:
            return records.missing({"first": denoising()})
        raise UserError("what judges fails")

    with pytest.raises(UserError, match="what judges fails"):
        put_on_record(ask, records, folder, jobs=1)
    assert len(StudyRecords.load(folder / "records.json").results) == 1


@pytest.mark.usefixtures("here")
def test_what_is_done_is_on_record_while_more_is_under_way(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "SAVE_EVERY_S", -1.0)
    records, folder = StudyRecords(BUDGET, DATA, seeds=1), folders("studies")
    saved: list[int] = []

    def ask() -> list[Task]:
        if records.results:
            saved.append(len(StudyRecords.load(folder / "records.json").results))
        return records.missing({"first": denoising()}) or records.missing({"then": denoising("none")})

    assert put_on_record(ask, records, folder, jobs=1)
    assert saved[0] == 1


def test_on_a_gpu_a_timing_is_alone() -> None:
    records = StudyRecords(BUDGET, DATA, seeds=1)
    requests = {"times": Timing((("batch", denoising()),)), "run": denoising(), "other": denoising("none")}
    for alone, beside in ((True, None), (False, Timing)):
        queue = pool._Queue(partial(records.missing, requests), records, alone)
        flying = [task for _ in range(2) if (task := queue.take([])) is not None]
        assert [type(task.request) for task in flying] == [Experiment, Experiment]
        timing = queue.take(flying)
        assert (timing and type(timing.request)) is beside
        timing = timing or queue.take([])
        assert timing is not None
        assert isinstance(timing.request, Timing)


def test_what_follows_from_a_result_does_not_wait_for_other_runs(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A claim's next stage begins while another's long run is under way."""
    records = StudyRecords(BUDGET, DATA, seeds=1)
    first, long, then = denoising(length=5), denoising("none", length=7), denoising(length=6)
    log: list[int] = []

    def ask() -> list[Task]:
        following = records.missing({"first": first}) or records.missing({"then": then})
        return [*following, *records.missing({"long": long})]

    class Held:
        """Makes what is submitted, but the long run only after what follows from the first."""

        def __init__(self, *_: object) -> None:
            self.held: list[tuple[Future[bool], Callable[[], bool]]] = []

        def __enter__(self) -> "Held":
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def submit(self, work: Callable[..., bool], task: Task, *arguments: Any) -> Future[bool]:
            future: Future[bool] = Future()
            log.append(task.experiment.length)
            self.held.append((future, partial(work, task, *arguments)))
            if task.experiment != long:
                for one, perform in self.held if task.experiment == then else self.held[-1:]:
                    if not one.done():
                        one.set_result(perform())
            return future

    def done(futures: Iterable[Future[bool]], **_: Any) -> Any:
        ended = {future for future in futures if future.done()}
        assert ended  # or it would wait for ever
        return SimpleNamespace(done=ended)

    monkeypatch.setattr(pool, "ProcessPoolExecutor", Held)
    monkeypatch.setattr(pool, "wait", done)
    assert put_on_record(ask, records, folders("studies"), jobs=2)
    assert log == [5, 7, 6]
    assert len(records.results) == 3


@pytest.mark.parametrize("content", [b"", b"abc", b"PK\x03\x04 cut off", None])
def test_a_damaged_state_is_one_line_that_names_the_file(content: bytes | None, folders: Folders) -> None:
    folder, experiment = folders("studies"), denoising()
    assert train(experiment, DATA, 0, folder, interrupted=after(2)) is None
    (state,) = (folder / "states").iterdir()
    state.write_bytes(state.read_bytes()[:-500] if content is None else content)
    with pytest.raises(UserError, match=f"{state.name}: not a state of this run, or damaged") as caught:
        train(experiment, DATA, 0, folder)
    assert "\n" not in str(caught.value)


def test_a_state_of_another_network_is_refused(tmp_path: Path) -> None:
    start(denoising()).save(tmp_path / "state.pt")
    with pytest.raises(UserError, match=r"state\.pt: not a state of this run"):
        start(denoising(features=4)).load(tmp_path / "state.pt")


@pytest.mark.parametrize("content", ["", "{}", '{"budget": "none"}', "[1]"])
def test_damaged_records_are_one_line(tmp_path: Path, content: str) -> None:
    (tmp_path / "records.json").write_text(content)
    with pytest.raises(UserError, match="not the records of studies, or damaged"):
        StudyRecords.load(tmp_path / "records.json")


def test_a_record_is_the_same_after_it_was_written_and_read(folders: Folders) -> None:
    record = train(denoising(), DATA, 0, folders("studies"))
    assert record is not None
    written = json.dumps(rounded(record))
    assert json.dumps(rounded(Record(**json.loads(written)))) == written
