"""Follows what a study asks for, stage by stage, as far as the records go."""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Generic, TypeVar

from restore.studies.requests import Archive, Request, Requests, Results

Outcome = TypeVar("Outcome")


@dataclass(frozen=True)
class Standing(Generic[Outcome]):
    """How far a study has come.

    Attributes:
        outcome: what it returned; None while it waits for something.
        waiting_for: what it asks for next and is not all on record; empty at its end.
        answered: all that it has asked for and got.
    """

    outcome: Outcome | None
    waiting_for: Requests
    answered: tuple[Request, ...]


def follow(study: Generator[Requests, Results, Outcome], archive: Archive) -> Standing[Outcome]:
    """Answer a study's requests from the archive until one is not all there."""
    answered: list[Request] = []
    requests = next(study)
    while not archive.missing(requests):
        answered += requests.values()
        try:
            requests = study.send(archive.answer(requests))
        except StopIteration as end:
            return Standing(end.value, {}, tuple(answered))
    return Standing(None, requests, tuple(answered))
