"""What a program that uses the package calls, beside networks and metrics."""

from pathlib import Path

from restore.foreign_checkpoints import load_any
from restore.models import RestorationNetwork


def load(path: Path | str) -> RestorationNetwork:
    """The network of a weights file, ours or a known other project's, in eval mode on the CPU.

    Raises:
        UserError: the file is missing, damaged or of no known layout.
    """
    return load_any(Path(path)).network
