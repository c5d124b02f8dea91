"""Other projects' checkpoints: what they compute there they compute here, and nothing that does not fit is taken."""

import logging
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peers import BasicEDSR, OfficialEDSR, OfficialMDSR, numbered_dncnn
from safetensors.torch import save_file
from torch import Tensor, nn

import restore
from restore import convert, infer
from restore.errors import UserError
from restore.foreign_checkpoints import load_any
from restore.images.io import read_image, write_image
from restore.inference import at_level, restore_tensor, tiled
from restore.models import EDSR, MDSR
from restore.training.checkpoints import read_checkpoint

GOLDENS = {
    "dncnn_kair_merged": {"channels": 1, "depth": 6, "features": 8, "norm": "none", "bias": True},
    "dncnn_saoyan": {"channels": 1, "depth": 6, "features": 64, "norm": "batch", "bias": False, "bn_eps": 1e-5},
    "edsr_basicsr_x4": {"blocks": 3, "features": 8, "scale": 4, "rgb_range": 255.0},
    "edsr_official_x2": {"blocks": 3, "features": 8, "scale": 2, "rgb_range": 255.0},
    "fdncnn_kair": {"channels": 1, "depth": 5, "features": 8, "norm": "none"},
    "ffdnet_kair": {"channels": 1, "depth": 4, "features": 8, "norm": "none", "downscale": 2},  # of an odd size, padded
}


@pytest.mark.parametrize("name", GOLDENS)
def test_golden_checkpoints_are_recognized_and_give_the_golden_outputs(golden: Path, name: str) -> None:
    reference = torch.load(golden / f"{name}.pt", weights_only=True)
    weights = load_any(golden / f"{name}.pt", res_scale=reference["info"].get("res_scale"))
    assert GOLDENS[name].items() <= weights.network.spec.arguments.items()
    peak = 255 if reference["info"]["range"].startswith("0..255") else 1
    level = reference["sigma"].item() if "sigma" in reference else None
    restored = restore_tensor(at_level(tiled(weights.network), level), reference["input"] / peak) * peak
    if weights.training["imported"]["returns"] == "noise":
        restored = reference["input"] - restored
    torch.testing.assert_close(restored, reference["output"], atol=1e-5 * peak, rtol=1e-5)


def stirred(module: nn.Module) -> nn.Module:
    """With statistics and affine parameters that are not those of a fresh network."""
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.uniform_(layer.bias, -0.2, 0.2)
            nn.init.uniform_(layer.running_mean, -0.2, 0.2)
            nn.init.uniform_(layer.running_var, 1e-3, 1e-2)  # so small that epsilon counts
    return module.eval()


def prefixed(prefix: str, state: dict[str, Any]) -> dict[str, Any]:
    return {f"{prefix}{key}": value for key, value in state.items()}


@pytest.mark.parametrize(("prefix", "biases", "eps"), [("model.", "all", 1e-4), ("dncnn.", "first", 1e-4),
                                                       ("module.dncnn.", "none", 1e-5)])  # fmt: skip
@pytest.mark.parametrize("channels", [1, 3])
def test_denoisers_with_batch_norm_compute_what_they_computed(
    tmp_path: Path, prefix: str, biases: str, eps: float, channels: int
) -> None:
    peer = stirred(numbered_dncnn(channels, 6, 5, biases, eps))
    torch.save(prefixed(prefix, peer.state_dict()), tmp_path / "w.pth")
    x = torch.rand(1, channels, 9, 8)
    network = restore.load(tmp_path / "w.pth")
    torch.testing.assert_close(network(x), x - peer(x), atol=1e-5, rtol=0)
    assert network.spec.arguments["bn_eps"] == eps


