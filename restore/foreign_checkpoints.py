"""Other projects' checkpoints: recognized by their keys, rebuilt as networks of ours, and written again.

Nothing in a file is executed.
"""

import io
import logging
import re
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from restore.checkpoint import Weights, check_stored, read_tensors, weights_of, weights_of_run
from restore.errors import UserError, listed
from restore.files import write_atomically
from restore.layouts import LAYOUTS, WRITABLE, Layout, Tensors
from restore.models import NetworkSpec, RestorationNetwork, build
from restore.models.fold import fold

LOG = logging.getLogger(__name__)


def load_any(path: Path, *, res_scale: float | None = None, scale: int | None = None) -> Weights:
    """The network of a weights file or a run's checkpoint, ours or another project's, in eval mode.

    Args:
        path: a safetensors file, or one of `torch.save` that holds nothing but tensors and plain values.
        res_scale: of another project's EDSR, whose files do not tell it. Default: 0.1 for the paper's network of 32
            blocks with 256 features, else 1.
        scale: which of its scales an MDSR is to work at. Default: that of our file; of another project's 4, or the
            last if it has no 4.

    Raises:
        UserError: the file is missing or damaged, holds pickled code or weights that are not finite, is of no known
            layout, has keys which its layout has not or lacks some, or an argument does not apply to it.
    """
    weights = _read(path, res_scale, scale)
    for name, tensor in weights.network.state_dict().items():
        if not tensor.isfinite().all():
            raise UserError(f"{path}: {name} is not finite; the file is damaged, or its training diverged")
    return weights


def _read(path: Path, res_scale: float | None, scale: int | None) -> Weights:
    if path.is_dir():
        inside = path / "weights.safetensors"
        meant = f"; did you mean {inside}?" if inside.is_file() else ""
        raise UserError(f"{path}: a folder, not a weights file{meant}")
    if not path.is_file():
        raise UserError(f"{path}: no such weights file")
    if _is_safetensors(path):
        tensors, metadata = read_tensors(path)
        if "restore" in metadata:
            return _of_own(path, weights_of(path, tensors, metadata), res_scale, scale)
    else:
        content = _unpickle(path)
        if (of_run := weights_of_run(path, content)) is not None:
            return _of_own(path, of_run, res_scale, scale)
        tensors = content
    tensors = _unwrapped(path, tensors)
    try:
        layout = _recognize(path, tensors)
    except (ArithmeticError, IndexError, TypeError) as error:  # of tensors with no numbers or no dimensions
        raise UserError(f"{path}: has no known layout ({error})") from error
    given = {name: value for name, value in (("res_scale", res_scale), ("scale", scale)) if value is not None}
    for name in given.keys() - layout.unsaid:
        raise UserError(f"{path}: {layout.name} does not take {name}, or the file already defines it")
    try:
        inferred = layout.infer(tensors)
        spec = NetworkSpec(inferred.name, inferred.arguments | given)
        with torch.device("meta"):  # all must fit before memory is taken for it
            outline = build(spec)
    except (ValueError, ArithmeticError, IndexError, TypeError) as error:
        raise UserError(f"{path}: {layout.name}: {error}") from error
    _check_fits(outline, layout, tensors, path)
    network = build(spec)
    zeros = {own: torch.zeros_like(tensor) for own, tensor in network.state_dict().items()}
    theirs = {own: tensors[name] for own, name in layout.names(network).items() if name in tensors}
    network.load_state_dict(zeros | theirs)
    assumed = {name: spec.arguments[name] for name in sorted(layout.unsaid - given.keys())}
    guess = "".join(f"; {name} {value} assumed, which the file does not tell" for name, value in assumed.items())
    LOG.info("%s: %s%s", path, layout.name, guess)
    degradation = {"class_path": "Bicubic", "init_args": {"scale": network.scale}} if network.scale > 1 else {}
    imported = {"file": path.name, "layout": layout.name, "returns": layout.returns, "assumed": assumed}
    return Weights(network.eval(), degradation, {"imported": imported})


def save_layout(path: Path, network: RestorationNetwork, layout: str) -> str:
    """Write a network as another project's checkpoint, norms folded, atomically.

    Args:
        path: ends in `.pt` or `.pth` (`torch.save` of tensors by name) or `.safetensors`.
        network: in any mode; is not changed.
        layout: one of `layouts.WRITABLE`.

    Returns:
        What rebuilds the network there.

    Raises:
        UserError: the project has no such network, the suffix is another, or the file cannot be written.
    """
    options = [option for option in WRITABLE[layout] if option.network is type(network)]
    if not options:
        names = " and ".join(option.network.__name__ for option in WRITABLE[layout])
        raise UserError(f"the layout {layout} holds {names}, not {type(network).__name__}")
    folded = fold(network).cpu()
    if folded.norm != "none":
        raise UserError(f"the layout {layout} has no norm {network.norm!r}, and it cannot be merged into convolutions")
    tensors, opens = options[0].write(folded)
    match path.suffix:
        case ".safetensors":
            content = save(tensors)
        case ".pt" | ".pth":
            file = io.BytesIO()
            torch.save({"params": tensors} if layout == "basicsr" else tensors, file)
            content = file.getvalue()
        case _:
            raise UserError(f"{path}: the layout {layout} needs the suffix .pt, .pth or .safetensors")
    write_atomically(path, content)
    return opens


