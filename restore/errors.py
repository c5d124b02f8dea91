"""The one error that means: the input is wrong, not the program."""


class UserError(ValueError):
    """Names the file, option or key at fault, what was expected and what was found.

    Commands print it in one line and exit with 1.
    """
