"""What all commands share: how arguments are parsed, and one line and exit code 1 for a user's mistake."""

import argparse
import io
import logging
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from restore import progress
from restore.errors import UserError, nearest

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Chosen = TypeVar("Chosen", bound="DataclassInstance")


LOG = logging.getLogger("restore")
INTERRUPTED = 128 + 2  # exit code of a process that SIGINT ended
CLOSED_PIPE = 128 + 13  # exit code of a process that SIGPIPE ended


class ActionParser(argparse.ArgumentParser):
    """argparse's parser that raises `UserError` for wrong arguments, and names misspelled options first."""

    _unknown: Sequence[str] = ()

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        words: Sequence[str] = sys.argv[1:] if args is None else args
        options = [word.partition("=")[0] for word in words if word.startswith("--")]
        self._unknown = [option for option in options if option not in self._option_string_actions]
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        if "required" in message and self._unknown:  # what is missing is perhaps what is misspelled
            message = f"unrecognized arguments: {self._unknown[0]}"
        _, found, words = message.partition("unrecognized argument")
        misspelled = [word.partition("=")[0] for word in words.split() if word.startswith("--")] if found else []
        suggestion = nearest(misspelled[0], self._option_string_actions) if misspelled else ""
        raise UserError(f"{message}{suggestion} (see {self.prog} --help)")


def path(text: str) -> Path:
    """The type of an option that is a path; `~` is the home folder."""
    if not text:
        raise argparse.ArgumentTypeError("the path is empty")
    return Path(text).expanduser()


def count(text: str | int) -> int:
    """The type of an option that counts something; a configuration gives a number."""
    if not (str(text).isdecimal() and int(text) >= 1):
        raise argparse.ArgumentTypeError(f"expected 1 or more, found {text}")
    return int(text)


def positive(text: str) -> float:
    """The type of an option that is a number above 0."""
    try:
        if (value := float(text)) > 0:
            return value
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"expected a number above 0, found {text}")


def chosen(kind: type[Chosen], args: argparse.Namespace) -> Chosen:
    """The dataclass whose fields are options of the same names; fields without an option keep their defaults."""
    return kind(**{field.name: getattr(args, field.name) for field in fields(kind) if hasattr(args, field.name)})


class ArgumentParser(ActionParser):
    """The parser of a command, which shows examples before options and knows `--quiet`.

    Args:
        name: of the command, after `restore`.
        description: a sentence.
        examples: one a line, below `examples:`, and what else is good to know.
    """

    def __init__(self, name: str, description: str, examples: str) -> None:
        super().__init__(
            prog=f"restore {name}",
            description=f"{description}\n\n{examples.strip()}",
            usage=f"restore {name} [options]",
            formatter_class=_HelpFormatter,
            allow_abbrev=False,
        )
        self.add_argument(
            "--quiet", action=_Quiet, nargs=0, help="show no progress and no notes, only results and errors"
        )


class _Quiet(argparse.Action):
    def __call__(self, *args: object, **kwargs: object) -> None:
        silence()


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Descriptions as they are written; short options beside their help, within 80 columns."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=27, width=80)


def silence() -> None:
    """Show no progress bars and no notes of this process; warnings and errors remain."""
    progress.shown = False
    LOG.setLevel(logging.WARNING)


def run(main: Callable[[], int]) -> None:
    """Run a command's `main` and exit with its code; a user's mistake is one line on stderr and code 1.

    If nobody reads the output any more (`| head`), the process ends without a word.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names of files need not be UTF-8
            stream.reconfigure(errors="backslashreplace")
    logging.basicConfig(format="%(message)s")
    LOG.setLevel(logging.INFO)
    try:
        try:
            code = main()
        finally:
            sys.stdout.flush()
        sys.exit(code)
    except UserError as error:
        sys.exit(f"error: {error}")
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains when it flushes at exit
        sys.exit(CLOSED_PIPE)
    except (MemoryError, RuntimeError) as error:
        from restore.hardware import is_out_of_memory  # with torch, which whoever raised it has imported already

        if not is_out_of_memory(error):
            raise
        sys.exit("error: not enough memory; try a smaller batch, patch, image or network")
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)
