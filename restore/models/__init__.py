"""Plain torch networks. To add one: a file, an import here, a test."""

import math
from collections.abc import Callable
from typing import Any, Literal, get_args, get_origin, get_type_hints

import torch

from restore.models.dncnn import DnCNN
from restore.models.edsr import EDSR
from restore.models.fdncnn import FDnCNN
from restore.models.ffdnet import FFDNet
from restore.models.mdsr import MDSR
from restore.models.network import REGISTRY, NetworkSpec, RestorationNetwork
from restore.models.norm import NORMS, Norm, Normalization
from restore.models.srresnet import SRResNet
from restore.models.wdsr import WDSRA, WDSRB

NETWORKS: dict[str, type[RestorationNetwork]] = REGISTRY.built_in()


def build(spec: NetworkSpec) -> RestorationNetwork:
    """The network that `spec` describes, with fresh weights.

    Raises:
        ValueError: `spec` names no known network, an argument it does not take, or, as a UserError, one of a package
            that may not be imported.
    """
    network = REGISTRY.find(spec.name)
    for name, hint in _hints(network).items():
        if name in spec.arguments and not _fits(spec.arguments[name], hint):
            choices = ", ".join(map(str, get_args(hint)[:-1])) + f" or {get_args(hint)[-1]}" if get_args(hint) else ""
            raise ValueError(f"{name} must be {choices or hint.__name__}, not {spec.arguments[name]!r}")
    try:
        construct: Callable[..., RestorationNetwork] = network
        return construct(**spec.arguments)
    except TypeError as error:
        raise ValueError(f"{spec.name}: {error}") from error


def complete(spec: NetworkSpec) -> NetworkSpec:
    """`spec` with all arguments of its network, defaults too, found without making any weights.

    Raises:
        ValueError: as `build`.
    """
    with torch.device("meta"):
        return build(spec).spec


def _hints(network: type[RestorationNetwork]) -> dict[str, Any]:
    """The types of all arguments that the constructor takes or passes on."""
    constructors = [vars(cls)["__init__"] for cls in reversed(network.__mro__) if "__init__" in vars(cls)]
    hints = get_type_hints(Normalization)
    for construct in constructors:
        hints |= get_type_hints(construct)
    return hints


def _fits(value: object, hint: Any) -> bool:
    """Whether a value, as read from a file, has the type of a number, a bool or one of some literals."""
    if get_origin(hint) is Literal:
        return value in get_args(hint) and not isinstance(value, bool)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return hint not in (int, bool) or type(value) is hint


__all__ = [
    "EDSR",
    "MDSR",
    "NETWORKS",
    "NORMS",
    "WDSRA",
    "WDSRB",
    "DnCNN",
    "FDnCNN",
    "FFDNet",
    "NetworkSpec",
    "Norm",
    "RestorationNetwork",
    "SRResNet",
    "build",
    "complete",
]
