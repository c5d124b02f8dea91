"""Averages of weights."""

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from restore.optim.averaging import moving_average


@pytest.mark.parametrize(("decay", "steps"), [(0.9, 200), (0.999, 40)])
def test_the_decay_rises_so_that_the_first_weights_are_forgotten(decay: float, steps: int) -> None:
    model = nn.BatchNorm1d(1)
    average = AveragedModel(model, multi_avg_fn=moving_average(decay), use_buffers=True)
    expected = 0.0
    for step in range(steps):
        value = 1000.0 if step == 0 else float(step % 7)
        with torch.no_grad():
            model.weight.fill_(value)
            model.running_mean.fill_(value)
        average.update_parameters(model)
        share = 0.0 if step == 0 else min(decay, (1 + step) / (10 + step))
        expected = share * expected + (1 - share) * value
    assert average.module.weight.item() == pytest.approx(expected, rel=1e-4)
    assert average.module.running_mean.item() == pytest.approx(expected, rel=1e-4)
    assert 2 < expected < 4
