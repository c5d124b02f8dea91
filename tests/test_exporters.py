"""Networks as programs of other runtimes, and as other projects' checkpoints."""

import importlib.util
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from peers import BasicEDSR, OfficialEDSR, OfficialMDSR
from torch import nn

from restore import export, extras
from restore.checkpoint import Weights, save_weights
from restore.errors import UserError
from restore.exporters import FORMS, write_program
from restore.foreign_checkpoints import load_any, save_layout
from restore.models import EDSR, MDSR, WDSRA, WDSRB, DnCNN, FDnCNN, FFDNet, RestorationNetwork, SRResNet


def stirred(network: RestorationNetwork) -> RestorationNetwork:
    """With running statistics and affine parameters that are not those of a fresh network."""
    for parameter in network.parameters():
        if parameter.ndim == 1:
            nn.init.uniform_(parameter, 0.5, 1.0)
    network(torch.rand(4, network.channels, 12, 12))
    return network.eval()


needs_openvino = pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="the extra is not installed")

NETWORKS = [
    DnCNN(features=4, depth=4),
    DnCNN(channels=3, features=4, depth=4, norm="weight", residual=False),
    EDSR(features=4, blocks=1, scale=3, norm="batch"),
    EDSR(features=4, blocks=1, scale=4, norm="group"),
    MDSR(features=4, blocks=1, scale=3),
    SRResNet(features=4, blocks=1, scale=2, norm="instance"),
    DnCNN(features=4, depth=4, norm="adadm"),
    EDSR(features=4, blocks=1, scale=2, norm="iln"),
    WDSRA(features=4, blocks=1, scale=3),
    WDSRB(features=4, blocks=1, norm="batch"),
]
NAMES = [f"{type(network).__name__}-{network.norm}" for network in NETWORKS]


@pytest.mark.parametrize("network", NETWORKS, ids=NAMES)
def test_onnx_runtime_computes_what_the_network_computes_at_any_size(
    network: RestorationNetwork, tmp_path: Path
) -> None:
    onnx, runtime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    assert write_program(stirred(network), "onnx", tmp_path / "w.onnx") < 1e-4
    onnx.checker.check_model(onnx.load(tmp_path / "w.onnx"))
    session = runtime.InferenceSession(tmp_path / "w.onnx", providers=["CPUExecutionProvider"])
    for size in ((1, 11, 40), (3, 25, 8)):
        x = torch.rand(size[0], network.channels, *size[1:])
        (restored,) = session.run(["restored"], {"degraded": x.numpy()})
        np.testing.assert_allclose(restored, network(x).detach(), atol=2e-5, rtol=1e-5)
    operators = {node.op_type for node in onnx.load(tmp_path / "w.onnx").graph.node}
    assert ("BatchNormalization" in operators) == (network.norm == "adadm")


