"""A network as a program for other runtimes: ONNX, OpenVINO's IR, torch.export. Any height, width and batch size.

Norms are folded. Each program is run and compared with the network before its file is kept.
"""

import copy
import importlib
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from restore.errors import UserError
from restore.extras import import_openvino
from restore.files import write_atomically
from restore.models import RestorationNetwork
from restore.models.fold import fold

Program = Callable[[Tensor], Tensor]

SIZES = ((1, 16, 17), (2, 33, 24))  # batch, height, width of the comparison
TOLERANCE = 1e-4  # relative above 1; rounding gives 1e-6


def write_program(network: RestorationNetwork, form: str, path: Path) -> float:
    """Write `network` as a program to `path`, atomically.

    Args:
        network: on any device, in any mode; is not changed.
        form: one of `FORMS`.
        path: with the suffix of the form; OpenVINO's weights go beside it, as `.bin`.

    Returns:
        The largest difference to the network's own output on random images of two sizes.

    Raises:
        UserError: the suffix is another, a package is missing, the program computes something else, or the file cannot
            be written.
    """
    suffixes, convert, load = FORMS[form]
    if path.suffix != suffixes[-1]:
        raise UserError(f"{path}: the format {form} needs the suffix {suffixes[-1]}")
    original = copy.deepcopy(network).cpu().float().eval()
    folded = fold(original)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporters, about themselves
        draft = Path(folder) / path.name
        convert(folded, draft)
        difference = _compare(original, load(draft), path)
        for suffix in suffixes:
            write_atomically(path.with_suffix(suffix), draft.with_suffix(suffix).read_bytes())
    return difference


@torch.inference_mode()
def _compare(network: RestorationNetwork, program: Program, path: Path) -> float:
    generator = torch.Generator().manual_seed(0)
    largest = 0.0
    for batch, height, width in SIZES:
        size = height * network.multiple_of, width * network.multiple_of
        degraded = torch.rand((batch, network.inputs, *size), generator=generator)
        expected, found = network(degraded), program(degraded)
        if not torch.allclose(found, expected, rtol=TOLERANCE, atol=TOLERANCE):
            raise UserError(
                f"{path}: not written, because the program differs from the network by "
                f"{(found - expected).abs().max():.2g} at {width}x{height}"
            )
        largest = max(largest, (found - expected).abs().max().item())
    return largest


def _to_onnx(network: RestorationNetwork, path: Path) -> None:
    _need("onnx")
    sizes = {0: "batch", 2: "height", 3: "width"}
    larger = {0: "batch", 2: "restored_height", 3: "restored_width"}
    torch.onnx.export(
        network,
        (_example(network),),
        path,
        dynamo=False,  # the newer exporter needs another package and gives these networks the same graph
        input_names=["degraded"],
        output_names=["restored"],
        dynamic_axes={"degraded": sizes, "restored": larger},
        opset_version=17,
    )


def _run_onnx(path: Path) -> Program:
    session = _need("onnxruntime").InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda degraded: torch.from_numpy(session.run(None, {"degraded": degraded.numpy()})[0])


def _to_openvino(network: RestorationNetwork, path: Path) -> None:
    openvino = _need("openvino")
    source = path.with_suffix(".onnx")
    _to_onnx(network, source)
    openvino.save_model(openvino.Core().read_model(source), path, compress_to_fp16=False)


def _run_openvino(path: Path) -> Program:
    compiled = _need("openvino").Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda degraded: torch.from_numpy(compiled(degraded.numpy())[0])


def _to_torch(network: RestorationNetwork, path: Path) -> None:
    height, width = torch.export.Dim("height"), torch.export.Dim("width")
    if network.multiple_of > 1:
        height, width = network.multiple_of * height, network.multiple_of * width
    sizes = {0: torch.export.Dim("batch"), 2: height, 3: width}
    torch.export.save(torch.export.export(network, (_example(network),), dynamic_shapes=(sizes,)), path)


def _run_torch(path: Path) -> Program:
    return torch.export.load(path).module()


def _example(network: RestorationNetwork) -> Tensor:
    return torch.zeros(2, network.inputs, 16 * network.multiple_of, 17 * network.multiple_of)


def _need(package: str) -> Any:
    try:
        return import_openvino() if package == "openvino" else importlib.import_module(package)
    except ImportError as error:
        raise UserError(f"this format needs a package that is not installed: pip install {package}") from error


class Form(NamedTuple):
    """What a program's files end in (the main one last), what writes and what opens them."""

    suffixes: tuple[str, ...]
    convert: Callable[[RestorationNetwork, Path], None]
    load: Callable[[Path], Program]


FORMS = {
    "onnx": Form((".onnx",), _to_onnx, _run_onnx),
    "openvino": Form((".bin", ".xml"), _to_openvino, _run_openvino),
    "torch": Form((".pt2",), _to_torch, _run_torch),
}
