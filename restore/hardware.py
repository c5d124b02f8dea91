"""What is fastest on this machine, determined once: precision, memory format, allocator, threads, where patches lie.

All of it is automatic and each choice can be overridden. What was chosen is one line in the log.
"""

import ctypes
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch

from restore.errors import UserError

MALLOPT = {-1: 2**31 - 1, -2: 64 * 2**20, -3: 2**30}  # M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD of malloc.h
ISA_WITH_BF16 = ("ALL", "DEFAULT", "BF16", "FP16", "AMX")  # in the values of oneDNN's ONEDNN_MAX_CPU_ISA
STORE_SHARE = 0.5  # of a device's free memory that a patch store may take


@dataclass(frozen=True)
class Hardware:
    """How a training run uses the machine; None: choose what is fastest on this machine.

    Attributes:
        channels_last: keep images and weights as (N, H, W, C) in memory, which convolution kernels prefer; default: so,
            but for group norm on a CPU, whose own kernel takes up to four times as long then.
        threads: of the CPU; default: the cores this process may use.
        compile: `torch.compile` the network, in its default mode or in `reduce-overhead`, which on a GPU also records
            forward and backward as CUDA graphs, so that Python launches no kernels one by one; on a CPU both are the
            same. Off unless asked for: it gains a few per cent on a CPU at most.
        store_on_device: keep all training patches in GPU memory; default: if they take at most half of what is free.
            Not with `data.workers` or `data.transforms`, for which patches are cut on the CPU.
        keep_pages: `restore train` lets glibc's allocator keep freed memory; otherwise each large tensor is mapped and
            faulted in again. It holds for the whole process, so `fit` leaves it to its caller (`keep_pages`).

    Raises:
        UserError: fewer than one thread.
    """

    channels_last: bool | None = None
    threads: int | None = None
    compile: bool | Literal["reduce-overhead"] = False
    store_on_device: bool | None = None
    keep_pages: bool = True

    def __post_init__(self) -> None:
        if self.threads is not None and self.threads < 1:
            raise UserError(f"hardware.threads must be at least 1, not {self.threads}")

    def resolved(self, device: torch.device, store_bytes: int, norm: str) -> "Hardware":
        """With every None replaced for a run on `device`, from a store of `store_bytes`, of a network with `norm`."""
        gains = device.type != "cpu" or norm != "group"
        fits = device.type != "cpu" and store_bytes <= STORE_SHARE * (free_memory(device) or 0)
        return replace(
            self,
            channels_last=gains if self.channels_last is None else self.channels_last,
            threads=self.threads or usable_cores(),
            store_on_device=fits if self.store_on_device is None else self.store_on_device,
        )

    def describe(self, device: torch.device, precision: str) -> str:
        """One line for the log, of resolved choices."""
        parts = [
            str(device),
            precision,
            *(["channels_last"] if self.channels_last else []),
            *([f"{self.threads} threads"] if device.type == "cpu" else []),
            *(["compiled" if self.compile is True else f"compiled ({self.compile})"] if self.compile else []),
            "patches in GPU memory" if self.store_on_device else "patches memory-mapped",
        ]
        return ", ".join(parts)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether this is CUDA's error, Python's, or that of PyTorch's allocator on CPUs, which has no type of its own."""
    words = "DefaultCPUAllocator", "can't allocate memory"
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(word in str(error) for word in words)


def available_device(name: str | None = None) -> torch.device:
    """The device of this name, or the fastest: a GPU (with torchrun, this process's own), Apple's mps, or the CPU.

    Raises:
        UserError: there is no such device on this machine.
    """
    if name is None:
        return _fastest_device()
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"--device: {name!r} is not available on this machine") from error
    return torch.device(name)


def _fastest_device() -> torch.device:
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def gains_from_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 faster than float32: tensor cores, AVX-512 BF16 or AMX.

    Of a CPU, as far as the environment variable ONEDNN_MAX_CPU_ISA lets oneDNN use it.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type != "cpu":
        return False
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA", "ALL").upper()
    if not any(word in limit for word in ISA_WITH_BF16):
        return False
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def usable_cores() -> int:
    """Cores that this process may use, by its affinity and the container's quota, at most PyTorch's own choice."""
    cores = min(torch.get_num_threads(), len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 2**10)
    quota = Path("/sys/fs/cgroup/cpu.max")
    if quota.exists():
        limit, period = quota.read_text().split()
        if limit != "max":
            cores = min(cores, max(1, round(int(limit) / int(period))))
    return cores


def free_memory(device: torch.device, root: Path = Path("/")) -> int | None:
    """Bytes that are still available, or None if that is unknown.

    Of CUDA's memory, with what PyTorch holds in reserve. Of a CPU's, what Linux calls available, within the limits of
    the control groups (of containers, of batch systems) that this process is in; their `proc` and `sys` lie in `root`.
    """
    if device.type == "cuda":
        reserve = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + reserve
    meminfo = root / "proc/meminfo"
    if not meminfo.exists():
        return None
    available = _fields(meminfo)["MemAvailable:"] * 2**10
    return max(0, min([available, *_free_in_groups(root)]))


def peak_memory(device: torch.device) -> int | None:
    """The most memory, in bytes, that PyTorch has had allocated on a GPU, or this process resident on a CPU.

    None if the system does not tell (Windows).
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 2**10  # macOS counts bytes, Linux KiB


def _free_in_groups(root: Path) -> Iterator[int]:
    """Bytes below each limit, of both versions of control groups; memory for files can be had back and is not counted.

    A container sees its own group at the top, under any name that the host has for it.
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


def keeps_pages() -> bool:
    """Whether there is glibc, whose `mallopt` can be told to keep freed memory."""
    return hasattr(ctypes.CDLL(None), "mallopt") if os.name == "posix" else False


def keep_pages() -> None:
    """Tell glibc to keep freed memory rather than give it back, for the life of the process.

    By default every tensor above 32 MiB is mapped again and each of its pages faults on first use: millions of
    faults per training step.
    """
    if keeps_pages():
        for parameter, value in MALLOPT.items():
            ctypes.CDLL(None).mallopt(parameter, value)
