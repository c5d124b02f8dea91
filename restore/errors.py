"""The one error that means: the input is wrong, not the program."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches

SIMILAR = 0.7  # of 1: how like a known word a misspelled one has to be


class UserError(ValueError):
    """Names the file, option or key at fault, what was expected and what was found.

    Commands print it and exit with 1. It is one line, even if it quotes a library's message of several.
    """

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(line.strip() for line in message.splitlines()))


@contextmanager
def about(name: object) -> Iterator[None]:
    """Puts a name before the message of a `UserError` that does not say which file it is about."""
    try:
        yield
    except UserError as error:
        if str(name) in str(error):
            raise
        raise UserError(f"{name}: {error}") from error


def nearest(word: str, known: Iterable[str]) -> str:
    """For a message about an unknown word: which known one is probably meant, upper or lower case alike."""
    spelled = {name.lower(): name for name in known}
    matches = get_close_matches(word.lower(), list(spelled), 1, SIMILAR)
    return f"; did you mean {spelled[matches[0]]}?" if matches else ""


def listed(names: Iterable[str], most: int) -> str:
    """For a message: the first `most` names, and how many more there are."""
    found = list(names)
    more = f" and {len(found) - most} more" if len(found) > most else ""
    return ", ".join(found[:most]) + more
