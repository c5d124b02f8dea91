"""Plain torch networks. To add one: a file, a line in NETWORKS, a test."""

import math
from typing import Any, Literal, get_args, get_origin, get_type_hints

from restore.models.dncnn import DnCNN
from restore.models.edsr import EDSR
from restore.models.mdsr import MDSR
from restore.models.network import NetworkSpec, RestorationNetwork
from restore.models.norm import NORMS, Norm
from restore.models.srresnet import SRResNet
from restore.models.wdsr import WDSRA, WDSRB

NETWORKS: dict[str, type[RestorationNetwork]] = {
    network.__name__: network for network in (DnCNN, EDSR, MDSR, SRResNet, WDSRA, WDSRB)
}


def build(spec: NetworkSpec) -> RestorationNetwork:
    """The network that `spec` describes, with fresh weights.

    Raises:
        ValueError: `spec` names no known network, or an argument it does not take.
    """
    if spec.name not in NETWORKS:
        raise ValueError(f"unknown network {spec.name!r}; known: {', '.join(NETWORKS)}")
    for name, hint in get_type_hints(NETWORKS[spec.name].__init__).items():
        if name in spec.arguments and not _fits(spec.arguments[name], hint):
            choices = ", ".join(map(str, get_args(hint)[:-1])) + f" or {get_args(hint)[-1]}" if get_args(hint) else ""
            raise ValueError(f"{name} must be {choices or hint.__name__}, not {spec.arguments[name]!r}")
    try:
        return NETWORKS[spec.name](**spec.arguments)
    except TypeError as error:
        raise ValueError(f"{spec.name}: {error}") from error


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
    "NetworkSpec",
    "Norm",
    "RestorationNetwork",
    "SRResNet",
    "build",
]
