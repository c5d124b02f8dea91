"""One network on the fastest engine at hand: folded and composed, in torch or on OpenVINO; in fp32, bf16 or int8.

All compute what the plain network computes in float32: fp32 to 1e-5 (on the scale of the pixels' [0, 1]), bf16 and int8
to a change in PSNR that is measured and told.
"""

import importlib.util
import logging
import platform
import time
from collections.abc import Callable
from functools import partial
from typing import Protocol, get_args

import torch
from torch import Tensor

from restore.choices import Backend, InferencePrecision
from restore.data.degradation import Degradation, Paired, default_degradation
from restore.errors import UserError
from restore.hardware import gains_from_bf16
from restore.inference.image import padded
from restore.inference.int8 import Calibration, quantized, quantized_before
from restore.inference.psnr_change import psnr_change
from restore.inference.runner import FloatPrecision, Runner, WrappedRunner
from restore.models import RestorationNetwork
from restore.models.compose import compose
from restore.models.fold import fold

LOG = logging.getLogger(__name__)

LARGEST_LOSS_DB = 0.02  # that bf16 or int8 may cost if nobody asked for it
GAINS_FROM_INT8 = ("x86_64", "AMD64")  # where it was measured, with AVX2 and above
TRIAL_SIZE = 96  # of the degraded photographs on which that is tried
ROUNDS = 5  # in which int8 is timed beside what it is to be faster than


class Engine(Runner, Protocol):
    """A runner that can say what it is.

    Attributes:
        description: backend and precision, and what the latter costs if that was measured.
    """

    description: str


class TorchRunner(WrappedRunner):
    """A folded network in channels_last memory order.

    Args:
        network: folded and composed; it is moved.
        precision: bf16 runs convolutions in bfloat16 and the rest in float32 (autocast).
        device: where it runs.
    """

    def __init__(self, network: RestorationNetwork, precision: FloatPrecision, device: torch.device) -> None:
        super().__init__(network)
        self.device = device
        self.description = f"torch, {precision}"
        self._in_bf16 = precision == "bf16"
        self._network = network.to(device, torch.float32)
        self._network.to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def __call__(self, degraded: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, channels, scale*H, scale*W), float32."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._in_bf16):
            restored: Tensor = self._network(degraded.to(memory_format=torch.channels_last))
        return restored.float()


def accelerate(
    network: RestorationNetwork,
    *,
    backend: Backend = "auto",
    precision: InferencePrecision = "auto",
    device: torch.device | str = "cpu",
    degradation: Degradation | None = None,
    calibration: Calibration | None = None,
) -> Engine:
    """The fastest way to run a network for inference; the network itself stays as it is.

    Args:
        network: with trained weights.
        backend: `auto` is OpenVINO on a CPU if it is installed, else torch.
        precision: `auto` is the fastest by which the network loses at most 0.02 dB on a few photographs, as measured
            and as expected: int8 on OpenVINO if it is kept already; bf16 if the device
            gains from it; else fp32. What is named is taken.
        device: where to run.
        degradation: what the network was made for, on which bf16 and int8 are measured; by default, and for pairs
            that are files, bicubic downsampling for a network with a scale, and noise of sigma 25 for others.
        calibration: for int8, of what the quantized network is made and where it is kept.

    Raises:
        UserError: the backend is not installed, or does not run on the device or in the precision.
    """
    if precision not in get_args(InferencePrecision):
        raise UserError(f"precision must be one of {', '.join(get_args(InferencePrecision))}, not {precision!r}")
    device = torch.device(device)
    if degradation is None or isinstance(degradation, Paired):  # of which no more images can be made
        degradation = default_degradation(network.scale)
    if backend == "auto":
        backend = "openvino" if device.type == "cpu" and (precision == "int8" or _has_openvino()) else "torch"
    if backend == "openvino":
        _check_openvino(device)
    lean, calibration, bf16 = compose(fold(network)), calibration or Calibration(), gains_from_bf16(device)
    if precision == "int8":
        if backend != "openvino":
            raise UserError(f"int8 needs OpenVINO on a CPU, but the network runs on {backend} on {device}")
        engine = quantized(lean.cpu().float(), degradation, calibration, bf16=bf16)
        _warn_if_slower(engine, _openvino(lean)("bf16"))
        return engine
    if precision == "auto" and backend == "openvino" and platform.machine() in GAINS_FROM_INT8:
        kept = quantized_before(lean.cpu().float(), degradation, calibration, bf16=bf16, largest_loss=LARGEST_LOSS_DB)
        if kept is not None:
            return kept

    build = _openvino(lean) if backend == "openvino" else partial(_torch, lean, device)
    if precision != "auto":
        return build(precision)
    return _in_bf16_if_harmless(build, degradation) if bf16 else build("fp32")


def _torch(network: RestorationNetwork, device: torch.device, precision: FloatPrecision) -> Engine:
    return TorchRunner(network, precision, device)


def _openvino(network: RestorationNetwork) -> Callable[[FloatPrecision], Engine]:
    from restore.inference.openvino_runner import OpenVinoRunner, convert

    model = convert(network.cpu().float())

    def build(precision: FloatPrecision) -> Engine:
        if not gains_from_bf16(OpenVinoRunner.device):
            precision = "fp32"  # if a processor has no bf16, OpenVINO has none either
        return OpenVinoRunner(model, network, precision, f"OpenVINO, {precision}")

    return build


def _in_bf16_if_harmless(build: Callable[[FloatPrecision], Engine], degradation: Degradation) -> Engine:
    exact, fast = build("fp32"), build("bf16")
    change = psnr_change(fast, exact, degradation, TRIAL_SIZE)
    if min(change.db, change.expected) < -LARGEST_LOSS_DB:
        exact.description += (
            f" (bf16 would change PSNR at {degradation.label} by {change}, {change.expected:+.3f} dB if errors never "
            "cancel)"
        )
        return exact
    fast.description += f" (PSNR {change} against fp32, at {degradation.label})"
    return fast


def _warn_if_slower(engine: Engine, plain: Engine) -> None:
    """Say so if int8 gains nothing on this processor."""
    image = padded(torch.rand(1, plain.inputs, TRIAL_SIZE, TRIAL_SIZE), plain.multiple_of)
    seconds: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        for one in (engine, plain):
            start = time.perf_counter()
            one(image)
            seconds.setdefault(one.description, []).append(time.perf_counter() - start)
    ratio = min(seconds[engine.description]) / min(seconds[plain.description])
    if ratio > 1:
        LOG.warning(
            f"int8 takes {ratio:.2f} times as long as {plain.description} on this machine; --precision auto is faster"
        )


def _has_openvino() -> bool:
    return importlib.util.find_spec("openvino") is not None


def _check_openvino(device: torch.device) -> None:
    if device.type != "cpu":
        raise UserError(f"--backend openvino runs on the CPU, not on {device}")
    if not _has_openvino():
        raise UserError("OpenVINO is not installed; install it with: pip install 'restore-bn[openvino]'")
