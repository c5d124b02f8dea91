"""The losses against their equations."""

import pytest
import torch

from restore.errors import UserError
from restore.losses import charbonnier, find_loss, half_squared_error, l1


def test_dncnn_loss_sums_squared_errors_over_an_image() -> None:
    clean = torch.zeros(2, 1, 3, 4)
    restored = torch.stack([torch.full((1, 3, 4), 0.5), torch.full((1, 3, 4), 2.0)])
    assert half_squared_error(restored, clean).tolist() == pytest.approx([0.5 * 12 * 0.25, 0.5 * 12 * 4])


def test_edsr_loss_averages_absolute_errors_over_an_image() -> None:
    restored = torch.tensor([[[[1.0, -1.0], [0.0, 2.0]]]])
    assert l1(restored, torch.zeros(1, 1, 2, 2)).tolist() == [1.0]


def test_charbonnier_is_the_absolute_error_far_from_zero_and_smooth_at_it() -> None:
    restored = torch.tensor([0.0, 0.5, -2.0]).view(1, 1, 1, 3).requires_grad_()
    loss = charbonnier(restored, torch.zeros(1, 1, 1, 3))
    assert loss.item() == pytest.approx((1e-3 + 0.5 + 2) / 3, abs=1e-5)
    (gradient,) = torch.autograd.grad(loss.sum(), restored)
    assert gradient.flatten().tolist() == pytest.approx([0, 1 / 3, -1 / 3], abs=1e-5)


def test_a_loss_of_another_package_is_had_by_its_path_if_the_user_allows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    path = "torch.nn.functional.l1_loss"
    with pytest.raises(UserError, match="add torch to the environment variable RESTORE_EXTENSIONS"):
        find_loss(path)
    monkeypatch.setenv("RESTORE_EXTENSIONS", "torch.nn.functional")
    assert find_loss(path) is torch.nn.functional.l1_loss
    for path in ("restore.losses.LOSSES", "restore.losses.CHARBONNIER_EPS"):
        with pytest.raises(UserError, match=f"{path}: neither a class nor a function"):
            find_loss(path)
    with pytest.raises(UserError, match=r"unknown loss 'l7'; known: half_squared_error, l1, charbonnier"):
        find_loss("l7")
