"""Restoring one image: ours against a plain one.

The reference is what today's projects do: the network as it was trained, eager, float32, NCHW, the whole image at once.
All variants run the same network on the same image with as many threads. Without --weights the network has its initial
ones, which takes as long but says nothing about quality.
"""

import argparse
import importlib.util
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.machine import peak_rate
from benchmarks.turns import take_turns
from restore import bundled
from restore.checkpoint import Weights, load_weights, save_weights
from restore.choices import Backend, InferencePrecision, Tile
from restore.data.catalog import default_root
from restore.data.degradation import from_description
from restore.files import write_atomically
from restore.hardware import gains_from_bf16, keep_pages
from restore.inference import Engine, Runner, accelerate, tiled
from restore.inference.psnr_change import psnr_change
from restore.models import EDSR, DnCNN, RestorationNetwork, SRResNet
from restore.provenance import provenance
from restore.runner_options import tile
from restore.tables import print_table

NETWORKS: dict[str, tuple[Callable[[], RestorationNetwork], str]] = {
    "DnCNN": (DnCNN, "321x481"),
    "EDSR": (EDSR, "340x510"),
    "SRResNet": (SRResNet, "170x255"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--network", choices=list(NETWORKS), default="DnCNN")
    parser.add_argument("--weights", type=Path, help="a weights file, instead of --network")
    parser.add_argument("--size", help="HEIGHTxWIDTH of the degraded image; default: that of BSD68, DIV2K at x4")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seconds", type=float, default=10, help="of measuring each variant")
    parser.add_argument("--rounds", type=int, default=5, help="in which variants take turns; 1 is enough for memory")
    parser.add_argument("--root", type=Path, default=default_root(), help="where known data sets lie, for int8")
    parser.add_argument("--tile", type=tile, default=0, help="of ours, as of restore.infer; default: the whole image")
    parser.add_argument("--only", nargs="+", help="variants beside the reference; default: all that run here")
    parser.add_argument("--json", type=Path)


def run(args: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder:
        _compare(args, args.weights or _initial(args.network, Path(folder)))


def _compare(args: argparse.Namespace, path: Path) -> None:
    device = torch.device(args.device)
    network = load_weights(path).network
    height, width = map(int, (args.size or NETWORKS[type(network).__name__][1]).split("x"))
    size = (height, width)
    named = {name: choice for name, choice in _choices(device).items() if not args.only or name in args.only}
    engines = {name: _engine(path, *choice, args.device, args.root) for name, choice in named.items()}  # int8 is made
    loss = {}
    if args.weights:
        degradation = from_description(load_weights(path).degradation)
        assert degradation is not None, "the weights file does not say what it restores"
        plain = network.to(device)
        loss = {name: psnr_change(engine, plain, degradation, 96) for name, engine in engines.items()}
    del engines

    peaks = {"fp32": peak_rate(device, torch.float32)}
    if gains_from_bf16(device):
        peaks["bf16"] = peak_rate(device, torch.bfloat16)
    variants: dict[str, tuple[Any, ...]] = {"reference": (reference, path, args.device, size)}
    for name, choice in named.items():
        variants[name] = (ours, path, *choice, args.device, args.root, size, args.tile)
    found = take_turns(variants, args.seconds, args.rounds)
    operations = _flops(network, size)
    table = []
    for name, measured in found.items():
        peak = peaks["fp32"] if name == "reference" or name.endswith("fp32") else peaks.get("bf16", peaks["fp32"])
        ratio, low, high = measured.ratio(found["reference"])
        table.append({
            "variant": name,
            "ms/image": f"{1e3 * measured.median:.1f}",
            "images/s": f"{1 / measured.median:.2f}",
            "GFLOP/s": f"{operations / measured.median / 1e9:.0f}",
            "of peak": f"{operations / measured.median / peak:.0%}",
            "x reference": f"{ratio:.2f} ({low:.2f} to {high:.2f})",
            "PSNR, dB": f"{loss[name].db:+.3f}" if name in loss else "",
            "peak RSS MiB": f"{measured.peak_rss_mib:.0f}",
            "for the image": f"{measured.work_mib:.0f} ({measured.work_mib / found['reference'].work_mib:.2f})",
            **({"peak GPU MiB": f"{measured.peak_cuda_mib:.0f}"} if device.type == "cuda" else {}),
        })  # fmt: skip
    rates = ", ".join(f"{rate / 1e9:.0f} GFLOP/s {name}" for name, rate in peaks.items())
    title = f"{type(network).__name__} x{network.scale}, input {width}x{height}x{network.channels}"
    print_table(f"{title}, {device}, {torch.get_num_threads()} threads; peak convolution: {rates}", table)
    if args.json:
        document = {"title": title, "rows": table, "seconds": {name: m.seconds for name, m in found.items()}}
        write_atomically(args.json, json.dumps(document | {"peaks": peaks, "provenance": provenance(device)}, indent=1))


def _choices(device: torch.device) -> dict[str, tuple[Backend, InferencePrecision]]:
    backends: list[Backend] = ["torch"]
    if device.type == "cpu" and importlib.util.find_spec("openvino"):
        backends.append("openvino")
    precisions: list[InferencePrecision] = ["fp32", "bf16"] if gains_from_bf16(device) else ["fp32"]
    choices = {f"{backend} {precision}": (backend, precision) for backend in backends for precision in precisions}
    if "openvino" in backends:
        choices["openvino int8"] = ("openvino", "int8")
    return choices


def _initial(name: str, folder: Path) -> Path:
    """A weights file of an untrained network."""
    torch.manual_seed(0)
    path = folder / f"{name}.safetensors"
    save_weights(path, Weights(NETWORKS[name][0]().eval()))
    return path


def _engine(path: Path, backend: Backend, precision: InferencePrecision, device: str, root: Path) -> Engine:
    weights = load_weights(path)
    return accelerate(
        weights.network,
        backend=backend,
        precision=precision,
        device=device,
        degradation=from_description(weights.degradation),
        calibration=bundled.calibration_of(path, weights, root),
    )


def _image(network: Runner, size: tuple[int, int]) -> torch.Tensor:
    return torch.rand(1, network.channels, *size, generator=torch.Generator().manual_seed(0)).to(network.device)


def _flops(network: RestorationNetwork, size: tuple[int, int]) -> int:
    """Of one image, by the convolutions of the plain network; ours may need fewer."""
    with FlopCounterMode(display=False) as counter, torch.device("meta"):
        network.to("meta")(torch.empty(1, network.channels, *size))
    return int(counter.get_total_flops())


def reference(path: Path, device: str, size: tuple[int, int]) -> Callable[[], None]:
    """A network as most projects run it."""
    network = load_weights(path).network.to(device)
    image = _image(network, size)

    def work() -> None:
        with torch.no_grad():
            network(image)

    return work


def ours(
    path: Path,
    backend: Backend,
    precision: InferencePrecision,
    device: str,
    root: Path,
    size: tuple[int, int],
    tile: Tile,
) -> Callable[[], None]:
    """The same by one of our engines."""
    if device == "cpu":
        keep_pages()  # as the commands do
    runner = tiled(load_weights(path).network, tile, runner=_engine(path, backend, precision, device, root))
    image = _image(runner, size)
    return lambda: _discard(runner(image))


def _discard(_: torch.Tensor) -> None:
    pass
