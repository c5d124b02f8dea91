"""The command `restore`: each subcommand is a module of its own, which is imported only if it is run."""

import importlib
import sys
from functools import partial

import restore
from restore import cli
from restore.errors import UserError, nearest

COMMANDS = {
    "infer": "restore images: remove noise, upscale",
    "train": "train a network, with or without batch norm",
    "evaluate": "measure networks on test sets: PSNR, SSIM",
    "memory": "where a training step's memory goes, and what fits",
    "study": "test claims about batch norm",
    "convert": "read another project's checkpoint",
    "export": "write a network for another runtime or project",
    "data": "download, install and verify data sets",
}
USAGE = "usage: restore COMMAND ...\n       restore COMMAND --help\n       restore --version\n"


def main() -> None:
    """Run the command that `sys.argv` names."""
    cli.run(partial(dispatch, sys.argv[1:]))


def dispatch(argv: list[str]) -> int:
    """Run a command with its arguments, and return its exit code.

    Raises:
        UserError: there is no such command.
    """
    name = argv[0] if argv else "--help"
    if name in ("-h", "--help"):
        listed = "\n".join(f"  {name:9} {words}" for name, words in COMMANDS.items())
        print(f"{USAGE}\nImage restoration networks with and without batch normalization.\n\ncommands:\n{listed}")
        return 0
    if name == "--version":
        print(f"restore {restore.__version__}")
        return 0
    if name not in COMMANDS:
        raise UserError(f"{name}: unknown command{nearest(name, COMMANDS)}; known: {', '.join(COMMANDS)}")
    module = importlib.import_module("restore.data.__main__" if name == "data" else f"restore.{name}")
    code: int = module.main(argv[1:])
    return code


if __name__ == "__main__":
    main()