def test_files_older_than_batch_counters_load(tmp_path: Path) -> None:
    peer = stirred(numbered_dncnn(1, 6, 5, "all", 1e-4))
    state = {key: value for key, value in peer.state_dict().items() if "num_batches" not in key}
    torch.save(prefixed("model.", state), tmp_path / "w.pth")
    x = torch.rand(1, 1, 9, 8)
    torch.testing.assert_close(restore.load(tmp_path / "w.pth")(x), x - peer(x), atol=1e-5, rtol=0)


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
@pytest.mark.parametrize("peak", [255.0, 1.0])
def test_official_edsr_computes_what_it_computed_at_every_scale_and_range(
    tmp_path: Path, scale: int, peak: float
) -> None:
    peer = OfficialEDSR(6, 2, scale, 0.3, peak)
    torch.save(peer.state_dict(), tmp_path / "w.pt")
    network = load_any(tmp_path / "w.pt", res_scale=0.3).network
    assert (network.scale, network.spec.arguments["rgb_range"]) == (scale, peak)
    x = torch.rand(1, 3, 5, 6)
    torch.testing.assert_close(network(x), peer(x * peak) / peak, atol=1e-5, rtol=0)


@pytest.mark.parametrize("scales", [(2, 3, 4), (3, 2), (4,)])
def test_official_mdsr_computes_what_it_computed_at_each_scale(tmp_path: Path, scales: tuple[int, ...]) -> None:
    peer = OfficialMDSR(4, 2, scales)
    torch.save(peer.state_dict(), tmp_path / "w.pt")
    x = torch.rand(1, 3, 5, 6)
    for branch, scale in enumerate(scales):
        peer.scale_idx = branch
        network = load_any(tmp_path / "w.pt", scale=scale).network
        torch.testing.assert_close(network(x), peer(x * 255) / 255, atol=1e-5, rtol=0)
    assert load_any(tmp_path / "w.pt").network.scale == (4 if 4 in scales else scales[-1])
    with pytest.raises(UserError, match=r"scale must be"):
        load_any(tmp_path / "w.pt", scale=5)


@pytest.mark.parametrize("wrap", [
    lambda state: state,
    lambda state: {"params": state},
    lambda state: {"params": {}, "params_ema": state},
    lambda state: {"state_dict": state, "epoch": 3},
    lambda state: prefixed("module.", state),
    lambda state: {"state_dict": prefixed("generator.", state) | {"step_counter": torch.zeros(1)}},
    lambda state: {"params": prefixed("module.", state)},
])  # fmt: skip
def test_wrappers_and_prefixes_are_taken_off(tmp_path: Path, wrap: Callable[[dict[str, Tensor]], Any]) -> None:
    peer = BasicEDSR(4, 2, 2, 1.0)
    torch.save(wrap(peer.state_dict()), tmp_path / "w.pth")
    x = torch.rand(1, 3, 5, 6)
    torch.testing.assert_close(restore.load(tmp_path / "w.pth")(x), peer(x), atol=1e-5, rtol=0)


def test_mmagics_edsr_works_on_zero_to_one(tmp_path: Path) -> None:
    peer = BasicEDSR(4, 2, 4, 1.0, peak=1.0, packed=True)
    torch.save({"state_dict": prefixed("generator.", peer.state_dict())}, tmp_path / "w.pth")
    x = torch.rand(1, 3, 5, 6)
    torch.testing.assert_close(restore.load(tmp_path / "w.pth")(x), peer(x), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("features", "blocks", "res_scale"), [(256, 32, 0.1), (8, 2, 1.0)])
def test_the_residual_factor_is_the_published_one_unless_given_and_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, features: int, blocks: int, res_scale: float
) -> None:
    with torch.device("meta"):
        peer = OfficialEDSR(features, blocks, 2, 1.0)
    zeros = {key: torch.zeros(1).expand(tensor.shape) for key, tensor in peer.state_dict().items()}
    shifts = {key: value for key, value in OfficialEDSR(1, 1, 2, 1.0).state_dict().items() if "_mean" in key}
    torch.save(zeros | shifts, tmp_path / "w.pt")
    with caplog.at_level(logging.INFO):
        assert load_any(tmp_path / "w.pt").network.spec.arguments["res_scale"] == res_scale
    assert f"EDSR-PyTorch's EDSR; res_scale {res_scale} assumed" in caplog.text
    assert load_any(tmp_path / "w.pt", res_scale=0.5).network.spec.arguments["res_scale"] == 0.5


def test_that_basicsr_files_do_not_tell_the_range_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    torch.save(BasicEDSR(4, 2, 2, 1.0).state_dict(), tmp_path / "w.pth")
    with caplog.at_level(logging.INFO):
        load_any(tmp_path / "w.pth")
    assert "BasicSR's EDSR; res_scale 1.0 assumed" in caplog.text
    assert "; rgb_range 255.0 assumed, which the file does not tell" in caplog.text


