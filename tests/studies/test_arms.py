"""Arms of a comparison: what differs between them, how their settings are chosen, and what a budget changes."""

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import pytest
from made_up import BASE_DB, SMALL, World, followed, records_of, runs_of, state_of

from restore.studies.arms import FIRST_RATES, INITS, TWINS, tuned
from restore.studies.budget import BUDGETS, Budget
from restore.studies.claims import CLAIMS
from restore.studies.experiment import TUNING_SEED, Experiment
from restore.studies.requests import Trial
from restore.studies.tuning import RATES, Tuned, for_longer, tune

# What each claim studies: nothing else may differ between its runs of one network, found settings aside.
STUDIED: dict[str, dict[str, set[str]]] = {
    "forty_percent_of_memory": {},
    "faster_and_better_denoising": {"DnCNN": {"norm", "residual", "optimizer", "length"}},
    "one_decibel": {"DnCNN": {"norm"}},
    "better_without": {"EDSR": {"norm", "length", "features", "batch_size"}, "WDSRB": {"norm"}},
    "scale_is_lost": {"DnCNN": {"norm"}, "EDSR": {"norm"}},
    "higher_learning_rates": {"DnCNN": {"norm"}},
    "insensitive_to_initialization": {"DnCNN": {"norm", "gain"}},
    "fails_for_small_batches": {"DnCNN": {"norm", "batch_size", "length"}},
    "weight_scale_does_not_matter": {"DnCNN": {"probes"}},
    "population_statistics": {"DnCNN": {"bn_momentum", "probes"}},
    "internal_covariate_shift": {"DnCNN": {"norm"}},
    "smoother_landscape": {"DnCNN": {"norm"}, "EDSR": {"norm"}},
    "residual_scaling": {"EDSR": {"res_scale"}},
    "weight_norm_replaces_batch_norm": {"WDSRA": {"norm"}, "WDSRB": {"norm"}},
    "regularizes": {"DnCNN": {"norm", "images"}},
    "blind_gains_more": {"DnCNN": {"norm", "degradation"}},
    "frozen_statistics": {name: {"norm", "freeze_in_decay"} for name in ("WDSRB", "EDSR")},
    "folding_and_recomputing": {"DnCNN": set()},
    "better_without_in_my_code": {"DnCNN": {"norm"}},
    "spots_in_mid_training": {"DnCNN": {"norm", "probes", "freeze_in_decay"}},
    "bias_free_generalizes": {"DnCNNVariant": {"norm", "bias_free"}},
    "batch_norm_can_work_in_super_resolution": {"WDSRB": {"norm"}, "EDSR": {"norm"}},
    "from_srresnet_to_edsr": {"SRResNet": {"loss"}, "EDSR": {"norm"}},
    "norm_before_activation": {"DnCNNVariant": {"order"}},
    "sigmoid_needs_batch_norm": {"DnCNNVariant": {"norm"}},
    "makes_weight_decay_and_dropout_unnecessary": {"DnCNNVariant": {"norm", "weight_decay", "dropout"}},
    "muon_gives_what_batch_norm_gives": {"DnCNN": {"norm", "optimizer"}},
}
FOUND = {"init", "lr", "muon_lr"}
# Every one of these has all of its arms with batch norm and without.
PAIRED = [
    name for name, networks in STUDIED.items()
    if networks and all("norm" in it for it in networks.values())
    and name not in ("better_without", "frozen_statistics", "spots_in_mid_training", "from_srresnet_to_edsr")
]  # fmt: skip


def settings(run: Experiment) -> dict[str, str]:
    """All that decides a run but its seed, by name."""
    described = dict(run.description)
    network, optim = described.pop("network"), described.pop("optim")
    flat = described | network["arguments"] | optim
    return {name: str(value) for name, value in flat.items()}


def by_network(claim: str) -> dict[str, list[dict[str, str]]]:
    found: dict[str, list[dict[str, str]]] = defaultdict(list)
    for run in runs_of(claim):
        found[run.network.name].append(settings(run))
    return found


@pytest.mark.parametrize("claim", CLAIMS)
def test_the_runs_of_a_claim_differ_in_what_it_studies_and_in_settings_found_by_search_only(claim: str) -> None:
    differs = {}
    for network, runs in by_network(claim).items():
        names = set().union(*runs)
        differs[network] = {name for name in names if len({run.get(name) for run in runs}) > 1} - FOUND
    assert differs == STUDIED[claim]


