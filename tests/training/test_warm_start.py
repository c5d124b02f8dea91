"""Starting from other weights."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from peers import OfficialEDSR
from safetensors.torch import load_file
from torch import nn

from restore import train
from restore.checkpoint import Weights, save_weights
from restore.errors import UserError
from restore.images.io import write_image
from restore.models import EDSR, WDSRA, DnCNN, RestorationNetwork
from restore.recipes import CONFIGS
from restore.training.warm_start import start_from


@pytest.fixture
def doubling(tmp_path: Path) -> Path:
    save_weights(tmp_path / "x2.safetensors", Weights(EDSR(features=4, blocks=2, scale=2)))
    return tmp_path / "x2.safetensors"


@pytest.mark.parametrize(("scale", "new"), [
    (3, ["upsample.0.weight", "upsample.0.bias"]), (4, ["upsample.2.weight", "upsample.2.bias"]), (2, []),
])  # fmt: skip
def test_another_scale_starts_with_the_body_and_a_new_upsampler_and_says_so(
    doubling: Path, scale: int, new: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    network, before = (EDSR(features=4, blocks=2, scale=scale) for _ in range(2))
    before.load_state_dict(network.state_dict())
    with caplog.at_level(logging.INFO):
        start_from(network, doubling)
    source = load_file(doubling)
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before.state_dict()[name] if name in new else source[name])
    assert f"(x2): {len(before.state_dict()) - len(new)} tensors; new: {', '.join(new) or 'none'}" in caplog.text


def test_a_wdsr_of_another_scale_starts_with_the_body_and_a_new_tail_and_skip(tmp_path: Path) -> None:
    small, large = (WDSRA(features=4, blocks=2, scale=scale) for scale in (2, 4))
    save_weights(tmp_path / "x2.safetensors", Weights(small))
    start_from(large, tmp_path / "x2.safetensors")
    for name, tensor in large.state_dict().items():
        assert torch.equal(tensor, small.state_dict()[name]) != name.startswith(("tail.", "skip.")), name


SMALL = {"depth": 3, "features": 4}


@pytest.mark.parametrize(("theirs", "ours", "complaint"), [
    (DnCNN(**SMALL), DnCNN(**SMALL, residual=False), "its residual is True, the model's False"),
    (DnCNN(**SMALL), DnCNN(**SMALL, bn_eps=1e-3), "its bn_eps is 1e-05, the model's 0.001"),
    (EDSR(features=4, blocks=1), EDSR(features=4, blocks=1, rgb_range=1.0), r"its rgb_range is 255\.0, the model"),
    (DnCNN(**SMALL), DnCNN(**SMALL, init="kair", bn_momentum=0.01, recompute="norm"), None),
    (DnCNN(**SMALL, norm="none"), DnCNN(**SMALL, norm="none", bn_eps=1e-3), None),
])  # fmt: skip
def test_what_changes_the_function_is_refused_even_if_all_tensors_fit(
    theirs: RestorationNetwork, ours: RestorationNetwork, complaint: str | None, tmp_path: Path
) -> None:
    save_weights(tmp_path / "w.safetensors", Weights(theirs))
    if complaint is None:
        start_from(ours, tmp_path / "w.safetensors")
        assert torch.equal(ours.body[0].weight, theirs.body[0].weight)
        return
    with pytest.raises(UserError, match=complaint):
        start_from(ours, tmp_path / "w.safetensors")


@pytest.mark.parametrize(("network", "complaint"), [
    (EDSR(features=6, blocks=2), "its features is 4, the model's 6"),
    (EDSR(features=4, blocks=3), "its blocks is 2, the model's 3"),
    (EDSR(features=4, blocks=2, res_scale=0.1), r"its res_scale is 1\.0, the model's 0\.1"),
    (EDSR(features=4, blocks=2, norm="batch"), "its norm is none, the model's batch"),
    (DnCNN(features=4), "contains a EDSR, but the model is a DnCNN"),
])  # fmt: skip
def test_weights_of_another_network_are_refused(doubling: Path, network: RestorationNetwork, complaint: str) -> None:
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with pytest.raises(UserError, match=complaint):
        start_from(network, doubling)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


class Deeper(EDSR):
    """A network with a layer that its constructor arguments do not tell."""

    def __init__(self, features: int = 4, blocks: int = 2) -> None:
        super().__init__(features=features, blocks=blocks)
        self.extra = nn.Conv2d(1, 1, 1)


def test_only_upsampler_and_tail_may_be_new(tmp_path: Path) -> None:
    save_weights(tmp_path / "w.safetensors", Weights(Deeper()))
    network = Deeper()
    network.extra = nn.Conv2d(1, 1, 3)
    with pytest.raises(UserError, match=r"does not match the model in extra\.weight"):
        start_from(network, tmp_path / "w.safetensors")


def test_training_starts_from_an_official_checkpoint(tmp_path: Path) -> None:
    write_image(tmp_path / "photos/a.png", np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    peer = OfficialEDSR(4, 1, 2, 0.3)
    torch.save(peer.state_dict(), tmp_path / "x2.pt")
    args = (
        f"--config {CONFIGS}/edsr_baseline_x4.yaml --model.features 4 --model.blocks 1 --model.res_scale 0.3 "
        "--optim.lr 1e-9 "
        f"--weights {tmp_path}/x2.pt --data.train {tmp_path}/photos --data.val {tmp_path}/photos --data.patch_size 8 "
        f"--data.batch_size 1 --data.steps_per_epoch 1 --output {tmp_path}/run --trainer.max_steps 1 "
        "--trainer.accelerator cpu --trainer.enable_progress_bar false"
    )
    assert train.main(args.split()) == 0
    trained = load_file(tmp_path / "run/weights.safetensors")
    torch.testing.assert_close(trained["body.0.body.2.conv.weight"], peer.body[0].body[2].weight.detach())
    torch.testing.assert_close(trained["tail.weight"], peer.tail[1].weight.detach())
    assert json.loads((tmp_path / "run/summary.json").read_text())["weights_at_start"] == f"{tmp_path}/x2.pt"
