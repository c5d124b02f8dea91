"""Which of several networks restores which picture."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from restore.images.pixels import Pixels
from restore.inference import Runner


@dataclass(frozen=True)
class Networks:
    """Networks of one scale, by name, and the choice among them.

    Attributes:
        runners: in eval mode or other runners.
        choose: the name of the one that restores an image (H, W, 1 or 3); called in the thread that restores.
    """

    runners: Mapping[str, Runner]
    choose: Callable[[Pixels], str]

    @classmethod
    def single(cls, runner: Runner, name: str = "") -> "Networks":
        """One network for all images."""
        return cls({name: runner}, lambda _: name)

    @property
    def scale(self) -> int:
        return next(iter(self.runners.values())).scale
