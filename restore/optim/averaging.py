"""Averages of weights over the steps of a run."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn


def moving_average(decay: float) -> Callable[[Any, Any, Tensor | int], None]:
    """An exponential moving average that forgets how it began: for `torch.optim.swa_utils.AveragedModel`.

    After n steps the decay is (1 + n) / (10 + n), at most `decay`, as in TensorFlow's average of this name. A constant
    one would keep `decay`^n of the initial weights.

    Args:
        decay: between 0 and 1.
    """

    @torch.no_grad()
    def update(averages: Any, current: Any, count: Tensor | int) -> None:
        steps = int(count)
        get_ema_multi_avg_fn(min(decay, (1 + steps) / (10 + steps)))(averages, current, count)

    return update