@pytest.mark.parametrize("claim", PAIRED)
def test_each_run_with_batch_norm_has_a_twin_without(claim: str) -> None:
    for runs in by_network(claim).values():
        arms = {norm: set() for norm in TWINS}
        for run in runs:
            if run["norm"] in TWINS:
                rest = {name: it for name, it in run.items() if name not in FOUND | {"norm"}}
                arms[run["norm"]].add(tuple(sorted(rest.items())))
        assert arms["batch"] == arms["none"] != set()


def test_all_arms_have_the_same_seeds_and_the_search_has_one_that_judges_nothing() -> None:
    for budget in BUDGETS.values():
        records = records_of(seeds=8, budget=budget)
        twins = [budget.denoising(norm=norm) for norm in TWINS]
        batch, none = ([task.seed for task in records.tasks(run)] for run in twins)
        assert batch == none == list(range(budget.first_seed, budget.first_seed + 8))
        assert [task.seed for task in records.tasks(Trial(twins[0], 3))] == [TUNING_SEED + i for i in range(3)]
        assert max(batch) < TUNING_SEED


class Optimum(World):
    """Validation PSNR falls with the distance of learning rate and initial weights from the best; tests say nothing."""

    def __init__(self, rates: dict[str, float | None], init: str = "kair") -> None:
        self.rates = rates
        self.init = init

    def psnr(self, run: Experiment, seed: int | None) -> float | None:
        rate = self.rates[run.network.arguments["norm"]]
        if rate is None or (rate < 1 and run.optim.lr > 30 * rate):
            return None
        return BASE_DB - abs(math.log10(run.optim.lr / rate)) - 0.1 * (run.network.arguments.get("init") != self.init)


def searched(
    world: World, lengths: Sequence[int] = (100,), rates: Sequence[float] = (3e-3, 1e-2)
) -> tuple[dict[Any, Tuned], list[Trial]]:
    arms = {norm: [SMALL.denoising(norm=norm, init=init) for init in INITS] for norm in TWINS}
    found = followed(lambda: tune(arms, rates, lengths), world, records_of())
    assert found.outcome is not None
    return found.outcome, [it for it in found.answered if isinstance(it, Trial)]


@pytest.mark.parametrize(("batch", "none"), [(1.0, 1e-5), (3e-2, 3e-3), (1e-3, 0.3)])
def test_the_search_goes_on_beyond_its_first_rates_until_the_best_is_surrounded(batch: float, none: float) -> None:
    found, trials = searched(Optimum({"batch": batch, "none": none}))
    for norm, rate in (("batch", batch), ("none", none)):
        best = found[norm].best
        assert (best.optim.lr, best.network.arguments["init"], best.network.arguments["norm"]) == (rate, "kair", norm)
        tried = {
            it.of.optim.lr for it in trials if settings(it.of)["norm"] == norm and settings(it.of)["init"] == "kair"
        }
        place = RATES.index(rate)
        assert {*RATES[place - 1 : place + 2]} <= tried


def test_a_run_that_fails_is_never_chosen_and_a_search_in_which_all_fail_ends() -> None:
    found, _ = searched(Optimum({"batch": 1e-4, "none": None}))
    assert found["batch"].best.optim.lr == 1e-4
    assert all(row["validation PSNR (dB)"] is None for row in found["none"].table)


def test_halving_keeps_a_third_but_at_least_two() -> None:
    _, trials = searched(Optimum({"batch": 3e-3, "none": 3e-3}), (100, 200))
    longer = [it for it in trials if it.of.length == 200 and settings(it.of)["norm"] == "batch"]
    assert 2 <= len({str(it.of.description) for it in longer}) < 2 * len(INITS)
    one = {norm: [SMALL.edsr(norm=norm)] for norm in TWINS}
    found = followed(lambda: tune(one, (1e-3, 3e-3), (100, 200)), Optimum({"batch": 1e-3, "none": 1e-3}), records_of())
    rates = {it.of.optim.lr for it in found.answered if isinstance(it, Trial) and it.of.length == 200}
    assert len(rates) >= 2


class Edge(Optimum):
    """The higher rate is a little better with the first seed and fails with others."""

    def tried(self, run: Experiment, number: int) -> float | None:
        if run.optim.lr == 1e-2:
            return BASE_DB + 0.1 if number == 0 else None
        return super().tried(run, number)


def test_a_rate_at_the_edge_of_what_works_is_not_taken_for_one_good_seed() -> None:
    world = Edge({"batch": 3e-3, "none": 3e-3})
    arms = {norm: [SMALL.edsr(norm=norm)] for norm in TWINS}
    for seeds, rate in ((1, 1e-2), (3, 3e-3)):
        found = followed(lambda seeds=seeds: tune(arms, (1e-3, 3e-3), (100,), seeds), world, records_of()).outcome
        assert found is not None
        assert {one.best.rate for one in found.values()} == {rate}


