"""8-bit networks: quantized after training by NNCF, kept beside their weights together with what that costs.

Weights are quantized per output channel, activations per tensor, over the range they take on degraded patches, after
cross-layer equalization. The first and the last two convolutions, which see and make pixels, and residual connections
keep a higher precision.
"""

import contextlib
import hashlib
import json
import logging
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from restore.data.catalog import ImageSet, default_root, find_images
from restore.data.degradation import Degradation
from restore.data.random import seeded
from restore.errors import UserError
from restore.files import write_atomically
from restore.images.color import with_channels
from restore.images.io import read_image
from restore.images.pixels import to_uint8
from restore.images.tensors import to_tensor
from restore.inference.cross_layer_equalization import equalize
from restore.inference.image import padded
from restore.inference.psnr_change import Change, psnr_change
from restore.inference.runner import FloatPrecision
from restore.models import RestorationNetwork
from restore.models.norm import multiplies_by_deviation

if TYPE_CHECKING:
    from openvino import Model, Output

    from restore.inference.openvino_runner import OpenVinoRunner

LOG = logging.getLogger(__name__)

FORMAT = 5  # of the recipe: another number, and every network is quantized again
PATCHES = 64
PATCH_SIZE = 96
MEASURED_SIZE = 256  # of the degraded photographs
LARGEST_LOSS_DB = 0.005  # that bf16 may cost more than fp32 in what is not quantized
PRECISE_AT_THE_END = 2  # convolutions
RT_INFO = "restore"


@dataclass(frozen=True)
class Calibration:
    """Of what a quantized network is made and where it is kept.

    Attributes:
        train: the data set that it was trained on; it is used beside photographs, if it is at hand.
        root: where known data sets lie.
        weights: the file that it was loaded from: `<stem>.int8-<key>.xml` and `.bin` are kept beside it. None keeps
            nothing.
        cache: a folder for what is not there, in place of that of `weights`, e.g. if that belongs to a package.
    """

    train: str = "photos"
    root: Path = field(default_factory=default_root)
    weights: Path | None = None
    cache: Path | None = None


Measured = dict[FloatPrecision, Change]  # what 8 bits cost, by the precision of what is not quantized


def quantized(
    network: RestorationNetwork, degradation: Degradation, calibration: Calibration, *, bf16: bool
) -> "OpenVinoRunner":
    """The network in int8 on OpenVINO: read from beside its weights, or quantized, measured and written there.

    Args:
        network: folded, in float32 on the CPU; its weights may change, what it computes does not.
        degradation: what it was made for.
        calibration: of what to make it.
        bf16: whether what is not quantized may run in bfloat16: it does if that costs next to nothing.

    Raises:
        UserError: its norm does not survive 8 bits, or it has to be quantized and NNCF is not installed.
    """
    if multiplies_by_deviation(network.norm):
        raise UserError(
            f"int8: the norm {network.norm} multiplies by each image's deviation, which 8 bits lose; "
            "choose another --precision"
        )
    kept = _kept(network, degradation, calibration) or _made(network, degradation, calibration, bf16)
    return _runner(network, degradation, *kept, bf16)


def quantized_before(
    network: RestorationNetwork, degradation: Degradation, calibration: Calibration, *, bf16: bool, largest_loss: float
) -> "OpenVinoRunner | None":
    """The same if it is kept and costs at most `largest_loss` dB, as measured and as expected; else None."""
    if (kept := _kept(network, degradation, calibration)) is None:
        return None
    change = kept[1][_rest(kept[1], bf16)]
    return None if min(change.db, change.expected) < -largest_loss else _runner(network, degradation, *kept, bf16)


def _kept(
    network: RestorationNetwork, degradation: Degradation, calibration: Calibration
) -> "tuple[Model, Measured] | None":
    found = (_read(path) for path in _places(network, degradation, calibration))
    return next((one for one in found if one is not None), None)


def _made(
    network: RestorationNetwork, degradation: Degradation, calibration: Calibration, bf16: bool
) -> "tuple[Model, Measured]":
    from restore.inference.openvino_runner import OpenVinoRunner, convert

    patches = list(_patches(network, degradation, calibration))
    equalize(network, patches)
    plain = convert(network)  # not before: a model shares its weights with the network
    exact = OpenVinoRunner(plain, network, "fp32", "fp32")
    model = _quantize(plain, [patch.numpy() for patch in patches])
    candidates: list[FloatPrecision] = ["fp32", "bf16"] if bf16 else ["fp32"]
    changes = {
        rest: psnr_change(OpenVinoRunner(model, network, rest, rest), exact, degradation, MEASURED_SIZE)
        for rest in candidates
    }
    if places := _places(network, degradation, calibration):
        _write(places[-1], model, {"changes": changes, "degradation": degradation.label, "train": calibration.train})
    return model, changes


def _runner(
    network: RestorationNetwork, degradation: Degradation, model: "Model", changes: Measured, bf16: bool
) -> "OpenVinoRunner":
    from restore.inference.openvino_runner import OpenVinoRunner

    rest = _rest(changes, bf16)
    description = f"OpenVINO, int8 with {rest} ends (PSNR {changes[rest]} against fp32, at {degradation.label})"
    return OpenVinoRunner(model, network, rest, description)


def _rest(changes: Measured, bf16: bool) -> FloatPrecision:
    """The precision of what is not quantized."""
    if bf16 and "bf16" in changes and changes["bf16"].db >= changes["fp32"].db - LARGEST_LOSS_DB:
        return "bf16"
    return "fp32"


