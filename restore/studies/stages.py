"""Follows what a study asks for, stage by stage, as far as the records go."""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from restore.studies.requests import Request, Requests, Results, StudyRecords

Result = TypeVar("Result")


@dataclass(frozen=True)
class StudyState(Generic[Result]):
    """How far a study has come.

    Attributes:
        outcome: what it returned; None while it waits for something.
        waiting_for: what it asks for next and is not all on record; empty at its end.
        answered: all that it has asked for and got.
        seeds: of each run.
    """

    outcome: Result | None
    waiting_for: Requests
    answered: tuple[Request, ...]
    seeds: int


def follow(study: Generator[Requests, Results, Result], records: StudyRecords) -> StudyState[Result]:
    """Answer a study's requests from the records until one is not all there."""
    answered: list[Request] = []
    answer: Any = None
    while True:
        try:
            requests = study.send(answer)
        except StopIteration as end:
            return StudyState(end.value, {}, tuple(answered), records.seeds)
        if records.missing(requests):
            return StudyState(None, requests, tuple(answered), records.seeds)
        answered += requests.values()
        answer = records.answer(requests)
