"""Plain torch networks. To add one: a file, a line in NETWORKS, a test."""

from restore.models.dncnn import DnCNN
from restore.models.edsr import EDSR
from restore.models.mdsr import MDSR
from restore.models.network import NetworkSpec, RestorationNetwork
from restore.models.norm import NORMS, Norm
from restore.models.srresnet import SRResNet

NETWORKS: dict[str, type[RestorationNetwork]] = {network.__name__: network for network in (DnCNN, EDSR, MDSR, SRResNet)}


def build(spec: NetworkSpec) -> RestorationNetwork:
    """The network that `spec` describes, with fresh weights.

    Raises:
        ValueError: `spec` names no known network, or an argument it does not take.
    """
    if spec.name not in NETWORKS:
        raise ValueError(f"unknown network {spec.name!r}; known: {', '.join(NETWORKS)}")
    try:
        return NETWORKS[spec.name](**spec.arguments)
    except TypeError as error:
        raise ValueError(f"{spec.name}: {error}") from error


__all__ = [
    "EDSR",
    "MDSR",
    "NETWORKS",
    "NORMS",
    "DnCNN",
    "NetworkSpec",
    "Norm",
    "RestorationNetwork",
    "SRResNet",
    "build",
]
