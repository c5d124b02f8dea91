"""Each claim is sent made-up results, clearly for it, clearly against it, without any difference, and noisy.

Which runs a claim says to end higher is written here from its words, not taken from its code.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from made_up import BASE_DB, INPUT_DB, SMALL, World, records_of, state_of

from restore.studies.claims import CLAIMS, super_resolution
from restore.studies.criteria import CRITERIA
from restore.studies.experiment import Experiment
from restore.studies.figures import HeatMap
from restore.studies.judgement import Finding, Verdict, judge_all

Runs = Callable[[Experiment], bool]
AMOUNTS = {
    "for": (3.0, 3.1, 2.9, 3.05, 2.95),
    "against": (-3.0, -3.1, -2.9, -3.05, -2.95),
    "no difference": (0.001, -0.001, 0.002, -0.002, 0.0),
    "noisy": (4.0, -4.0, 3.5, -3.0, 0.5),
}
SIGMA_25, SIGMA_50 = 25.0, 50.0


def has(norm: str, network: str = "") -> Runs:
    """Networks with a norm, of a kind or of any."""
    return lambda run: run.network.arguments.get("norm") == norm and run.network.name.startswith(network)


def both(*conditions: Runs) -> Runs:
    return lambda run: all(condition(run) for condition in conditions)


def nothing(_: Experiment) -> bool:
    return False


def argument(name: str, value: Any) -> Runs:
    return lambda run: run.network.arguments.get(name) == value


def optimizer(name: str) -> Runs:
    return lambda run: run.optim.optimizer == name


def learns(residual: bool) -> Runs:
    return lambda run: run.network.arguments.get("residual", True) is residual


def blind(run: Experiment) -> bool:
    return "55" in str(run.degradation.description)


def usual(run: Experiment) -> bool:
    return run.network.arguments["init"] == "he" and run.optim.lr == 1e-3


def wider(run: Experiment) -> bool:
    return run.network.arguments["features"] > SMALL.sr_features


def with_batch(size: int) -> Runs:
    return lambda run: run.batch_size == size


def last(run: Experiment) -> bool:
    return run.length == SMALL.lengths[-1]


@dataclass
class Case(World):
    """What one part of a claim says.

    Attributes:
        claim, part: which.
        higher, lower: the runs that end higher, or lower, if the claim is right.
        arms: each of these at its input, or failed in most seeds, makes the comparison void.
        amounts: by how much, in dB or as a logarithm, for each seed.
        untrained: runs that end at their input.
        failed: runs that fail, with these seeds.
    """

    claim: str
    part: str
    higher: Runs = nothing
    lower: Runs = nothing
    arms: tuple[Runs, ...] = (has("batch"), has("none"))
    amounts: tuple[float, ...] = ()
    untrained: Runs = nothing
    failed: Runs = nothing
    failed_seeds: tuple[int, ...] = ()

    def amount(self, run: Experiment, seed: int) -> float:
        return self.amounts[seed] * (self.higher(run) - self.lower(run))

    def ends(self, run: Experiment, seed: int) -> float:
        """Where a run ends that is trained."""
        return (super().psnr(run, seed) or 0) + self.amount(run, seed)

    def psnr(self, run: Experiment, seed: int | None) -> float | None:
        if seed is None:
            return BASE_DB
        if self.failed(run) and seed in self.failed_seeds:
            return None
        return INPUT_DB if self.untrained(run) else self.ends(run, seed)


class NotAtTheEnd(Case):
    """What a claim says is not about where runs end."""

    def ends(self, run: Experiment, seed: int) -> float:
        return BASE_DB


class AtHalfContrast(NotAtTheEnd):
    def at_contrast(self, run: Experiment, seed: int, contrast: float) -> float:
        return BASE_DB + (self.amount(run, seed) if contrast == 0.5 else 0)


class AtSigma25(NotAtTheEnd):
    def at_sigma(self, run: Experiment, seed: int, sigma: float) -> float:
        return BASE_DB + (self.amount(run, seed) if sigma == SIGMA_25 else 0)


class AtSigma50(NotAtTheEnd):
    def at_sigma(self, run: Experiment, seed: int, sigma: float) -> float:
        return BASE_DB + (self.amount(run, seed) if sigma == SIGMA_50 else 0)


class WonBack(NotAtTheEnd):
    """In mid-training, by exact statistics."""

    def won_back(self, run: Experiment, seed: int, what: str) -> float:
        return self.amount(run, seed) if what.lower() == self.part.lower() or "momentum" in self.part else 0


PROBED = {"shift": "relative", "loss": "loss_range", "gradient": "gradient_change", "beta": "smoothness"}


class Probed(NotAtTheEnd):
    """A ratio of what a probe sees."""

    def probed(self, run: Experiment, seed: int, value: str) -> float:
        return math.exp(self.amount(run, seed)) if value == PROBED[self.part.split(", ")[-1]] else 1.0


class StepsTo28(Case):
    """Runs gain 1 dB with each doubling of their steps, and pass 28 dB after 900, or later."""

    def ends(self, run: Experiment, seed: int) -> float:
        return 28 + math.log2(run.steps / 900) - 0.4 * self.amount(run, seed)


class HighestRate(Case):
    """All learning rates up to one work; a factor of 10 ** (1 / 4) lies between them."""

    def ends(self, run: Experiment, seed: int) -> float:
        highest = -1.75 + 0.35 * self.amount(run, seed)
        return BASE_DB if math.log10(run.optim.lr) < highest + 0.01 else INPUT_DB + 0.5


WDSR = "WDSRB"
CASES = [
    StepsTo28("faster_and_better_denoising", "faster", higher=has("none")),
    Case(
        "faster_and_better_denoising", "better", higher=both(has("batch"), last),
        arms=(both(has("batch"), last), both(has("none"), last)),
    ),
    Case("faster_and_better_denoising", "together", higher=both(has("batch"), learns(True), optimizer("adam"))),
    Case(
        "faster_and_better_denoising", "together", lower=both(has("batch"), learns(False), optimizer("adam")),
        arms=(both(has("batch"), learns(False)), both(has("none"), learns(False))),
    ),
    Case("faster_and_better_denoising", "together", higher=both(has("none"), learns(False), optimizer("adam"))),
    Case("one_decibel", "gain", higher=has("batch")),
    Case("one_decibel", "gain", lower=has("none")),
    Case("better_without", "equal steps", higher=both(has("none", "EDSR"), last)),
    Case(
        "better_without", "equal steps", lower=both(has("batch", "EDSR"), last),
        arms=(both(has("batch"), last), both(has("none"), last)),
    ),
    Case("better_without", "equal time", lower=both(has("batch", "EDSR"), lambda run: run.length == SMALL.lengths[0])),
    Case(
        "better_without", "equal memory",
        higher=both(has("none", "EDSR"), wider), arms=(has("batch"), both(has("none"), wider)),
    ),
    AtHalfContrast("scale_is_lost", "DnCNN", lower=has("batch", "DnCNN"), higher=has("batch", "EDSR")),
    AtHalfContrast("scale_is_lost", "EDSR", lower=has("batch", "EDSR"), higher=has("batch", "DnCNN")),
    HighestRate("higher_learning_rates", "SGD", higher=has("batch")),
    HighestRate("higher_learning_rates", "SGD", lower=has("none")),
    Case("insensitive_to_initialization", "gains", lower=both(has("none"), lambda run: run.gain[0] != 1)),
    Case("fails_for_small_batches", "batch 4", lower=both(has("batch"), with_batch(4))),
    Case(
        "fails_for_small_batches", "batch 4", higher=both(has("batch"), with_batch(16)),
        arms=(both(has("batch"), with_batch(16)), both(has("none"), with_batch(16))),
    ),
    WonBack(
        "population_statistics", "momentum 0.95", higher=argument("bn_momentum", 0.95), arms=(has("batch"),)
    ),
    WonBack("spots_in_mid_training", "PSNR", higher=has("batch"), arms=(has("batch"),)),
    WonBack("spots_in_mid_training", "worst block", higher=has("batch"), arms=(has("batch"),)),
    Probed("internal_covariate_shift", "shift", lower=has("batch")),
    *(
        Probed("smoother_landscape", f"{network}, {what}", lower=has("batch", network))
        for network in ("DnCNN", "EDSR")
        for what in ("loss", "gradient", "beta")
    ),
    Case(
        "residual_scaling", "scale 0.1",
        higher=both(argument("res_scale", 0.1), lambda run: run.optim.lr >= 3e-3), arms=(argument("res_scale", 0.1),),
    ),
    Case(
        "weight_norm_replaces_batch_norm", "over batch norm", lower=has("batch", WDSR),
        arms=(has("batch"), has("weight")),
    ),
    Case(
        "weight_norm_replaces_batch_norm", "over no norm", lower=has("none", WDSR), arms=(has("none"), has("weight")),
    ),
    Case("regularizes", "generalization", lower=both(has("none"), lambda run: run.images == 4)),
    Case("regularizes", "generalization", higher=both(has("batch"), lambda run: run.images == 4)),
    Case(
        "regularizes", "generalization", higher=both(has("none"), lambda run: run.images is None),
        arms=tuple(both(has(norm), lambda run: run.images is None) for norm in ("batch", "none")),
    ),
    AtSigma25("blind_gains_more", "gain", higher=both(has("batch"), blind)),
    AtSigma25("blind_gains_more", "gain", lower=both(has("batch"), lambda run: not blind(run))),
    Case(
        "frozen_statistics", "WDSR-B", higher=both(has("batch", WDSR), lambda run: run.freeze_in_decay),
        arms=(has("batch"), lambda run: run.freeze_in_decay),
    ),
    Case(
        "frozen_statistics", "EDSR", higher=both(has("batch", "EDSR"), lambda run: run.freeze_in_decay),
        arms=(has("batch"), lambda run: run.freeze_in_decay),
    ),
    Case("better_without_in_my_code", "usual settings", higher=both(has("none"), usual)),
    Case("better_without_in_my_code", "usual settings", lower=both(has("batch"), usual)),
    Case("better_without_in_my_code", "each at its best", higher=has("batch")),
    Case("better_without_in_my_code", "each at its best", lower=has("none")),
    AtSigma50("bias_free_generalizes", "no norm", higher=both(has("none"), argument("bias_free", True))),
    AtSigma50("bias_free_generalizes", "batch norm", higher=both(has("batch"), argument("bias_free", True))),
    Case(
        "batch_norm_can_work_in_super_resolution", "gain 0", higher=both(has("batch", WDSR), argument("init", "zero")),
        arms=(has("batch"), argument("init", "zero")),
    ),
    Case(
        "batch_norm_can_work_in_super_resolution", "AdaDM", higher=has("adadm", WDSR),
        arms=(has("batch"), has("adadm")),
    ),
    Case(
        "batch_norm_can_work_in_super_resolution", "i-LN", higher=has("iln", WDSR), arms=(has("batch"), has("iln"))
    ),
    Case(
        "from_srresnet_to_edsr", "batch norm out", higher=has("none", "EDSR"),
        arms=(has("none", "EDSR"), has("batch", "EDSR")),
    ),
    Case(
        "from_srresnet_to_edsr", "batch norm out", lower=has("batch", "EDSR"),
        arms=(has("none", "EDSR"), has("batch", "EDSR")),
    ),
    Case(
        "norm_before_activation", "order", higher=argument("order", "norm-activation"),
        arms=(argument("order", "norm-activation"), argument("order", "activation-norm")),
    ),
    Case("sigmoid_needs_batch_norm", "sigmoid", higher=has("batch"), arms=(has("batch"),)),
    Case(
        "makes_weight_decay_and_dropout_unnecessary", "weight decay",
        higher=both(has("none"), lambda run: run.optim.weight_decay > 0),
    ),
    Case(
        "makes_weight_decay_and_dropout_unnecessary", "weight decay",
        lower=both(has("batch"), lambda run: run.optim.weight_decay > 0),
    ),
    Case(
        "makes_weight_decay_and_dropout_unnecessary", "dropout",
        higher=both(has("none"), lambda run: run.network.arguments.get("dropout", 0) > 0),
    ),
    Case(
        "muon_gives_what_batch_norm_gives", "with Adam less with Muon", higher=both(has("batch"), optimizer("adam"))
    ),
    Case(
        "muon_gives_what_batch_norm_gives", "with Adam less with Muon", lower=both(has("batch"), optimizer("muon"))
    ),
    Case("muon_gives_what_batch_norm_gives", "Muon without norm", higher=both(has("none"), optimizer("muon"))),
    Case("muon_gives_what_batch_norm_gives", "Muon without norm", lower=both(has("batch"), optimizer("adam"))),
]  # fmt: skip
EXACT = {"forty_percent_of_memory", "weight_scale_does_not_matter", "folding_and_recomputing"}  # nothing by chance


@pytest.fixture(scope="module", autouse=True)
def _one_forecast_for_each_network() -> Iterator[None]:
    """Forecasts of memory take a second each."""
    known: dict[str, int] = {}

    def peak(experiment: Experiment) -> int:
        key = str(experiment.description["network"])
        known[key] = known.get(key) or forecast(experiment)
        return known[key]

    forecast = super_resolution.peak
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(super_resolution, "peak", peak)
        yield


def named(case: Case) -> str:
    return f"{case.claim}, {case.part}"


def finding(claim: str, world: World) -> Finding:
    found = state_of(claim, world, records_of()).outcome
    assert found is not None
    return found


def verdict(case: Case, **changes: Any) -> Verdict:
    """What is said of the part after some changes of the case."""
    changed = type(case)(**vars(case) | changes)
    found = judge_all({"claim": finding(case.claim, changed)}, comparisons=1)
    return found["claim"].parts[case.part]


def test_there_are_27_claims_numbered_from_1_and_each_tells_who_makes_it() -> None:
    assert sorted(claim.number for claim in CLAIMS.values()) == list(range(1, 28))
    for claim in CLAIMS.values():
        assert len(claim.about) > 100
        source = any(f"{year}" in claim.about for year in range(2015, 2027)) or "issue" in claim.about
        assert source or any(word in claim.about for word in ("Folklore", "DnCNN", "This project's own")), claim.name


def test_every_part_of_every_stochastic_claim_is_among_the_cases() -> None:
    parts = {(name, part) for name, criteria in CRITERIA.items() for part in criteria if name not in EXACT}
    assert {(case.claim, case.part) for case in CASES} == parts
    assert CRITERIA.keys() == CLAIMS.keys()


@pytest.mark.parametrize("name", CLAIMS)
def test_a_claim_returns_the_parts_whose_criteria_were_stated_in_that_order(name: str) -> None:
    found = finding(name, World())
    assert [part.name for part in found.parts] == list(CRITERIA[name])
    assert [part.criterion for part in found.parts] == list(CRITERIA[name].values())
    assert all(part.effect.unit == part.criterion.unit for part in found.parts)
    assert all(part.effect.stochastic is (name not in EXACT) for part in found.parts)


@pytest.mark.parametrize("case", CASES, ids=named)
def test_results_clearly_for_a_claim_support_it(case: Case) -> None:
    assert verdict(case, amounts=AMOUNTS["for"]) == "supported"


@pytest.mark.parametrize("case", CASES, ids=named)
def test_results_clearly_against_a_claim_refute_it(case: Case) -> None:
    assert verdict(case, amounts=AMOUNTS["against"]) == "refuted"


@pytest.mark.parametrize("case", CASES, ids=named)
def test_no_difference_is_equal_or_refutes_a_claim_that_knows_no_equal(case: Case) -> None:
    margin = CRITERIA[case.claim][case.part].margin
    assert verdict(case, amounts=AMOUNTS["no difference"]) == ("refuted" if margin is None else "equal")


@pytest.mark.parametrize("case", CASES, ids=named)
def test_noise_between_seeds_leaves_a_claim_undecided(case: Case) -> None:
    assert verdict(case, amounts=AMOUNTS["noisy"]) == "undecided"


@pytest.mark.parametrize("case", CASES, ids=named)
def test_an_arm_that_ends_at_its_input_or_mostly_fails_makes_a_comparison_void(case: Case) -> None:
    for arm in case.arms:
        assert verdict(case, amounts=AMOUNTS["for"], untrained=arm) == "void"
        assert verdict(case, amounts=AMOUNTS["for"], failed=arm, failed_seeds=(0, 2, 4)) == "void"


class SlowBatchNorm(World):
    """A step with batch norm takes twice as long, and longer runs end higher."""

    def psnr(self, run: Experiment, seed: int | None) -> float | None:
        seed = seed or 0
        return BASE_DB + 0.001 * seed + math.log2(run.length / SMALL.lengths[0])

    def step_s(self, run: Experiment) -> float:
        return 0.02 if has("batch")(run) else 0.01


def test_at_equal_time_batch_norm_has_as_many_steps_as_it_can_take() -> None:
    found = {part.name: part.effect.mean for part in finding("better_without", SlowBatchNorm()).parts}
    assert found["equal steps"] == pytest.approx(0, abs=0.01)
    assert found["equal time"] == pytest.approx(1, abs=0.01)  # half of the steps are 1 dB


class FailsOnce(World):
    """Of the networks whose statistics have momentum 0.95 the first seed's fails; each seed wins its own number."""

    def psnr(self, run: Experiment, seed: int | None) -> float | None:
        return None if seed == 0 and run.network.arguments.get("bn_momentum") == 0.95 else super().psnr(run, seed)

    def won_back(self, run: Experiment, seed: int, what: str) -> float:
        return float(seed)


def test_a_failed_run_costs_its_own_seed_and_leaves_the_others_paired() -> None:
    finding = state_of("population_statistics", FailsOnce(), records_of()).outcome
    assert finding is not None
    (found,) = finding.parts
    assert found.effect.seeds == (1, 2, 3, 4)
    assert found.effect.values == pytest.approx((1.0, 2.0, 3.0, 4.0))


def test_a_map_tells_how_many_of_the_runs_behind_a_number_diverged() -> None:
    class Diverges(World):
        def psnr(self, run: Experiment, seed: int | None) -> float | None:
            return None if seed in (0, 1) and run.optim.lr > 0.5 else super().psnr(run, seed)

    finding = state_of("higher_learning_rates", Diverges(), records_of()).outcome
    assert finding is not None
    (heat_map,) = finding.figures
    assert isinstance(heat_map, HeatMap)
    assert [row[-1] for row in heat_map.notes] == ["2 of 5 diverged"] * 2
    assert {note for row in heat_map.notes for note in row[:-3]} == {""}
