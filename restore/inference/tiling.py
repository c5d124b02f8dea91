"""Large images in tiles that come out as they do in the whole image.

A tile is restored with a halo of the network's receptive field and the halo cut away again. Where the image ends, so
does the tile: the network's own zero padding stands in the same place as ever.
"""

import logging
import math
from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor

from restore.choices import Tile
from restore.errors import UserError
from restore.hardware import free_memory, is_out_of_memory
from restore.inference.memory import bytes_per_pixel
from restore.inference.receptive_field import receptive_field
from restore.inference.runner import Runner, WrappedRunner
from restore.models import RestorationNetwork
from restore.progress import counting

LOG = logging.getLogger(__name__)

FREE_MEMORY_SHARE = 0.5  # convolutions need workspace beyond the estimate, and other programs need some memory, too
MAX_TILE_BYTES = 8 * 2**30  # so that no tensor has 2^31 elements, which not all kernels can count
DEFAULT_TILE_BYTES = 2 * 2**30  # if the free memory is unknown
MIN_TILE_PIXELS = 16  # of height and width
LARGE_TILE_PIXELS = 512  # of height and width; larger tiles, or of more halos, save an eighth of the work at most
LARGE_TILE_HALOS = 30


def tiled(
    network: RestorationNetwork, tile: Tile = "auto", *, approximate: bool = False, runner: Runner | None = None
) -> Runner:
    """A runner for images of any size.

    Args:
        network: in eval mode, on its device.
        tile: height and width of a tile in input pixels, its halo not counted; 0 never tiles; `auto` takes the whole
            image if it fits into half of the free memory and 8 GiB, else tiles that do.
        approximate: tile even if the result depends on the tiles.
        runner: what runs the network, if it does not do so itself.

    Raises:
        UserError: `tile` is no size, or tiles are asked for and the network cannot be tiled exactly.
    """
    if tile != "auto" and (not isinstance(tile, int) or tile < 0):
        raise UserError(f"tile must be auto or a number of pixels of at least 0, not {tile!r}")
    runner = runner or network
    if tile == 0:
        return runner
    halo, obstacle = receptive_field(network)
    if approximate:
        obstacle = None
    if obstacle and tile != "auto":
        raise UserError(_refusal(obstacle))
    return Tiled(runner, tile, halo, bytes_per_pixel(network), obstacle)