_STRANGERS = {"conv_hr.weight": "BasicSR's MSRResNet: leaky ReLUs and a bilinear skip are in no network here"}
MAX_KEYS_NAMED = 20  # in a message


def _is_safetensors(path: Path) -> bool:
    """By its content: a length of 8 bytes and a JSON object."""
    with path.open("rb") as file:
        return file.read(9)[8:] == b"{"


def _of_own(path: Path, weights: Weights, res_scale: float | None, scale: int | None) -> Weights:
    if res_scale is not None:
        raise UserError(f"{path}: the network does not take res_scale, or the file already defines it")
    if scale is None:
        return weights
    try:
        return replace(weights, network=weights.network.at(scale))
    except ValueError as error:
        raise UserError(f"{path}: {error}") from error


def _unpickle(path: Path) -> Any:
    """What `torch.save` wrote, by PyTorch's unpickler that knows tensors and plain containers and calls nothing."""
    try:
        check_stored(path)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Detected pickle protocol")
            return torch.load(path, map_location="cpu", weights_only=True)
    except UserError:
        raise
    except Exception as error:  # whatever a damaged file drives the unpickler into
        if found := re.search(r"GLOBAL (\S+)", str(error)):
            raise UserError(
                f"{path}: holds pickled code ({found[1]}), which is never executed; only a state_dict of it can be read"
            ) from error
        raise UserError(f"{path}: neither a safetensors file nor tensors saved by PyTorch, or damaged") from error


def _unwrapped(path: Path, content: Any) -> dict[str, Tensor]:
    """The tensors inside the dictionaries and under the prefixes that training programs put around them."""
    for wrapper in ("params_ema", "params", "state_dict"):
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict) or not content:
        raise UserError(f"{path}: expected tensors by name, found {type(content).__name__}")
    if others := [str(key) for key, value in content.items() if not isinstance(value, Tensor)]:
        raise UserError(f"{path}: expected tensors by name, but also found {listed(others, MAX_KEYS_NAMED)}")
    tensors = {str(key): tensor for key, tensor in content.items() if key != "step_counter"}  # mmagic's
    for prefix in ("module.", "generator."):
        if all(key.startswith(prefix) for key in tensors):
            tensors = {key.removeprefix(prefix): tensor for key, tensor in tensors.items()}
    return tensors


def _recognize(path: Path, tensors: Tensors) -> Layout:
    for layout in LAYOUTS:
        if layout.matches(tensors):
            return layout
    for mark, stranger in _STRANGERS.items():
        if mark in tensors:
            raise UserError(f"{path}: {stranger}")
    known = ", ".join(layout.name for layout in LAYOUTS)
    raise UserError(f"{path}: has no known layout ({known}); its keys are {listed(tensors, MAX_KEYS_NAMED)}")


def _check_fits(network: RestorationNetwork, layout: Layout, tensors: Tensors, path: Path) -> None:
    """Raises UserError if a file's tensors are not those of the network that was inferred from them."""
    ours, names, constants = network.state_dict(), layout.names(network), layout.constants(network)
    required = {name for own, name in names.items() if not layout.may_lack(own)} | constants.keys()
    expected = {name: ours[own] for own, name in names.items()} | constants
    complaints = []
    if missing := [name for name in expected if name in required - tensors.keys()]:
        complaints.append(f"lacks {listed(missing, MAX_KEYS_NAMED)}")
    if left := [name for name in tensors if name not in expected]:
        complaints.append(f"does not know {listed(left, MAX_KEYS_NAMED)}")
    for name, tensor in expected.items():
        if name in tensors and tensors[name].shape != tensor.shape:
            complaints.append(f"{name} is {tuple(tensors[name].shape)}, expected {tuple(tensor.shape)}")
    if not complaints:
        for name, constant in constants.items():
            if not torch.allclose(tensors[name].to(constant), constant, rtol=1e-3):
                complaints.append(
                    f"{name} is {tensors[name].flatten().tolist()}, expected {constant.flatten().tolist()}"
                )
    if complaints:
        raise UserError(
            f"{path}: looks like {layout.name} but does not match ({_outline(network)}): {'; '.join(complaints)}"
        )


def _outline(network: RestorationNetwork) -> str:
    sizes = ("channels", "depth", "blocks", "features", "scale", "scales", "norm")
    return ", ".join(f"{name} {value}" for name, value in network.spec.arguments.items() if name in sizes)