def without(state: dict[str, Tensor], *keys: str) -> dict[str, Tensor]:
    return {key: value for key, value in state.items() if key not in keys}


OFFICIAL = OfficialEDSR(4, 2, 2, 1.0).state_dict()
BASIC = BasicEDSR(4, 2, 2, 1.0).state_dict()
KAIR = prefixed("model.", numbered_dncnn(1, 4, 4, "all", 1e-4).state_dict())


@pytest.mark.parametrize(("state", "complaint"), [
    (without(OFFICIAL, "body.1.body.2.bias", "tail.1.bias"), r"lacks body\.1\.body\.2\.bias, tail\.1\.bias"),
    (without(OFFICIAL, "add_mean.bias"), r"lacks add_mean\.bias"),
    (OFFICIAL | {"extra.weight": torch.zeros(1)}, r"EDSR-PyTorch's EDSR .*: does not know extra\.weight"),
    (OFFICIAL | {"sub_mean.bias": torch.tensor([-1.0, -2.0, -3.0])}, r"add_mean\.bias is .*, expected"),
    (BASIC | {"conv_last.weight": torch.zeros(3, 5, 3, 3)}, r"conv_last\.weight is \(3, 5, 3, 3\), expected \(3, 4"),
    (without(BASIC, "conv_after_body.weight"), r"BasicSR's EDSR .*: lacks conv_after_body\.weight"),
    (without(KAIR, "model.5.weight"), r"KAIR's DnCNN .*: lacks model\.5\.weight"),
    (KAIR | {"model.0.weight": torch.zeros(4, 4, 3, 3)}, "channels must be 1 .gray. or 3 .RGB., not 4"),
    (KAIR | {"model.400000000.weight": torch.zeros(1, 4, 3, 3)}, "number 400000000, but it holds only 1[0-9] tensors"),
    (KAIR | {f"model.{'4' * 5000}.weight": torch.zeros(1, 4, 3, 3)}, "does not know model.4444"),
    ({"conv_first.weight": torch.zeros(1), "upconv1.weight": torch.zeros(1), "conv_hr.weight": torch.zeros(1)},
     "MSRResNet: leaky ReLUs"),
    (OFFICIAL | {"tail.0.0.weight": torch.zeros(4, 0, 3, 3)}, r"EDSR-PyTorch's EDSR: .*division"),
    (KAIR | {f"model.{place}.weight": torch.tensor(1.0) for place in (7, 9)},
     r"w\.pth: has no known layout \(len\(\) of a 0-d tensor\)"),
    ({"layer.weight": torch.zeros(1)}, r"has no known layout .*; its keys are layer\.weight"),
    ({"epoch": 3}, "expected tensors by name, but also found epoch"),
    ({}, "expected tensors by name"),
])  # fmt: skip
def test_what_does_not_fit_is_refused_with_its_keys(tmp_path: Path, state: dict[str, Any], complaint: str) -> None:
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(UserError, match=complaint):
        load_any(tmp_path / "w.pth")


def test_shapes_are_compared_before_memory_is_taken_for_them(tmp_path: Path) -> None:
    state = {"model.0.weight": torch.zeros(10**6, 1, 3, 3), "model.0.bias": torch.zeros(1)}
    state |= {f"model.{place}.weight": torch.zeros(1, 1, 3, 3) for place in (2, 4)}  # the network has 36 TB
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"model\.2\.weight is \(1, 1, 3, 3\), expected \(1000000, 1000000, 3, 3\)"):
        load_any(tmp_path / "w.pth")


@pytest.mark.parametrize("read", [load_any, read_checkpoint])
def test_a_file_that_unpacks_to_more_than_it_holds_is_refused(tmp_path: Path, read: Callable[[Path], Any]) -> None:
    torch.save(OFFICIAL | {"zeros": torch.zeros(10**6)}, tmp_path / "whole.pt")
    with zipfile.ZipFile(tmp_path / "whole.pt") as whole, zipfile.ZipFile(tmp_path / "w.pt", "w", 8) as packed:
        for entry in whole.infolist():
            packed.writestr(entry.filename, whole.read(entry))
    with pytest.raises(UserError, match=r"w\.pt: refused, its \d+ bytes unpack to \d+"):
        read(tmp_path / "w.pt")


