"""What PyTorch's caching allocator for CUDA takes from the GPU for a series of tensors, by its rules, without a GPU.

The rules are those of PyTorch 2.15 as it comes (c10/core/AllocatorConfig.h, c10/cuda/CUDACachingAllocator.cpp): sizes
are rounded up to 512 bytes; what is missing is taken from the driver in segments of 2 MiB for blocks of at most 1 MiB,
of 20 MiB for blocks below 10 MiB, and else of the block's size, rounded up to 2 MiB; the smallest free block that is
large enough is taken, and split if enough is left of it; free neighbors are merged; segments are kept.
"""

from bisect import bisect_left, insort
from dataclasses import dataclass
from typing import Literal

MIB = 2**20
SMALLEST = 512
SMALL = MIB  # the largest block of the small pool
SMALL_SEGMENT, LARGE_SEGMENT = 2 * MIB, 20 * MIB
OWN_SEGMENT = 10 * MIB  # from here on a block gets a segment of its size
SEGMENT_UNIT = 2 * MIB

Pool = Literal["small", "large"]


@dataclass(eq=False)
class Block:
    """A part of a segment, of `size` bytes at `address`; `previous` and `next` are its neighbors in the segment."""

    pool: Pool
    size: int
    address: int
    previous: "Block | None" = None
    next: "Block | None" = None
    free: bool = False

    @property
    def order(self) -> tuple[int, int]:
        """Free blocks are taken in this order."""
        return self.size, self.address


class CachingAllocator:
    """One stream of one GPU with memory without end.

    Attributes:
        allocated: bytes of blocks in use.
        reserved: bytes of all segments.
        peak_allocated: the most that was in use.
    """

    def __init__(self) -> None:
        self.allocated = self.reserved = self.peak_allocated = 0
        self._free: dict[Pool, list[Block]] = {"small": [], "large": []}

    def allocate(self, size: int) -> Block:
        """A block for `size` bytes, at least 1."""
        size = max(SMALLEST, _round_up(size, SMALLEST))
        pool: Pool = "small" if size <= SMALL else "large"
        block = self._take(pool, size) or self._segment(pool, size)
        left = block.size - size
        if left >= SMALLEST if pool == "small" else left > SMALL:
            rest = Block(pool, left, block.address + size, block, block.next)
            if rest.next:
                rest.next.previous = rest
            block.size, block.next = size, rest
            self._keep(rest)
        self.allocated += block.size
        self.peak_allocated = max(self.peak_allocated, self.allocated)
        return block

    def release(self, block: Block) -> None:
        """Free a block that `allocate` returned; it must not be used any more."""
        self.allocated -= block.size
        if (before := block.previous) and before.free:
            self._forget(before)
            block.address, block.previous = before.address, before.previous
            block.size += before.size
            if block.previous:
                block.previous.next = block
        if (after := block.next) and after.free:
            self._forget(after)
            block.size += after.size
            block.next = after.next
            if block.next:
                block.next.previous = block
        self._keep(block)

    def _take(self, pool: Pool, size: int) -> Block | None:
        place = bisect_left(self._free[pool], (size, 0), key=lambda block: block.order)
        if place == len(self._free[pool]):
            return None
        block = self._free[pool].pop(place)
        block.free = False
        return block

    def _segment(self, pool: Pool, size: int) -> Block:
        whole = SMALL_SEGMENT if pool == "small" else LARGE_SEGMENT
        if size >= OWN_SEGMENT:
            whole = _round_up(size, SEGMENT_UNIT)
        self.reserved += whole
        return Block(pool, whole, address=self.reserved - whole)

    def _keep(self, block: Block) -> None:
        block.free = True
        insort(self._free[block.pool], block, key=lambda block: block.order)

    def _forget(self, block: Block) -> None:
        place = bisect_left(self._free[block.pool], block.order, key=lambda block: block.order)
        del self._free[block.pool][place]


def _round_up(size: int, unit: int) -> int:
    return -(-size // unit) * unit
