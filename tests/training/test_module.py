"""The training step."""

import pytest
import torch

from restore.data.pairs import Pair
from restore.errors import UserError
from restore.metrics import PROTOCOLS
from restore.models import MDSR, DnCNN
from restore.optim import Optimization
from restore.training.module import RestorationModule


def test_an_mdsr_is_trained_at_the_scale_of_each_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    network = MDSR(features=4, blocks=1, scale=4)
    module = RestorationModule(network, Optimization(loss="l1"), PROTOCOLS["sr-y"])
    monkeypatch.setattr(RestorationModule, "trainer", None)
    monkeypatch.setattr("restore.training.module.logs_this_step", lambda _: False)
    for scale in (2, 3, 4):
        pair = Pair(torch.rand(2, 3, 6, 6), torch.rand(2, 3, 6 * scale, 6 * scale))
        expected = (network.at(scale)(pair.degraded) - pair.clean).abs().mean()
        torch.testing.assert_close(module.training_step(pair, 0), expected)


def test_muon_is_refused_where_weights_are_spread_over_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    spread = RestorationModule(DnCNN(depth=3, features=4), Optimization(optimizer="muon"), PROTOCOLS["denoise-gray"])
    monkeypatch.setattr("restore.training.module.FSDPModule", RestorationModule)
    with pytest.raises(UserError, match=r"optim\.optimizer muon needs whole weights, but the strategy fsdp"):
        spread.configure_optimizers()
