"""How much memory a forward pass takes."""

from typing import Any

import torch

from restore.models import RestorationNetwork
from restore.torch_internals import Ledger

TRIAL_PIXELS = 16  # of the image that is tried, if it need not be a multiple of another


@torch.inference_mode()
def bytes_per_pixel(network: RestorationNetwork) -> float:
    """Memory at the peak of a forward pass, per pixel of the input, weights and the libraries' workspace left out."""
    size = TRIAL_PIXELS * network.multiple_of
    image = next(network.parameters()).new_zeros(1, network.inputs, size, size)
    ledger = _Ledger()
    with ledger:
        network(image)
    return ledger.peak / size**2


class _Ledger(Ledger):
    """Adds up the storages that are born within for as long as they live."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self._live: dict[int, int] = {}

    def born(self, key: int, size: int) -> None:
        self._live[key] = size

    def died(self, key: int) -> None:
        del self._live[key]

    def called(self, operation: Any, inputs: tuple[Any, ...]) -> None:
        self.peak = max(self.peak, sum(self._live.values()))
