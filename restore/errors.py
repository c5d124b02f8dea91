"""The one error that means: the input is wrong, not the program."""


class UserError(ValueError):
    """Names the file, option or key at fault, what was expected and what was found.

    Commands print it and exit with 1. It is one line, even if it quotes a library's message of several.
    """

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(line.strip() for line in message.splitlines()))
