"""The weights file."""

import json
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import save, save_file
from torch import Tensor

import restore
from restore.checkpoint import Weights, load_weights, save_weights
from restore.errors import UserError
from restore.models import EDSR, NORMS, DnCNN, SRResNet
from restore.models.norm import Norm


@pytest.mark.parametrize("norm", NORMS)
def test_a_network_comes_back_as_it_was_saved(tmp_path: Path, norm: Norm) -> None:
    network = SRResNet(features=4, blocks=1, scale=2, norm=norm)
    network(torch.rand(2, 3, 8, 8))  # moves the running statistics
    weights = Weights(network, {"class_path": "Bicubic"}, {"steps": 7}, [{"psnr": 30.0}])
    save_weights(tmp_path / "w.safetensors", weights)
    loaded = load_weights(tmp_path / "w.safetensors")
    assert (loaded.degradation, loaded.training, loaded.results) == (
        {"class_path": "Bicubic"},
        {"steps": 7},
        [{"psnr": 30.0}],
    )
    x = torch.rand(1, 3, 8, 8)
    assert torch.equal(restore.load(tmp_path / "w.safetensors")(x), network.eval()(x))


def edited(path: Path, change: dict[str, object]) -> Path:
    """The weights file `path` with other metadata."""
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + length])
    metadata = json.loads(header["__metadata__"]["restore"])
    header["__metadata__"]["restore"] = json.dumps(metadata | change)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + raw[8 + length :])
    return path


@pytest.mark.parametrize(("scale", "init"), [(1.0, "he"), (0.1, "small_last"), (None, "he")])
def test_files_from_before_init_had_a_name_load_and_say_what_they_began_with(
    tmp_path: Path, scale: float | None, init: str
) -> None:
    path = tmp_path / "w.safetensors"
    network = DnCNN(depth=3, features=4)
    save_weights(path, Weights(network))
    before = {name: value for name, value in network.spec.arguments.items() if name != "init"}
    before |= {} if scale is None else {"last_init_scale": scale}
    loaded = load_weights(edited(path, {"network": {"name": "DnCNN", "arguments": before}})).network
    assert loaded.spec.arguments["init"] == init
    x = torch.rand(1, 1, 8, 8)
    assert torch.equal(loaded(x), network.eval()(x))


@pytest.mark.parametrize(("change", "complaint"), [
    ({"network": {"name": "SRResNet", "arguments": {"features": 8, "blocks": 1, "scale": 2}}}, "tensors do not fit"),
    ({"network": {"name": "SRResNet", "arguments": {"features": 4, "blocks": 2, "scale": 2}}}, "tensors do not fit"),
    ({"network": {"name": "os.system", "arguments": {}}}, "add os to the environment variable RESTORE_EXTENSIONS"),
    ({"network": {"name": "UNet", "arguments": {}}}, r"w\.safetensors: unknown network 'UNet'; known: DnCNN"),
    ({"network": {"name": "SRResNet", "arguments": {"wide": 4}}}, "wide"),
    ({"network": "SRResNet"}, "does not describe a network"),
    ({"network": {"name": "EDSR", "arguments": {"res_scale": -(10**400)}}}, "does not describe a network"),
    ({"format": 2}, "weights format 2, this version reads 1"),
])  # fmt: skip
def test_metadata_that_do_not_fit_are_refused(tmp_path: Path, change: dict[str, object], complaint: str) -> None:
    path = tmp_path / "w.safetensors"
    save_weights(path, Weights(SRResNet(features=4, blocks=1, scale=2)))
    with pytest.raises(UserError, match=complaint):
        load_weights(edited(path, change))


def test_whole_numbers_that_are_no_sizes_may_be_large(tmp_path: Path) -> None:
    save_weights(tmp_path / "w.safetensors", Weights(EDSR(features=4, blocks=1, rgb_range=255)))
    assert load_weights(tmp_path / "w.safetensors").network.spec.arguments["rgb_range"] == 255


def test_other_files_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gone\.safetensors: no such weights file"):
        load_weights(tmp_path / "gone.safetensors")
    torch.save(SRResNet(features=4, blocks=1), tmp_path / "pickled.pt")
    with pytest.raises(UserError, match=r"pickled\.pt: not a safetensors file"):
        load_weights(tmp_path / "pickled.pt")
    save_file({"x": torch.zeros(1)}, tmp_path / "foreign.safetensors")
    with pytest.raises(UserError, match=r"foreign\.safetensors: a safetensors file without the metadata"):
        load_weights(tmp_path / "foreign.safetensors")


@pytest.mark.parametrize("claim", [{"empty": torch.zeros(0, 10**12)}, {"long": torch.zeros(30_000)}])
def test_what_is_claimed_is_compared_with_the_numbers_that_are_there(tmp_path: Path, claim: dict[str, Tensor]) -> None:
    tensors = {**DnCNN(depth=3, features=4).state_dict(), **claim}
    description = {"name": "DnCNN", "arguments": {"depth": 3, "features": 20_000}}
    header = {"format": 1, "network": description, "degradation": {}, "training": {}, "results": []}
    (tmp_path / "w.safetensors").write_bytes(save(tensors, metadata={"restore": json.dumps(header)}))
    with pytest.raises(
        UserError, match=r"metadata does not describe a network \((features is 20000|tensors do not fit)"
    ):
        load_weights(tmp_path / "w.safetensors")
