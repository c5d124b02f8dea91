"""The claims: what they ask for, and that what they are sent decides."""

from typing import Any

import pytest

from restore.studies.budget import BUDGETS, Budget
from restore.studies.claims import CLAIMS
from restore.studies.experiment import Experiment


def leaves(value: Any, path: str = "") -> dict[str, Any]:
    if isinstance(value, dict):
        return {key: leaf for name, item in value.items() for key, leaf in leaves(item, f"{path}.{name}").items()}
    return {path: value}


def differing(a: Experiment, b: Experiment) -> set[str]:
    one, other = leaves(a.description), leaves(b.description)
    return {name for name in one.keys() | other.keys() if one.get(name) != other.get(name)}


def test_there_are_eighteen_claims_and_each_says_who_makes_it_and_what_would_refute_it() -> None:
    assert sorted(claim.number for claim in CLAIMS.values()) == list(range(1, 19))
    for claim in CLAIMS.values():
        about = " ".join(claim.about.split())
        assert "Supported if" in about, claim.name
        assert "refuted if" in about, claim.name


@pytest.mark.parametrize("budget", BUDGETS.values(), ids=lambda budget: budget.name)
@pytest.mark.parametrize("name", CLAIMS)
def test_twins_differ_in_their_norm_alone(name: str, budget: Budget) -> None:
    wanted = next(CLAIMS[name].study(budget))
    for label, one in wanted.items():
        if not isinstance(label, tuple) or "batch" not in label:
            continue
        twin = wanted[tuple("none" if part == "batch" else part for part in label)]
        experiments = [it if isinstance(it, Experiment) else it.of for it in (one, twin)]
        assert differing(*experiments) == {".network.arguments.norm"}, label


def test_budgets_change_sizes_and_lengths_alone() -> None:
    sizes = {".network.arguments.depth", ".network.arguments.features", ".network.arguments.blocks"}
    lengths = {".steps", ".patch_size", ".batch_size"}
    for kind in ("denoising", "super_resolution", "wide"):
        cpu, gpu = (getattr(BUDGETS[name], kind) for name in ("cpu", "gpu"))
        assert differing(cpu, gpu) <= sizes | lengths
