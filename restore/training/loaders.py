"""What Lightning iterates over: batches of patches in training, whole images in validation."""

import signal
import time
from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader, Dataset

from restore.data.catalog import ImageSet
from restore.data.degradation import Degradation
from restore.data.pairs import ImagePair, PatchBatch, ScaleSampler, load_pair


def _leave_signals_to_the_parent(_: int) -> None:
    """Batch systems and terminals signal all processes of a group, but a run needs its workers to end in order."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


class TrainLoader:
    """Yields the batches of an epoch and knows where it is, so that a resumed run sees the batches that follow.

    Args:
        batches: maps the number of a step to its batch.
        steps_per_epoch: after how many batches an epoch ends.
        workers: processes that prepare batches; 0 prepares them here.
        pinned: put batches into page-locked memory, from where they are copied to a GPU while it computes.

    Attributes:
        waited_s: seconds that the run has spent waiting for batches.
    """

    def __init__(self, batches: Dataset[PatchBatch], steps_per_epoch: int, workers: int, pinned: bool = False) -> None:
        self._batches = batches
        self._steps_per_epoch = steps_per_epoch
        self._workers = workers
        self._pinned = pinned
        self._position = 0
        self.waited_s = 0.0

    def __len__(self) -> int:
        return self._steps_per_epoch

    def __iter__(self) -> Iterator[PatchBatch]:
        epoch_end = (self._position // self._steps_per_epoch + 1) * self._steps_per_epoch
        steps = range(self._position, epoch_end)
        batches: Iterator[PatchBatch] = (self._batches[step] for step in steps)
        if self._workers or self._pinned:
            batches = iter(
                DataLoader(
                    self._batches,
                    batch_size=None,
                    sampler=steps,
                    num_workers=self._workers,
                    pin_memory=self._pinned,
                    worker_init_fn=_leave_signals_to_the_parent,
                )
            )
        for _ in steps:
            start = time.perf_counter()
            batch = next(batches)
            self.waited_s += time.perf_counter() - start
            self._position += 1
            yield batch

    def state_dict(self) -> dict[str, Any]:
        return {"position": self._position, "waited_s": self.waited_s}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._position, self.waited_s = state["position"], state["waited_s"]


class Batches(Dataset[PatchBatch]):
    """The rank's share of the batch of each step."""

    def __init__(self, sampler: ScaleSampler, rank: int, ranks: int) -> None:
        self._sampler = sampler
        self._rank = rank
        self._ranks = ranks

    def __getitem__(self, step: int) -> PatchBatch:
        return self._sampler.batch(step, self._rank, self._ranks)


class ValidationLoader:
    """Yields the rank's share of a test set as (pair, counted).

    Every rank gets the same number of images, as collective operations need it; a repeated one is not counted.
    """

    def __init__(self, images: ImageSet, degradation: Degradation, channels: int, rank: int, ranks: int) -> None:
        self._images = images
        self._degradation = degradation
        self._channels = channels
        self._rank = rank
        self._ranks = ranks

    def __len__(self) -> int:
        return -(-len(self._images.clean) // self._ranks)

    def __iter__(self) -> Iterator[tuple[ImagePair, bool]]:
        count = len(self._images.clean)
        for number in range(self._rank, len(self) * self._ranks, self._ranks):
            yield load_pair(self._images, number % count, self._degradation, self._channels), number < count