class Tiled(WrappedRunner):
    """Restores images in tiles. Only tiles are moved to the runner's device; the result is where the image is.

    Where memory runs out, it continues with tiles of half the size, also in the images that follow.

    Args:
        runner: restores the tiles.
        tile: see `tiled`; not 0.
        halo: input pixels around a tile.
        bytes_per_pixel: what the runner needs for a pixel of its input.
        obstacle: why images cannot be tiled, if so; those that do not fit are then refused.
    """

    def __init__(
        self, runner: Runner, tile: Tile, halo: int, bytes_per_pixel: float, obstacle: str | None = None
    ) -> None:
        super().__init__(runner)
        self._runner = runner
        self._tile = tile
        self._halo = _rounded_up(halo, runner.multiple_of)
        self._bytes_per_pixel = bytes_per_pixel
        self._obstacle = obstacle
        self._limit: int | None = None

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    @torch.inference_mode()
    def __call__(self, degraded: Tensor) -> Tensor:
        """(N, inputs, H, W) in [0, 1] on any device -> (N, channels, scale*H, scale*W) float32, unclamped.

        Raises:
            UserError: the image does not fit into memory and cannot be tiled, or not even small tiles fit.
        """
        images, _, height, width = degraded.shape
        restored = torch.empty(images, self.channels, self.scale * height, self.scale * width, device=degraded.device)
        tile = self._fitting(degraded, restored) if self._tile == "auto" else self._tile
        if self._limit is not None:
            tile = min(tile, self._limit)
        pending = list(product(*(_spans(size, tile, self._halo, self.multiple_of) for size in (height, width))))
        if len(pending) > 1:
            self._check(degraded)
        with counting("tiles", len(pending), within=True) as advance:
            while pending:
                rows, columns = pending[-1]
                piece = self._attempt(degraded[..., rows.read, columns.read])
                if piece is not None:
                    kept = piece[..., rows.kept(self.scale), columns.kept(self.scale)]
                    restored[..., rows.written(self.scale), columns.written(self.scale)] = kept
                    pending.pop()
                    advance()
                    continue
                self._check(degraded)
                limit = max(rows.size, columns.size) // 2
                if limit < max(MIN_TILE_PIXELS, self.multiple_of):
                    raise UserError(f"out of memory, even with tiles of {2 * limit} pixels")
                self._limit = limit
                LOG.warning("out of memory: continuing with tiles of %d pixels", limit)
                pending = [
                    quarter
                    for rows, columns in pending
                    for quarter in product(
                        rows.halves(self._halo, height, self.multiple_of),
                        columns.halves(self._halo, width, self.multiple_of),
                    )
                ]
        return restored

    def _fitting(self, degraded: Tensor, restored: Tensor) -> int:
        """The size of tiles that fit into memory besides the result; the image's if that fits."""
        images, _, height, width = degraded.shape
        free = free_memory(self._runner.device)
        if free is None:
            budget: float = DEFAULT_TILE_BYTES
        else:
            beside = restored.nbytes if restored.device.type == self._runner.device.type else 0
            budget = FREE_MEMORY_SHARE * max(0, free - beside)
        if self._obstacle is None:
            budget = min(budget, MAX_TILE_BYTES)
        pixels = int(budget / (images * self._bytes_per_pixel))
        if height * width <= pixels:
            return max(height, width)
        return max(
            MIN_TILE_PIXELS,
            min(math.isqrt(pixels) - 2 * self._halo, max(LARGE_TILE_PIXELS, LARGE_TILE_HALOS * self._halo)),
        )

    def _attempt(self, tile: Tensor) -> Tensor | None:
        """The tile restored, or None if memory runs out."""
        try:
            return self._runner(tile.to(self._runner.device))
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        if self._runner.device.type == "cuda":
            torch.cuda.empty_cache()
        return None

    def _check(self, degraded: Tensor) -> None:
        """Raise UserError if the image, which does not fit, cannot be tiled."""
        if self._obstacle is not None:
            height, width = degraded.shape[-2:]
            raise UserError(f"an image of {width}x{height} does not fit into memory; {_refusal(self._obstacle)}")


class _Span(NamedTuple):
    """What a tile takes of one axis: reads from `start` to `stop`, of which it makes `first` to `last`."""

    start: int
    stop: int
    first: int
    last: int

    @property
    def size(self) -> int:
        return self.last - self.first

    @property
    def read(self) -> slice:
        return slice(self.start, self.stop)

    def kept(self, scale: int) -> slice:
        return slice(scale * (self.first - self.start), scale * (self.last - self.start))

    def written(self, scale: int) -> slice:
        return slice(scale * self.first, scale * self.last)

    def halves(self, halo: int, length: int, multiple_of: int) -> Iterator["_Span"]:
        middle = _rounded_up((self.first + self.last) // 2, multiple_of)
        for first, last in ((self.first, middle), (middle, self.last)):
            if first < last:
                yield _Span(max(0, first - halo), min(length, last + halo), first, last)


def _spans(length: int, tile: int, halo: int, multiple_of: int = 1) -> Iterator[_Span]:
    """Cover an axis with tiles that all read equally much, since libraries prepare for each new shape.

    They begin and end at multiples, as `length` and `halo` are ones.

    The outermost make up for the halo that they lack at the image's end: they make that much more.
    """
    inner = max(1, length - 2 * halo)
    step = _rounded_up(math.ceil(inner / math.ceil(inner / tile)), multiple_of)
    extent = min(length, step + 2 * halo)
    for begin in range(0, inner, step):
        end = begin + step
        start = min(begin, length - extent)
        first = begin + halo if begin > 0 else 0
        last = end + halo if end < inner else length
        yield _Span(start, start + extent, first, last)


def _rounded_up(size: int, multiple_of: int) -> int:
    return -(-size // multiple_of) * multiple_of


def _refusal(obstacle: str) -> str:
    return (
        f"the network cannot be tiled exactly because of its {obstacle} "
        "(--tile-approximate tiles it nevertheless, --tile 0 tries it whole)"
    )
