"""What all commands share: how arguments are parsed, and one line and exit code 1 for a user's mistake."""

import argparse
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from restore import progress
from restore.errors import UserError

CONFIGS = Path(__file__).parent / "configs"

LOG = logging.getLogger("restore")
CLOSED_PIPE = 128 + 13  # exit code of a process that SIGPIPE ended


class ActionParser(argparse.ArgumentParser):
    """argparse's parser that raises `UserError` for wrong arguments."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (see {self.prog} --help)")


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
        if not _is_lack_of_memory(error):
            raise
        sys.exit("error: not enough memory; try a smaller batch, patch, image or network")
    except KeyboardInterrupt:
        sys.exit("interrupted")


def _is_lack_of_memory(error: Exception) -> bool:
    """Whether an allocation failed, on the GPU or on the CPU (for which torch has no error type)."""
    import torch  # whoever raised a RuntimeError for it has imported torch already

    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)
