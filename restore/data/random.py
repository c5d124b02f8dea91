"""Explicit randomness: each draw depends on (seed, step, purpose) only, however a batch is shared out."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Generator, Tensor


class Draws:
    """Random numbers for some of a batch's images.

    They are drawn for the whole batch, and the images' own are taken from them: so an image gets the same ones on
    however many processes the batch is spread, and to draw is so cheap that nothing is gained by drawing less (half a
    millisecond of a CPU for the noise of 128 gray 40x40 patches).

    Args:
        generator: where all numbers come from; they are on its device.
        rows: which of the whole batch the images are.
        total: how many images the whole batch has; None: those that are asked for.
    """

    def __init__(self, generator: Generator, rows: slice | Tensor = slice(None), total: int | None = None) -> None:
        self.generator = generator
        self.total = total
        self._rows = rows

    def share(self, total: int, rank: int, ranks: int) -> "Draws":
        """Those of one of `ranks` equal shares of a batch of `total`."""
        size = total // ranks
        return Draws(self.generator, slice(rank * size, (rank + 1) * size), total)

    def uniform(self, shape: Sequence[int], dim: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
        """Between 0 and 1; along `dim` of `shape` are the images."""
        whole = torch.rand(self._whole(shape, dim), generator=self.generator, device=self.generator.device, dtype=dtype)
        return whole.movedim(dim, 0)[self._rows].movedim(0, dim)

    def normal(self, shape: Sequence[int]) -> Tensor:
        """Of mean 0 and standard deviation 1; the first dimension are the images."""
        return torch.randn(self._whole(shape), generator=self.generator, device=self.generator.device)[self._rows]

    def integers(self, low: int, end: int, shape: Sequence[int]) -> Tensor:
        """From `low` to below `end`; the first dimension are the images."""
        whole = self._whole(shape)
        return torch.randint(low, end, whole, generator=self.generator, device=self.generator.device)[self._rows]

    def poisson(self, rates: Tensor) -> Tensor:
        """Counts of these means, (N, ...); each image has a generator of its own, since its rates decide how many
        numbers it takes."""
        seeds = self.integers(0, 2**62, [len(rates)]).tolist()
        of_images = (Generator(rates.device).manual_seed(seed) for seed in seeds)
        counts = [torch.poisson(rate, generator) for rate, generator in zip(rates, of_images, strict=True)]
        return torch.stack(counts) if counts else rates

    def split(self, kinds: int, count: int) -> list[tuple[Tensor, "Draws"]]:
        """Draw one of `kinds` for each of `count` images: for each kind (count,) bool, whose it is, and their draws."""
        kind_of = torch.randint(kinds, self._whole([count]), generator=self.generator, device=self.generator.device)
        parts = []
        for kind in range(kinds):
            chosen = kind_of == kind
            mine = chosen[self._rows]
            rows = (chosen.cumsum(0) - 1)[self._rows][mine]
            parts.append((mine, Draws(self.generator, rows, int(chosen.sum()))))
        return parts

    def _whole(self, shape: Sequence[int], dim: int = 0) -> list[int]:
        whole = list(shape)
        if self.total is not None:
            whole[dim] = self.total
        return whole


def seeded(*numbers: int, device: torch.device | str = "cpu") -> Draws:
    """Draws on `device` that depend on all of `numbers` (not negative) and nothing else."""
    state = np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0]
    return Draws(Generator(device).manual_seed(int(state >> np.uint64(1))))
