"""One run of a study."""

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from restore.checkpoint import load_weights
from restore.data.degradation import Bicubic
from restore.images.tensors import quantise
from restore.metrics import psnr
from restore.models import build
from restore.studies.budget import BUDGETS
from restore.studies.experiment import Bench, Experiment, Record, _scale_weights, run

BUDGET = BUDGETS["smoke"]
BENCH = Bench("photos", "photos", Path(), crops=2, crop=32)


def test_a_run_gives_the_same_record_each_time(tmp_path: Path) -> None:
    first, second = (run(BUDGET.denoising, BENCH, 3, tmp_path / f"{i}.safetensors") for i in range(2))
    assert first.psnr == second.psnr
    assert first.losses == second.losses
    assert Record(**json.loads(json.dumps(asdict(first)))).watched == first.watched


def test_the_recorded_psnr_is_that_of_the_kept_weights(tmp_path: Path) -> None:
    record = run(BUDGET.super_resolution.with_network(norm="batch"), BENCH, 0, tmp_path / "w.safetensors")
    network = load_weights(tmp_path / "w.safetensors").network
    crops = BENCH.test_crops(Bicubic(2), 3)
    with torch.no_grad():
        restored = network(crops.degraded)
    assert record.psnr[-1] == pytest.approx(psnr(quantise(restored), quantise(crops.clean)).mean().item(), abs=0.01)


def test_watching_a_run_does_not_change_it(tmp_path: Path) -> None:
    plain = run(BUDGET.denoising, BENCH, 0, tmp_path / "a.safetensors")
    watching = BUDGET.denoising.watching("percentiles", "effective_lr", "landscape", "shift")
    watched = run(watching, BENCH, 0, tmp_path / "b.safetensors")
    assert watched.psnr == plain.psnr
    assert watched.losses == plain.losses
    assert {name: len(entries) for name, entries in watched.watched.items()} == dict.fromkeys(watching.watch, 3)


def test_a_run_that_diverges_is_on_record_with_its_step(tmp_path: Path) -> None:
    record = run(BUDGET.denoising.with_network(norm="none").with_optim(lr=1e30), BENCH, 0, tmp_path / "w.safetensors")
    assert record.diverged_at is not None
    assert record.psnr[-1] == 0.0
    assert not load_weights(tmp_path / "w.safetensors").training["finite"]


def test_frozen_statistics_stay_as_they_were(tmp_path: Path) -> None:
    base = BUDGET.denoising
    run(replace(base, freeze_after=0.5), BENCH, 0, tmp_path / "frozen.safetensors")
    run(replace(base, steps=2), BENCH, 0, tmp_path / "short.safetensors")
    run(base, BENCH, 0, tmp_path / "moving.safetensors")
    means = {
        name: load_weights(tmp_path / f"{name}.safetensors").network.state_dict()["body.2.norm.running_mean"]
        for name in ("frozen", "short", "moving")
    }
    assert torch.equal(means["frozen"], means["short"])
    assert not torch.equal(means["frozen"], means["moving"])


def test_twins_start_from_the_same_weights_and_a_gain_multiplies_them() -> None:
    networks = []
    for norm in ("batch", "none"):
        torch.manual_seed(1)
        networks.append(build(BUDGET.denoising.with_network(norm=norm).network))
    with_norm, without = ([p for name, p in network.named_parameters() if p.ndim == 4] for network in networks)
    assert all(torch.equal(a, b) for a, b in zip(with_norm, without, strict=True))
    before = [weight.clone() for weight in without]
    _scale_weights(networks[1], 3.0)
    assert all(torch.equal(a, 3 * b) for a, b in zip(without, before, strict=True))
    _scale_weights(networks[1], (1.0, 2.0))
    assert torch.equal(without[-1], 6 * before[-1])
    assert torch.equal(without[0], 3 * before[0])


@pytest.mark.parametrize(
    "change",
    [
        lambda it: it.with_network(norm="none"),
        lambda it: it.with_optim(lr=0.5),
        lambda it: replace(it, images=4),
        lambda it: replace(it, gain=2.0),
        lambda it: replace(it, freeze_after=0.5),
        lambda it: it.watching("shift"),
        lambda it: replace(it, degradation=Bicubic(2)),
    ],
)
def test_whatever_changes_the_outcome_changes_the_key(change: Callable[[Experiment], Experiment]) -> None:
    base = BUDGET.denoising
    assert change(base).key(BENCH, 0) != base.key(BENCH, 0)


def test_the_key_names_seed_and_data_but_neither_place_nor_device() -> None:
    base = BUDGET.denoising
    assert base.key(BENCH, 0) != base.key(BENCH, 1)
    assert base.key(BENCH, 0) != base.key(replace(BENCH, train="Train400"), 0)
    assert base.key(BENCH, 0) == base.key(replace(BENCH, root=Path("elsewhere"), device="cuda:3"), 0)
