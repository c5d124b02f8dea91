"""How much memory is free, and how much a forward pass takes."""

import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from restore.models import RestorationNetwork

SIZE = 16  # of the image that is tried


def free_memory(device: torch.device, root: Path = Path("/")) -> int | None:
    """Bytes that can still be had on a device, or None where that cannot be told.

    Of CUDA's, with what PyTorch holds in reserve. Of a CPU's, what Linux calls available, within the limits of the
    control groups (containers, batch systems) that this process is in.

    Args:
        device: whose memory.
        root: where `proc` and `sys` lie.
    """
    if device.type == "cuda":
        reserve = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + reserve
    meminfo = root / "proc/meminfo"
    if not meminfo.exists():
        return None
    available = _fields(meminfo)["MemAvailable:"] * 2**10
    return max(0, min([available, *_free_in_groups(root)]))


def _free_in_groups(root: Path) -> Iterator[int]:
    """Bytes below each limit, of both versions of control groups; memory for files can be had back and is not counted.

    A container sees its own group at the top, under whatever name the host has for it.
    """
    groups = root / "proc/self/cgroup"
    for line in groups.read_text().splitlines() if groups.exists() else ():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            top, limit, usage, files = root / "sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"
        elif "memory" in controllers.split(","):
            top, limit, usage = root / "sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
            files = "total_inactive_file"
        else:
            continue
        own = top / path.lstrip("/")
        for group in (own, *own.parents):
            if not group.is_relative_to(top) or not (group / limit).exists():
                continue
            if (text := (group / limit).read_text().strip()) != "max":
                yield int(text) - int((group / usage).read_text()) + _fields(group / "memory.stat")[files]


def _fields(table: Path) -> dict[str, int]:
    """The first two words of each line, the second a number."""
    return {name: int(value) for name, value, *_ in map(str.split, table.read_text().splitlines())}


@torch.inference_mode()
def bytes_per_pixel(network: RestorationNetwork) -> float:
    """Memory at the peak of a forward pass, per pixel of the input, weights and the libraries' workspace left out."""
    image = torch.zeros(1, network.channels, SIZE, SIZE, device=network.device)
    ledger = _Ledger()
    with ledger:
        network(image)
    return ledger.peak / SIZE**2


class _Ledger(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the storages that are born within for as long as they live."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = 0
        self._live: dict[int, tuple[int, weakref.ref[torch.UntypedStorage]]] = {}

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self._enter(tensor.untyped_storage())
        self.peak = max(self.peak, sum(size for size, _ in self._live.values()))
        return result

    def _enter(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key not in self._live:
            self._live[key] = storage.nbytes(), weakref.ref(storage, lambda _: self._live.pop(key))