@needs_openvino
def test_openvino_computes_what_the_network_computes_at_any_size(tmp_path: Path) -> None:
    openvino = extras.import_openvino()
    network = stirred(DnCNN(features=4, depth=4))
    write_program(network, "openvino", tmp_path / "w.xml")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["w.bin", "w.xml"]
    compiled = openvino.Core().compile_model(tmp_path / "w.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    x = torch.rand(1, 1, 11, 40)
    np.testing.assert_allclose(compiled(x.numpy())[0], network(x).detach(), atol=2e-5, rtol=1e-5)


EXPORT = """
import sys
from pathlib import Path
from restore.exporters import write_program
from restore.models import DnCNN

write_program(DnCNN(features=4, depth=3), "openvino", Path(sys.argv[1]))
assert sys.modules["openvino_telemetry"] is None
assert "openvino_telemetry.main" not in sys.modules
"""


@needs_openvino
def test_an_export_is_not_reported_to_the_makers_of_openvino(tmp_path: Path) -> None:
    command = [sys.executable, "-c", EXPORT, str(tmp_path / "w.xml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_torch_program_computes_what_the_network_computes_and_holds_no_code(tmp_path: Path) -> None:
    network = stirred(EDSR(features=4, blocks=1, scale=3, norm="batch"))
    write_program(network, "torch", tmp_path / "w.pt2")
    program = torch.export.load(tmp_path / "w.pt2").module()
    for size in ((1, 11, 40), (3, 1, 2)):
        x = torch.rand(size[0], 3, *size[1:])
        torch.testing.assert_close(program(x), network(x))
    with zipfile.ZipFile(tmp_path / "w.pt2") as archive:
        for name in archive.namelist():
            if name.endswith(".pt"):
                (tmp_path / "part.pt").write_bytes(archive.read(name))
                torch.load(tmp_path / "part.pt", weights_only=True)
            else:
                assert not name.endswith((".pkl", ".py"))


@pytest.mark.parametrize("form", FORMS)
def test_a_program_that_differs_is_not_kept(form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("onnx", "onnxruntime", "restore.inference.openvino_runner"):
        pytest.importorskip(package)
    suffixes, _, load = FORMS[form]
    monkeypatch.setitem(FORMS, form, FORMS[form]._replace(load=lambda path: lambda x: 1.001 * load(path)(x)))
    network = DnCNN(features=4, depth=4)
    with pytest.raises(UserError, match=r"not written, because the program differs .* at 17x16"):
        write_program(network, form, tmp_path / f"w{suffixes[-1]}")
    assert not list(tmp_path.iterdir())


def test_a_dncnn_trained_here_opens_in_spandrel(tmp_path: Path) -> None:
    spandrel = pytest.importorskip("spandrel")
    for channels, norm, suffix in ((1, "batch", "pth"), (3, "none", "safetensors"), (1, "weight", "pth")):
        network = stirred(DnCNN(channels=channels, depth=17, features=8, norm=norm))
        path = tmp_path / f"{norm}.{suffix}"
        save_layout(path, network, "kair")
        descriptor = spandrel.ModelLoader("cpu").load_from_file(path)
        assert (descriptor.architecture.id, descriptor.scale) == ("DnCNN", 1)
        assert (descriptor.input_channels, descriptor.tags) == (channels, ["8nc", "17nb"])
        x = torch.rand(1, channels, 20, 22)
        torch.testing.assert_close(descriptor(x), network(x).clamp(0, 1), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("layout", "suffix"), [("basicsr", "pth"), ("basicsr", "safetensors"), ("edsr-pytorch", "pt")])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_an_edsr_trained_here_opens_in_other_projects(tmp_path: Path, layout: str, suffix: str, scale: int) -> None:
    network = stirred(EDSR(features=4, blocks=2, scale=scale, res_scale=0.3, norm="batch"))
    opens = save_layout(tmp_path / f"w.{suffix}", network, layout)
    x = torch.rand(1, 3, 6, 7)
    again = load_any(tmp_path / f"w.{suffix}", res_scale=0.3).network
    torch.testing.assert_close(again(x), network(x), atol=1e-5, rtol=1e-5)
    if suffix == "safetensors":
        return
    state = torch.load(tmp_path / f"w.{suffix}", weights_only=True)
    if layout == "basicsr":
        peer = BasicEDSR(4, 2, scale, 0.3)
        peer.load_state_dict(state["params"], strict=True)
        torch.testing.assert_close(peer(x), network(x), atol=1e-5, rtol=1e-5)
        assert f"num_feat=4, num_block=2, upscale={scale}, res_scale=0.3, img_range=255" in opens
    else:
        peer = OfficialEDSR(4, 2, scale, 0.3)
        peer.load_state_dict(state, strict=True)
        torch.testing.assert_close(peer(255 * x) / 255, network(x), atol=1e-5, rtol=1e-5)
        assert f"--n_feats 4 --n_resblocks 2 --rgb_range 255 --scale {scale} --res_scale 0.3" in opens


def test_an_mdsr_trained_here_opens_in_the_official_code(tmp_path: Path) -> None:
    network = stirred(MDSR(features=4, blocks=1, scales=(2, 4), scale=2, norm="weight"))
    assert "--scale 2+4" in save_layout(tmp_path / "w.pt", network, "edsr-pytorch")
    peer = OfficialMDSR(4, 1, (2, 4))
    peer.load_state_dict(torch.load(tmp_path / "w.pt", weights_only=True), strict=True)
    x = torch.rand(1, 3, 6, 7)
    torch.testing.assert_close(peer(255 * x) / 255, network(x), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("network", "layout", "name", "complaint"), [
    (SRResNet(features=4, blocks=1), "basicsr", "w.pth", "the layout basicsr holds EDSR, not SRResNet"),
    (EDSR(features=4, blocks=1, norm="layer"), "basicsr", "w.pth", "has no norm 'layer'"),
    (EDSR(features=4, blocks=1, channels=1), "edsr-pytorch", "w.pth", "color networks only"),
    (DnCNN(features=4, depth=3, residual=False), "kair", "w.pth", "this network outputs the clean image"),
    (DnCNN(features=4, depth=3), "kair", "w.onnx", r"needs the suffix \.pt, \.pth or \.safetensors"),
])  # fmt: skip
def test_what_another_project_cannot_hold_is_refused(
    network: RestorationNetwork, layout: str, name: str, complaint: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=complaint):
        save_layout(tmp_path / name, network, layout)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("network", [DnCNN(downscale=2), FDnCNN(downscale=2), FFDNet(downscale=3)])
def test_a_network_of_another_downscale_than_its_project_knows_is_refused(
    tmp_path: Path, network: RestorationNetwork
) -> None:
    with pytest.raises(UserError, match=r"of the image's size, but this network at 1/[23]"):
        save_layout(tmp_path / "w.pth", network, "kair")
    assert not (tmp_path / "w.pth").exists()


def test_the_command_writes_programs_and_checkpoints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_weights(tmp_path / "w.safetensors", Weights(DnCNN(features=4, depth=9)))
    common = [str(tmp_path / "w.safetensors"), "--format"]
    assert export.main([*common, "torch", "--output", str(tmp_path / "w.pt2")]) == 0
    assert "differs from the network by at most" in capsys.readouterr().out
    assert export.main([*common, "kair", "--output", str(tmp_path / "w.pth")]) == 0
    assert "DnCNN(in_nc=1, out_nc=1, nc=4, nb=9, act_mode='R')" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"w\.pt: the format onnx needs the suffix \.onnx"):
        export.main([*common, "onnx", "--output", str(tmp_path / "w.pt")])
