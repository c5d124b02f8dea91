"""How much memory a forward pass takes."""

import weakref
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from restore.models import RestorationNetwork

SIZE = 16  # of the image that is tried, if it need not be a multiple of another


@torch.inference_mode()
def bytes_per_pixel(network: RestorationNetwork) -> float:
    """Memory at the peak of a forward pass, per pixel of the input, weights and the libraries' workspace left out."""
    size = SIZE * network.multiple_of
    image = next(network.parameters()).new_zeros(1, network.inputs, size, size)
    ledger = _Ledger()
    with ledger:
        network(image)
    return ledger.peak / size**2


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
