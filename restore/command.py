"""What all commands share: one line and exit code 1 for a user's mistake."""

import argparse
import io
import logging
import os
import sys
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from typing import NoReturn

import torch

from restore.errors import UserError

CONFIGS = Path(__file__).parent / "configs"


class ActionParser(argparse.ArgumentParser):
    """argparse's parser with wrong arguments as `UserError`."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}{self._nearest(message)} (see {self.prog} --help)")

    def _nearest(self, message: str) -> str:
        """The options that a misspelt one is nearest to."""
        if not message.startswith("unrecognized arguments: "):
            return ""
        misspelt = [word.partition("=")[0] for word in message.split() if word.startswith("--")]
        nearest = [get_close_matches(word, self._option_string_actions, 1) for word in misspelt]
        return f"; did you mean {', '.join(match[0] for match in nearest if match)}?" if any(nearest) else ""


class ArgumentParser(ActionParser):
    """The parser of a command, with examples kept as they are written."""

    def __init__(self, module: str, description: str, examples: str) -> None:
        super().__init__(
            prog=f"python -m {module}",
            description=description,
            epilog=examples,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )


def path(text: str) -> Path:
    """The type of an option that is a path; `~` is the home folder."""
    return Path(text).expanduser()


def device(name: str) -> str:
    """The type of a `--device` option: the name of a device that is there."""
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise argparse.ArgumentTypeError(f"{name} is not to be had here ({str(error).splitlines()[0]})") from error
    return name


def best_device() -> str:
    """`cuda` where there is one, under torchrun this process's own; else `cpu`."""
    if not torch.cuda.is_available():
        return "cpu"
    return f"cuda:{local}" if (local := os.environ.get("LOCAL_RANK")) else "cuda"


def run(main: Callable[[], int]) -> None:
    """Run a command's `main` and exit with its code; a user's mistake is one line on stderr and code 1."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names of files need not be UTF-8
            stream.reconfigure(errors="backslashreplace")
    logging.basicConfig(format="%(message)s")
    logging.getLogger("restore").setLevel(logging.INFO)
    try:
        sys.exit(main())
    except UserError as error:
        sys.exit(f"error: {error}")
    except (MemoryError, RuntimeError) as error:
        if not _is_lack_of_memory(error):
            raise
        sys.exit("error: not enough memory; try a smaller batch, patch, image or network")
    except KeyboardInterrupt:
        sys.exit("interrupted")


def _is_lack_of_memory(error: Exception) -> bool:
    """Whether an allocation failed, on the GPU or here (for which torch has no type)."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)
