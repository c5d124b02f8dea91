"""Claims: each is one function, listed by its name."""

import inspect
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from restore.studies.budget import Budget
from restore.studies.experiment import Experiment, Record
from restore.studies.judgement import Finding


@dataclass(frozen=True)
class Measurement:
    """A measurement of trained networks, see `measurements.py`.

    Attributes:
        of: the experiment whose weights are measured.
        by: name of the measurement.
    """

    of: Experiment
    by: str


# What a claim asks for, by names of its own, and what it gets: for each, one result a seed.
Wanted = Mapping[Any, Experiment | Measurement]
Results = Mapping[Any, Sequence[Any]]
Records = Mapping[Any, Sequence[Record]]
Study = Generator[Wanted, Results, Finding]


@dataclass(frozen=True)
class Claim:
    """A claim and the function that tests it.

    Attributes:
        number: in the ledger.
        title: the claim in the words of those who make it.
        study: yields what it wants trained and measured, is sent the results, and returns its finding.
    """

    number: int
    title: str
    study: Callable[[Budget], Study]

    @property
    def name(self) -> str:
        return self.study.__name__

    @property
    def about(self) -> str:
        """Who says it, where, and what would confirm or refute it."""
        return inspect.getdoc(self.study) or ""


CLAIMS: dict[str, Claim] = {}


def claim(number: int, title: str) -> Callable[[Callable[[Budget], Study]], Callable[[Budget], Study]]:
    """Registers the function below it as the test of a claim."""

    def register(study: Callable[[Budget], Study]) -> Callable[[Budget], Study]:
        CLAIMS[study.__name__] = Claim(number, title, study)
        return study

    return register
