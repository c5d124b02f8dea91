"""The weights file: safetensors whose metadata rebuilds the network and says where it comes from.

The metadata hold one key, `restore`: JSON with the network's class name and arguments, the degradation it was
trained for, a summary of its training and the rows measured so far. Reading one executes nothing from it. The
checkpoints of a run hold the same network beside what resuming needs; their settings rebuild it.
"""

import json
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from restore.errors import UserError
from restore.files import write_atomically
from restore.models import NetworkSpec, RestorationNetwork, build

FORMAT = 1
FEW = 10_000  # layers that are built without their tensors in a second


@dataclass(frozen=True)
class Weights:
    """A network in eval mode and what its file says about it.

    Attributes:
        network: rebuilt from the file, weights loaded strictly.
        degradation: what it restores, e.g. `{"class_path": "GaussianNoise", "init_args": {"sigma": 25}}`.
        training: a summary of the run: data, steps, seed, versions, ...
        results: rows measured with these weights.
    """

    network: RestorationNetwork
    degradation: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    results: list[dict[str, Any]] = field(default_factory=list)


def save_weights(path: Path, weights: Weights, *, half: bool = False) -> None:
    """Write a self-describing weights file atomically.

    Args:
        path: of the file.
        weights: what it is to hold.
        half: keep parameters in float16, which loading turns into float32 again; buffers (running statistics) stay.

    Raises:
        UserError: the file cannot be written.
    """
    network = weights.network
    header = {
        "format": FORMAT,
        "network": asdict(network.spec),
        "scale": network.scale,
        "range": "[0, 1], RGB" if network.channels == 3 else "[0, 1], gray",
        "degradation": weights.degradation,
        "training": weights.training,
        "results": weights.results,
    }
    tensors: dict[str, Tensor] = {name: t.detach().cpu().contiguous() for name, t in network.state_dict().items()}
    if half:
        tensors |= {name: tensors[name].half() for name, _ in network.named_parameters()}
    write_atomically(path, save(tensors, metadata={"restore": json.dumps(header)}))


def load_weights(path: Path) -> Weights:
    """Rebuild the network of a weights file and load it strictly; nothing in the file is executed.

    Raises:
        UserError: no such file, not a weights file of this project, or its tensors do not fit its network.
    """
    return weights_of(path, *read_tensors(path))


def weights_of(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> Weights:
    """The same from what `read_tensors` has read of `path`."""
    if "restore" not in metadata:
        raise UserError(f"{path}: a safetensors file without the metadata that restore writes")
    try:
        header = json.loads(metadata["restore"])
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: its metadata does not describe a network ({error})") from error
    return _rebuilt(path, header, tensors)


def _rebuilt(path: Path, header: Any, tensors: dict[str, Tensor]) -> Weights:
    try:
        if header["format"] != FORMAT:
            raise UserError(f"weights format {header['format']}, this version reads {FORMAT}")
        spec = _upgraded(NetworkSpec(header["network"]["name"], dict(header["network"]["arguments"])))
        _check_extent(spec, tensors)
        weights = Weights(build(spec), dict(header["degradation"]), dict(header["training"]), list(header["results"]))
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise UserError(f"{path}: its metadata does not describe a network ({error})") from error
    try:
        weights.network.load_state_dict(tensors, strict=True)
    except RuntimeError as error:
        raise UserError(f"{path}: tensors do not fit {header['network']}: {error}") from error
    weights.network.eval()
    return weights


def _upgraded(spec: NetworkSpec) -> NetworkSpec:
    """The specification of a file written before `init` was an argument: DnCNN's then said the same in a number."""
    arguments = dict(spec.arguments)
    scale = arguments.pop("last_init_scale", 1.0)
    if spec.name == "DnCNN" and "init" not in arguments:
        arguments["init"] = "he" if scale == 1 else "small_last"
    return NetworkSpec(spec.name, arguments)


def as_options(name: str, described: Mapping[str, Any]) -> dict[str, Any]:
    """A class and its arguments, each by its option on the command line, as checkpoints of a run keep them."""
    arguments = {f"{name}.{argument}": value for argument, value in described["init_args"].items()}
    return {name: described["class_path"], **arguments}


def _described(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """What `as_options` was given."""
    prefix = f"{name}."
    of_class = {str(key): value for key, value in options.items() if str(key).startswith(prefix)}
    arguments = {key.removeprefix(prefix): value for key, value in of_class.items()}
    return {"class_path": options[name], "init_args": arguments}


def check_stored(path: Path) -> None:
    """Raises UserError if a file of `torch.save` unpacks to more than it holds: PyTorch compresses nothing."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(entry.file_size for entry in archive.infolist())
    if unpacked > path.stat().st_size:
        raise UserError(f"{path}: refused, its {path.stat().st_size} bytes unpack to {unpacked}")


def tensors_of_run(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """The network's tensors in the `state_dict` of a checkpoint that training keeps."""
    prefix = "network."
    of_network = {name: it for name, it in state.items() if isinstance(it, Tensor) and name.startswith(prefix)}
    return {name.removeprefix(prefix): tensor for name, tensor in of_network.items()}


def weights_of_run(path: Path, checkpoint: Any) -> Weights | None:
    """The network of a checkpoint that training keeps, such as `last.ckpt`; None if it is not of this project.

    Args:
        path: of the file, for messages.
        checkpoint: what it holds, see `training/settings.py`.

    Raises:
        UserError: its tensors do not fit its network.
    """
    match checkpoint:
        case {"settings": {"model": str(), "data.degradation": str()} as settings, "state_dict": dict(state)}:
            model = _described("model", settings)
            header = {
                "format": FORMAT,
                "network": {"name": model["class_path"], "arguments": model["init_args"]},
                "degradation": _described("data.degradation", settings),
                "training": {"steps": checkpoint.get("global_step")},
                "results": [],
            }
            return _rebuilt(path, header, tensors_of_run(state))
        case _:
            return None


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of any safetensors file.

    Raises:
        UserError: no such file, or not a safetensors file.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such weights file")
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: not a safetensors file, or damaged ({error})") from error


def _check_extent(spec: NetworkSpec, tensors: dict[str, Tensor]) -> None:
    """Raise ValueError if a network is said to be larger than the tensors are, before memory is taken for it."""
    sizes = [max(tensor.shape, default=0) for tensor in tensors.values() if tensor.numel()]  # an empty one claims any
    most = max(len(tensors) + max(sizes, default=0), FEW)
    for name, value in spec.arguments.items():
        if isinstance(value, int) and value > most:
            raise ValueError(f"{name} is {value}, far more than its tensors hold")
    with torch.device("meta"):  # where tensors take no memory
        claimed = sum(tensor.numel() for tensor in build(spec).state_dict().values())
    if claimed > (held := sum(tensor.numel() for tensor in tensors.values())):
        raise ValueError(f"tensors do not fit: it would have {claimed} numbers, but they hold {held}")
