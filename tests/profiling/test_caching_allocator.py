"""The caching allocator's rules, worked out by hand from PyTorch's source."""

import random
from itertools import pairwise

import pytest

from restore.profiling.caching_allocator import Block, CachingAllocator

KIB, MIB = 2**10, 2**20


@pytest.mark.parametrize(
    ("size", "allocated", "reserved"),
    [
        (1, 512, 2 * MIB),
        (513, 1024, 2 * MIB),
        (MIB, MIB, 2 * MIB),
        (MIB + 1, MIB + 512, 20 * MIB),
        (10 * MIB - 512, 10 * MIB - 512, 20 * MIB),
        (10 * MIB, 10 * MIB, 10 * MIB),
        (11 * MIB, 12 * MIB, 12 * MIB),  # 1 MiB is not worth splitting off
        (11 * MIB - 512, 11 * MIB - 512, 12 * MIB),
        (20 * MIB + 1, 20 * MIB + 512, 22 * MIB),
    ],
)
def test_a_block_takes_a_segment_of_its_class(size: int, allocated: int, reserved: int) -> None:
    gpu = CachingAllocator()
    gpu.allocate(size)
    assert (gpu.allocated, gpu.reserved) == (allocated, reserved)


def test_small_and_large_blocks_never_share_a_segment() -> None:
    gpu = CachingAllocator()
    gpu.allocate(3 * MIB)
    gpu.allocate(KIB)
    assert gpu.reserved == 22 * MIB
    gpu.allocate(3 * MIB)
    gpu.allocate(KIB)
    assert gpu.reserved == 22 * MIB


def test_the_smallest_free_block_that_is_large_enough_is_taken() -> None:
    gpu = CachingAllocator()
    large, small = gpu.allocate(40 * MIB), gpu.allocate(20 * MIB)
    gpu.release(large)
    gpu.release(small)
    assert gpu.allocate(18 * MIB).address == 40 * MIB
    assert gpu.allocate(18 * MIB).address == 0
    assert gpu.reserved == 60 * MIB


def test_free_neighbors_are_merged_and_others_are_not() -> None:
    gpu = CachingAllocator()
    blocks = [gpu.allocate(5 * MIB) for _ in range(4)]
    assert gpu.reserved == 20 * MIB
    gpu.release(blocks[0])
    gpu.release(blocks[2])
    gpu.allocate(9 * MIB)
    assert gpu.reserved == 40 * MIB  # 10 MiB are free in the first segment, in two pieces
    gpu.release(blocks[1])
    gpu.allocate(15 * MIB)
    assert gpu.reserved == 40 * MIB


def test_blocks_in_use_never_overlap_and_all_is_merged_in_the_end() -> None:
    numbers = random.Random(0)
    gpu = CachingAllocator()
    live: list[Block] = []
    for _ in range(2000):
        if live and numbers.random() < 0.5:
            gpu.release(live.pop(numbers.randrange(len(live))))
        else:
            live.append(gpu.allocate(int(2 ** numbers.uniform(0, 26))))
        assert gpu.allocated == sum(block.size for block in live) <= gpu.reserved
    spans = sorted((block.pool, block.address, block.address + block.size) for block in live)
    assert all(end <= start for (pool, _, end), (other, start, _) in pairwise(spans) if pool == other)
    while live:
        gpu.release(live.pop())
    reserved = gpu.reserved
    assert gpu.allocate(1).next is not None
    assert (gpu.allocated, gpu.reserved) == (512, reserved)
