"""Networks on OpenVINO, an optional extra: convolutions with their activations in one kernel, in fp32, bf16 or int8.

Only what needs OpenVINO imports this module.
"""

import tempfile
import threading
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from restore.extras import import_openvino
from restore.hardware import usable_cores
from restore.inference.runner import FloatPrecision, Runner, WrappedRunner
from restore.models import RestorationNetwork

if TYPE_CHECKING:
    from openvino import Model

openvino = import_openvino()
CORE = openvino.Core()
TRACING = threading.Lock()  # torch.jit traces one network at a time
EXAMPLE_PIXELS = 32  # of the image that is traced, if it need not be a multiple of another
KEPT_KERNELS = 256  # OpenVINO's own limit of 5000 lets a folder of images that all differ in size fill the memory


def convert(network: RestorationNetwork) -> "Model":
    """The model of a network, in float32 on the CPU, for images of any number and size."""
    size = EXAMPLE_PIXELS * network.multiple_of
    example = torch.rand(1, network.inputs, size, size)
    shape = openvino.PartialShape([-1, network.inputs, -1, -1])
    with TRACING, torch.no_grad(), warnings.catch_warnings():  # with gradients, recomputed layers cannot be traced
        warnings.simplefilter("ignore")  # of torch.jit, about itself
        return openvino.convert_model(network, example_input=example, input=[shape])


class OpenVinoRunner(WrappedRunner):
    """A compiled model; threads that call it take turns.

    Args:
        model: as from `convert`, or quantized.
        network: what the model was made of.
        precision: of what is not quantized.
        description: what it runs as.
    """

    device = torch.device("cpu")

    def __init__(self, model: "Model", network: Runner, precision: FloatPrecision, description: str) -> None:
        super().__init__(network)
        self.description = description
        settings = {
            "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[precision],
            "INFERENCE_NUM_THREADS": usable_cores(),
            "PERFORMANCE_HINT": "LATENCY",
            "CPU_RUNTIME_CACHE_CAPACITY": KEPT_KERNELS,
        }
        self._request = CORE.compile_model(model, "CPU", settings).create_infer_request()
        self._turn = threading.Lock()

    def __call__(self, degraded: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, channels, scale*H, scale*W), float32."""
        number, _, height, width = degraded.shape
        restored = np.empty((number, self.channels, self.scale * height, self.scale * width), np.float32)
        with self._turn:  # the request holds one input and one output
            self._request.set_output_tensor(openvino.Tensor(restored, shared_memory=True))
            self._request.infer({0: degraded.float().contiguous().numpy()}, share_inputs=True, share_outputs=True)
        return torch.from_numpy(restored)


def serialize(model: "Model") -> tuple[bytes, bytes]:
    """The contents of the .xml and the .bin that hold a model."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.xml"
        openvino.save_model(model, path, compress_to_fp16=False)
        return path.read_bytes(), path.with_suffix(".bin").read_bytes()


def deserialize(xml: bytes, constants: bytes) -> "Model":
    """The model of a .xml and its .bin.

    Raises:
        RuntimeError: they hold none.
    """
    return CORE.read_model(xml, openvino.Tensor(np.frombuffer(constants, np.uint8)))
