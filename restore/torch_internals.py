"""What PyTorch does not promise, and this package uses nevertheless. Checked on PyTorch 2.15.

Each is used through a function here only, and `tests/test_torch_internals.py` tests what is expected of it.
"""

import weakref
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def storage_key(tensor: Tensor) -> int:
    """The same number for tensors that share their memory, for as long as that lives."""
    key: int = tensor.untyped_storage()._cdata
    return key


def batch_norm_statistics(output: Tensor) -> tuple[Tensor, Tensor] | None:
    """Mean and inverse deviation of the batch, which autograd keeps with a batch norm's output; None without it."""
    node: Any = output.grad_fn
    return None if node is None else (node._saved_result1, node._saved_result2)


def without_data() -> AbstractContextManager[Any]:
    """Within, tensors have a shape, a type and a device, but no memory."""
    from torch._subclasses.fake_tensor import FakeTensorMode  # takes a second

    return FakeTensorMode(allow_non_fake_inputs=True)


def activation_budget(share: float) -> AbstractContextManager[Any]:
    """Within, `torch.compile` keeps at most this share of activations for backward."""
    budget: AbstractContextManager[Any] = torch._functorch.config.patch(activation_memory_budget=share)
    return budget


def profiled_events(profiler: torch.profiler.profile) -> Sequence[Any]:
    """The roots of the tree of events that a profiler has recorded."""
    inner: Any = profiler.profiler
    roots: Sequence[Any] = inner.kineto_results.experimental_event_tree()
    return roots


def record_allocations(enabled: bool) -> None:
    """Have CUDA's allocator keep its history, or stop."""
    if enabled:
        torch.cuda.memory._record_memory_history(context=None)
    else:
        torch.cuda.memory._record_memory_history(enabled=None)


def recorded_allocations(device: torch.device) -> Sequence[dict[str, Any]]:
    """The history of CUDA's allocator: entries with `action`, `addr`, `size` and `time_us`."""
    traces: list[list[dict[str, Any]]] = torch.cuda.memory._snapshot(device)["device_traces"]
    return traces[torch.cuda._utils._get_device_index(device, True)]


def tensors(tree: Any) -> list[Tensor]:
    """All tensors of nested tuples, lists and dictionaries."""
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


class Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Runs, and so sees, every operation of PyTorch within a `with` block."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()  # type: ignore[no-untyped-call]

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # torch.compile never meets this mode, and merely importing it takes seconds

    def run(self, operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Return the operation's result."""
        return operation(*args, **kwargs)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return self.run(func, args, kwargs or {})


class Ledger(Operations):
    """Follows every storage that is born within, from its birth to its death."""

    def __init__(self) -> None:
        super().__init__()
        self._followed: dict[int, weakref.ref[torch.UntypedStorage]] = {}

    def born(self, key: int, size: int) -> None:
        """A storage of `size` bytes is there."""

    def died(self, key: int) -> None:
        """It is gone; its key may be used again."""

    def called(self, operation: Any, inputs: tuple[Any, ...]) -> None:
        """An operation has run, and its results were born."""

    def run(self, operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        given = {storage_key(tensor) for tensor in tensors((args, kwargs))}
        result = super().run(operation, args, kwargs)
        for tensor in tensors(result):
            if (key := storage_key(tensor)) not in given:  # else a view, or in place
                self._follow(tensor.untyped_storage(), key)
        self.called(operation, args)
        return result

    def _follow(self, storage: torch.UntypedStorage, key: int) -> None:
        if key in self._followed:
            return

        def die(_: Any) -> None:
            del self._followed[key]
            self.died(key)

        self._followed[key] = weakref.ref(storage, die)
        self.born(key, storage.nbytes())