def _places(network: RestorationNetwork, degradation: Degradation, calibration: Calibration) -> list[Path]:
    """Where the .xml of this network may lie; the last is where it is written. Its name follows from its weights."""
    weights = calibration.weights
    if weights is None or not weights.is_file():  # of a network that was never in a file
        return []
    recipe = [FORMAT, hashlib.sha256(weights.read_bytes()).hexdigest(), network.scale, degradation.label]
    key = hashlib.sha256(json.dumps(recipe).encode()).hexdigest()[:12]
    folders = [weights.parent, *([] if calibration.cache is None else [calibration.cache])]
    return [folder / f"{weights.stem}.int8-{key}.xml" for folder in folders]


def _read(path: Path) -> "tuple[Model, Measured] | None":
    """The model and what it costs with either precision of the rest; None if it is not there or damaged."""
    from restore.inference.openvino_runner import deserialize

    if not path.exists():
        return None
    try:
        constants = path.with_suffix(".bin").read_bytes()
        model = deserialize(path.read_bytes(), constants)
        made = json.loads(model.get_rt_info([RT_INFO]).astype(str))
        if made["constants"] != hashlib.sha256(constants).hexdigest():
            raise ValueError("its constants belong to another file")
        return model, {rest: Change(*change) for rest, change in made["changes"].items()}
    except (OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
        LOG.warning(f"{path}: damaged, so not used ({str(error).splitlines()[0]})")
        return None


def _write(path: Path, model: "Model", made: dict[str, Any]) -> None:
    """Write the model with what was measured; if that cannot be, say so and continue."""
    from restore.inference.openvino_runner import serialize

    _, constants = serialize(model)
    model.set_rt_info(json.dumps({**made, "constants": hashlib.sha256(constants).hexdigest()}), [RT_INFO])
    xml, _ = serialize(model)
    try:
        write_atomically(path.with_suffix(".bin"), constants)
        write_atomically(path, xml)
    except UserError as error:
        LOG.warning(f"the quantized network could not be saved: {error}")


def _quantize(model: "Model", patches: list[NDArray[np.float32]]) -> "Model":
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # NNCF asks for it; it misses CUDA
    try:
        import nncf
        from nncf.quantization.range_estimator import RangeEstimatorParametersSet
    except ImportError as error:
        raise UserError("NNCF is not installed; install it with: pip install 'restore-bn[openvino]'") from error
    logging.getLogger("nncf").setLevel(logging.ERROR)  # `nncf.set_log_level` would silence our handlers too
    with contextlib.redirect_stdout(sys.stderr):  # its progress
        return nncf.quantize(
            model.clone(),
            nncf.Dataset(patches),
            subset_size=len(patches),
            target_device=nncf.TargetDevice.CPU,
            ignored_scope=nncf.IgnoredScope(names=_ignored_scope(model)),
            advanced_parameters=nncf.AdvancedQuantizationParameters(
                overflow_fix=nncf.OverflowFix.DISABLE,  # for processors without 8-bit instructions
                # the mean of the patches' ranges would cut off what is bright and flat: tenths of a dB
                activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX,
                disable_bias_correction=True,  # it costs more than it gives: 0.02 dB of DnCNN-17
            ),
        )


def _ignored_scope(model: "Model") -> list[str]:
    """The first convolution, the last ones, and the sums and differences of maps: residual connections."""
    ops = model.get_ordered_ops()
    convolutions = [op for op in ops if op.get_type_name() == "Convolution"]
    to_result: dict[str, int] = {}  # convolutions on the shortest way, the operation itself included
    for op in reversed(ops):
        users = [user.get_node().get_friendly_name() for value in op.outputs() for user in value.get_target_inputs()]
        shortest = min((to_result[name] for name in users), default=0)
        to_result[op.get_friendly_name()] = shortest + (op.get_type_name() == "Convolution")
    last = [op for op in convolutions if to_result[op.get_friendly_name()] <= PRECISE_AT_THE_END]
    joins = [
        op for op in ops if op.get_type_name() in ("Add", "Subtract") and not any(map(_is_constant, op.input_values()))
    ]
    return [op.get_friendly_name() for op in (convolutions[0], *last, *joins)]


def _is_constant(value: "Output") -> bool:
    node = value.get_node()
    while node.get_type_name() in ("Convert", "Reshape"):
        node = node.input_value(0).get_node()
    return bool(node.get_type_name() == "Constant")


def _patches(network: RestorationNetwork, degradation: Degradation, calibration: Calibration) -> Iterator[Tensor]:
    """Degraded patches (1, inputs, h, w) from random places of training images and of photographs.

    Activations have rare extremes, and what one set never shows (the sky of a photograph) would be cut off.
    """
    yield from _patches_of(find_images("photos", "train", calibration.root), network, degradation)
    if calibration.train != "photos":
        try:
            images = find_images(calibration.train, "train", calibration.root)
        except UserError as error:
            LOG.warning(f"calibrating on photographs only: {error}")
            return
        yield from _patches_of(images, network, degradation)


def _patches_of(images: ImageSet, network: RestorationNetwork, degradation: Degradation) -> Iterator[Tensor]:
    for number in range(PATCHES):
        draws = seeded(number)
        path = images.clean[number * len(images.clean) // PATCHES]
        image = with_channels(to_uint8(read_image(path)), network.channels)
        size = PATCH_SIZE * degradation.scale
        top, left = (int(draws.integers(0, max(1, extent - size + 1), (1,))) for extent in image.shape[:2])
        clean = to_tensor(image[top : top + size, left : left + size])
        yield padded(degradation.for_network(clean, draws, network.inputs), network.multiple_of)
