"""The losses against their equations."""

import pytest
import torch

from restore.losses import half_squared_error, l1


def test_dncnn_loss_sums_squared_errors_over_an_image() -> None:
    clean = torch.zeros(2, 1, 3, 4)
    restored = torch.stack([torch.full((1, 3, 4), 0.5), torch.full((1, 3, 4), 2.0)])
    assert half_squared_error(restored, clean).tolist() == pytest.approx([0.5 * 12 * 0.25, 0.5 * 12 * 4])


def test_edsr_loss_averages_absolute_errors_over_an_image() -> None:
    restored = torch.tensor([[[[1.0, -1.0], [0.0, 2.0]]]])
    assert l1(restored, torch.zeros(1, 1, 2, 2)).tolist() == [1.0]