class Bomb:
    """Creates a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("save", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value)),
                                  lambda value, path: path.write_bytes(pickle.dumps(value, protocol=2))])  # fmt: skip
def test_pickled_code_is_refused_and_not_run(tmp_path: Path, save: Callable[[Any, Path], Any]) -> None:
    save(OFFICIAL | {"bomb": Bomb(tmp_path / "crater")}, tmp_path / "w.pt")
    with pytest.raises(UserError, match=r"w\.pt: "):
        load_any(tmp_path / "w.pt")
    assert not (tmp_path / "crater").exists()
    with (tmp_path / "w.pt").open("rb") as file:  # the bomb is a real one
        torch.load(file, weights_only=False) if save is torch.save else pickle.load(file)
    assert (tmp_path / "crater").exists()


def test_a_pickled_module_is_named_and_a_damaged_file_is_one_line(tmp_path: Path) -> None:
    torch.save(numbered_dncnn(1, 4, 4, "all", 1e-4), tmp_path / "module.pth")
    with pytest.raises(UserError, match=r"holds pickled code \(torch\.nn\.modules\.container\.Sequential\)"):
        load_any(tmp_path / "module.pth")
    torch.save(OFFICIAL, tmp_path / "whole.pt")
    for content in (b"", b"no weights", (tmp_path / "whole.pt").read_bytes()[:3000]):
        (tmp_path / "damaged.pt").write_bytes(content)
        with pytest.raises(UserError, match=r"damaged\.pt: .*damaged") as found:
            load_any(tmp_path / "damaged.pt")
        assert "\n" not in str(found.value)


def test_safetensors_of_other_projects_load_too(tmp_path: Path) -> None:
    save_file(BASIC, tmp_path / "w.safetensors")
    assert restore.load(tmp_path / "w.safetensors").scale == 2


def test_a_converted_file_restores_as_the_checkpoint_itself_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(OFFICIAL, tmp_path / "w.pt")
    assert convert.main([str(tmp_path / "w.pt"), "--output", str(tmp_path / "w.safetensors")]) == 0
    parameters = sum(tensor.numel() for key, tensor in OFFICIAL.items() if "_mean" not in key)
    assert f"EDSR x2, {parameters:,} parameters" in capsys.readouterr().out
    write_image(tmp_path / "a.png", np.random.default_rng(0).integers(0, 256, (8, 9, 3), np.uint8))
    for name in ("w.pt", "w.safetensors"):
        infer.main([f"--weights={tmp_path / name}", f"--input={tmp_path}/a.png", f"--output={tmp_path}/{name}.out"])
    restored = [read_image(tmp_path / f"{name}.out/a.png") for name in ("w.pt", "w.safetensors")]
    np.testing.assert_array_equal(*restored)


def test_choices_that_do_not_apply_are_refused(tmp_path: Path) -> None:
    torch.save(OFFICIAL, tmp_path / "edsr.pt")
    torch.save(KAIR, tmp_path / "dncnn.pt")
    convert.main([str(tmp_path / "edsr.pt"), "--output", str(tmp_path / "own.safetensors")])
    for name, options in (
        ("edsr.pt", {"scale": 3}), ("dncnn.pt", {"res_scale": 0.1}), ("own.safetensors", {"res_scale": 0.1}),
    ):  # fmt: skip
        with pytest.raises(UserError, match=f"does not take {next(iter(options))}"):
            load_any(tmp_path / name, **options)
    with pytest.raises(UserError, match="scale must be 2, not 3"):
        load_any(tmp_path / "own.safetensors", scale=3)


def test_our_own_mdsr_is_loaded_at_any_of_its_scales(tmp_path: Path) -> None:
    torch.save(OfficialMDSR(4, 1, (2, 3)).state_dict(), tmp_path / "w.pt")
    convert.main([str(tmp_path / "w.pt"), "--output", str(tmp_path / "own.safetensors"), "--scale", "2"])
    assert [load_any(tmp_path / "own.safetensors", scale=scale).network.scale for scale in (None, 2, 3)] == [2, 2, 3]
    assert isinstance(load_any(tmp_path / "own.safetensors").network, MDSR)
    assert not isinstance(load_any(tmp_path / "own.safetensors").network, EDSR)
