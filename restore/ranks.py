"""Several processes on one task, as torchrun starts them: which process handles which items."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch.distributed
from torch import Tensor

Item = TypeVar("Item")


@dataclass(frozen=True)
class Ranks:
    """One of `count` processes, numbered from 0."""

    rank: int = 0
    count: int = 1

    def share(self, items: Sequence[Item]) -> Sequence[Item]:
        """Every `count`-th of them."""
        return items[self.rank :: self.count]

    def total(self, numbers: Tensor) -> Tensor:
        """The sum of all processes' tensors, on a CPU; each process must call this."""
        if self.count > 1:
            if not torch.distributed.is_initialized():
                torch.distributed.init_process_group("gloo")
            torch.distributed.all_reduce(numbers)
        return numbers

    def own(self, path: Path) -> Path:
        """A file of this process beside those of the others: `page-1.html`."""
        return path.with_stem(f"{path.stem}-{self.rank}") if self.count > 1 else path


ALONE = Ranks()


def ranks_of_torchrun() -> Ranks:
    """By the environment variables RANK and WORLD_SIZE; without them, the only process."""
    return Ranks(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))
