"""Claims: each is one function, listed by its name."""

import inspect
from collections.abc import Callable, Generator
from dataclasses import dataclass

from restore.studies.budget import Budget
from restore.studies.criteria import CRITERIA, Criterion
from restore.studies.effects import Effect
from restore.studies.judgement import Finding, Part
from restore.studies.requests import Requests, Results

# Yields what it wants on record, is sent the results, may ask again, and returns its finding.
Study = Generator[Requests, Results, Finding]


@dataclass(frozen=True)
class Claim:
    """A claim and the function that tests it.

    Attributes:
        number: in the report.
        title: the claim in the words of those who make it.
        study: the test.
    """

    number: int
    title: str
    study: Callable[[Budget], Study]

    @property
    def name(self) -> str:
        return self.study.__name__

    @property
    def about(self) -> str:
        """Who says it, where, and how it is tested."""
        return inspect.getdoc(self.study) or ""

    @property
    def criteria(self) -> dict[str, Criterion]:
        """What decides, by part."""
        return CRITERIA[self.name]


CLAIMS: dict[str, Claim] = {}


def claim(number: int, title: str) -> Callable[[Callable[[Budget], Study]], Callable[[Budget], Study]]:
    """Registers the function below it as the test of a claim."""

    def register(study: Callable[[Budget], Study]) -> Callable[[Budget], Study]:
        CLAIMS[study.__name__] = Claim(number, title, study)
        return study

    return register


def part(study: Callable[[Budget], Study], name: str, effect: Effect, void: str = "", slack: float = 1.0) -> Part:
    """A comparison of a claim, with the criterion that was stated for it; see `Part`."""
    return Part(name, effect, CRITERIA[study.__name__][name], void, slack)
