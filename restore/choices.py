"""The words that options take, apart from what they stand for: arguments are checked before torch is imported."""

from typing import Literal, get_args

Norm = Literal["batch", "none", "group", "instance", "layer", "weight", "adadm", "iln"]
Recompute = Literal["none", "norm"]

Backend = Literal["auto", "torch", "openvino"]
InferencePrecision = Literal["auto", "fp32", "bf16", "int8"]
Tile = int | Literal["auto"]

StepPrecision = Literal["fp32", "bf16-mixed", "fp16-mixed"]
Quantity = Literal["batch", "patch", "features", "depth"]

ProtocolName = Literal["sr-y", "sr-rgb", "sr-rgb-shave2", "denoise-gray", "denoise-rgb", "jpeg-y"]
ProgramFormat = Literal["onnx", "openvino", "torch"]
LayoutName = Literal["basicsr", "edsr-pytorch", "kair"]

BudgetName = Literal["smoke", "small", "mid", "full", "gpu"]
CollectionName = Literal["papers", "photos"]

NORMS: tuple[Norm, ...] = get_args(Norm)
PROTOCOL_NAMES: tuple[ProtocolName, ...] = get_args(ProtocolName)
BUNDLED_NAMES = (
    "dncnn-gray-25",
    "dncnn-gray-blind",
    "dncnn-color-blind",
    "dncnn-color-real",
    "dncnn3",
    "edsr-baseline-x2",
    "edsr-baseline-x3",
    "edsr-baseline-x4",
    "dncnn-gray-25-nobn",
    "edsr-baseline-x2-bn",
)
EXPORT_FORMATS: tuple[str, ...] = (*get_args(ProgramFormat), *get_args(LayoutName))