class Unlike(World):
    """Other seeds than the search's first have a much lower best rate."""

    def tried(self, run: Experiment, number: int) -> float | None:
        return BASE_DB - abs(math.log10(run.optim.lr / (1e-4 if number else 3e-3)))


def test_what_wins_with_more_seeds_is_surrounded_with_as_many() -> None:
    arms = {"a": [SMALL.edsr(norm="batch")]}
    found = followed(lambda: tune(arms, (1e-3, 3e-3), (100,), 3), Unlike(), records_of())
    assert found.outcome is not None
    assert found.outcome["a"].best.rate == 1e-4
    trials = {(it.of.rate, it.seeds) for it in found.answered if isinstance(it, Trial)}
    assert {(3e-5, 3), (1e-4, 3), (3e-4, 3)} <= trials


class Slower(World):
    """The longer a run, the lower its best rate."""

    def psnr(self, run: Experiment, seed: int | None) -> float | None:
        return BASE_DB - abs(math.log10(run.optim.lr * run.length / 3))


def test_longer_runs_are_offered_lower_rates() -> None:
    arms = {"a": [SMALL.edsr(norm="batch")]}
    found = followed(lambda: tune(arms, (1e-3, 3e-3), (300,)), Slower(), records_of()).outcome
    assert found is not None
    for length, rate in ((300, 1e-2), (1000, 3e-3), (10_000, 3e-4)):
        longer = followed(lambda length=length: for_longer(found, length), Slower(), records_of()).outcome
        assert longer is not None
        assert (longer["a"].best.length, longer["a"].best.rate) == (length, rate)
        assert len(longer["a"].table) > len(found["a"].table)


def test_the_search_ends_at_the_length_of_what_is_judged() -> None:
    arms = {length: SMALL.edsr(norm="batch").of_length(length) for length in (300, 1000, 3000)}
    found = followed(lambda: tuned(SMALL, arms), Slower(), records_of()).outcome
    assert found is not None
    assert {length: (run.length, run.rate) for length, run in found.items()} == {
        300: (300, 1e-2), 1000: (1000, 3e-3), 3000: (3000, 1e-3),
    }  # fmt: skip


@pytest.mark.parametrize("claim", [name for name in CLAIMS if name != "forty_percent_of_memory"])
def test_settings_are_chosen_by_validation_alone(claim: str) -> None:
    records = records_of(seeds=2)
    asked = state_of(claim, World(), records).answered
    trials = [it for it in asked if isinstance(it, Trial)]
    assert trials or claim == "residual_scaling"
    first = {id(it): place for place, it in enumerate(asked)}
    judged = [first[id(it)] for it in asked if not isinstance(it, Trial)]
    assert all(first[id(it)] < min(judged) for it in trials)  # no arm is searched after any run that judges
    for trial in trials:
        for task in records.tasks(trial):
            assert records.results[task.key(records.data)]["psnr"] == {}


def test_every_arm_begins_its_search_at_rates_that_the_search_knows() -> None:
    assert all(rate in RATES for rates in FIRST_RATES.values() for rate in rates)


def test_each_arm_is_searched_alike() -> None:
    world = Optimum({"batch": 3e-2, "none": 3e-2})
    arms = {norm: SMALL.denoising(norm=norm) for norm in TWINS}
    found = followed(lambda: tuned(SMALL, arms), world, records_of())
    tried: dict[str, set[tuple[tuple[str, str], ...]]] = {norm: set() for norm in TWINS}
    for trial in found.answered:
        assert isinstance(trial, Trial)
        its = settings(trial.of)
        tried[its.pop("norm")].add(tuple(sorted(its.items())))
    assert tried["batch"] == tried["none"]
    assert found.outcome is not None
    assert {run.length for run in found.outcome.values()} == {SMALL.lengths[0]}


@pytest.mark.parametrize("other", ["smoke", "mid", "full", "gpu"])
def test_a_budget_changes_sizes_and_lengths_only(other: str) -> None:
    budget: Budget = BUDGETS[other]
    sizes = {"depth", "features", "blocks", "length", "patch_size", "batch_size", "precision"}
    makes = [lambda it: it.denoising(), lambda it: it.edsr(), lambda it: it.srresnet(), lambda it: it.wdsr("WDSRB")]
    for make in makes:
        one, two = settings(make(SMALL)), settings(make(budget))
        assert {name for name in {*one, *two} if one.get(name) != two.get(name)} <= sizes
