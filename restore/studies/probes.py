"""Experiments on a network: what norm does to its activations, its gradients and its landscape.

All leave the network as it was, `recalibrate` aside. Networks are in the mode that they are in.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters
from torch.optim.swa_utils import update_bn

from restore.models import RestorationNetwork
from restore.models.norm import ConvNorm

Loss = Callable[[Tensor, Tensor], Tensor]


@torch.no_grad()
def equivariance_error(network: RestorationNetwork, images: Tensor, scale: float, shift: float = 0.0) -> float:
    """||f(a x + b) - (a f(x) + b)|| / ||a f(x) + b||: 0 for a network that answers in proportion.

    Args:
        network: in eval mode.
        images: (N, C, H, W) in [0, 1].
        scale, shift: a and b.
    """
    expected = scale * network(images) + shift
    return float((network(scale * images + shift) - expected).norm() / expected.norm())


def conv_norms(network: RestorationNetwork) -> list[ConvNorm]:
    """The convolutions that the network's norm belongs to, in the order they were built.

    Raises:
        ValueError: it has none.
    """
    layers = [module for module in network.modules() if isinstance(module, ConvNorm)]
    if not layers:
        raise ValueError(f"{type(network).__name__} has no layer whose norm can be chosen")
    return layers


def middle_layer(network: RestorationNetwork) -> ConvNorm:
    """The middle one of `conv_norms`."""
    layers = conv_norms(network)
    return layers[len(layers) // 2]


@torch.no_grad()
def preactivation_percentiles(
    network: RestorationNetwork, degraded: Tensor, percents: Sequence[int] = (15, 50, 85)
) -> dict[int, float]:
    """Percentiles of what the middle layer hands to its activation (Ioffe & Szegedy 2015, figure 1).

    Args:
        network: in training mode, whose running statistics stay as they are, or in eval mode.
        degraded: (N, C, H, W).
    """
    seen: list[Tensor] = []
    handle = middle_layer(network).register_forward_hook(lambda *call: seen.append(call[2].clone()))
    try:
        with kept_buffers(network):
            network(degraded)
    finally:
        handle.remove()
    values = seen[0].float().flatten()
    places = [round((len(values) - 1) * percent / 100) for percent in percents]
    ordered = values.sort().values
    return {percent: ordered[place].item() for percent, place in zip(percents, places, strict=True)}


@torch.no_grad()
def dead_features(network: RestorationNetwork, images: Sequence[Tensor]) -> float | None:
    """The share of the features after ReLUs that are zero at every pixel of every image: "dead" (Lu et al. 2020,
    arXiv:1903.06733), as they learn no more. None for a network without ReLUs.

    Args:
        network: in eval mode.
        images: each (1, C, H, W), of any sizes; enough to show what a feature is for.
    """
    layers = [module for module in network.modules() if isinstance(module, nn.ReLU)]
    if not layers:
        return None
    alive: list[Tensor] = []
    hooks = [
        layer.register_forward_hook(lambda _, __, output: alive.append((output > 0).any(3).any(2).any(0)))
        for layer in layers
    ]
    of_images = []
    for image in images:
        alive.clear()
        network(image.to(network.device).expand(-1, network.channels, -1, -1))
        of_images.append(torch.cat(alive))
    for hook in hooks:
        hook.remove()
    return 1 - torch.stack(of_images).any(0).float().mean().item()


class Shift(NamedTuple):
    """Change of a layer's gradient by the update of the layers before it.

    Attributes:
        relative: ||G - G'|| / ||G||.
        cosine: of the angle between G and G'.
    """

    relative: float
    cosine: float


def covariate_shift(network: RestorationNetwork, degraded: Tensor, clean: Tensor, loss: Loss, rate: float) -> Shift:
    """Internal covariate shift as Santurkar et al. 2018 define it (definition 2.1), of the middle layer.

    G is the gradient of its weights, G' the same after all layers before it took a step of gradient descent.

    Args:
        network: in training mode.
        degraded, clean: a batch.
        loss: of the batch.
        rate: learning rate of that step.
    """
    probe = _copy(network)
    layer = middle_layer(probe)
    before: list[nn.Parameter] = []
    for module in probe.modules():
        if module is layer:
            break
        before += list(module.parameters(recurse=False))
    own = [parameter for name, parameter in layer.named_parameters() if not name.startswith("norm")]
    gradient, upstream = _gradients(probe, degraded, clean, loss, own, before)
    with torch.no_grad():
        vector_to_parameters(parameters_to_vector(before) - rate * upstream, before)
    after, _ = _gradients(probe, degraded, clean, loss, own, before)
    cosine = nn.functional.cosine_similarity(gradient, after, 0)
    return Shift(((gradient - after).norm() / gradient.norm()).item(), cosine.item())


class Landscape(NamedTuple):
    """What happens along the gradient, over all step sizes.

    Attributes:
        loss_range: largest less smallest loss, relative to the loss at the start.
        gradient_change: largest ||G - G'|| / ||G||; the smaller, the more the gradient predicts.
        smoothness: largest ||G - G'|| / ||x - x'||, the effective beta-smoothness.
    """

    loss_range: float
    gradient_change: float
    smoothness: float


def landscape(
    network: RestorationNetwork, degraded: Tensor, clean: Tensor, loss: Loss, step_sizes: Sequence[float]
) -> Landscape:
    """Loss and gradient along the gradient's direction (Santurkar et al. 2018, figure 4).

    Args:
        network: in training mode.
        degraded, clean: a batch.
        loss: of the batch.
        step_sizes: relative to the norm of all weights, so that networks of other weights are compared.
    """
    probe = _copy(network)
    parameters = list(probe.parameters())
    start = parameters_to_vector(parameters).detach()
    first = loss(probe(degraded), clean)
    gradient = _flat(torch.autograd.grad(first, parameters))
    unit = gradient / gradient.norm().clamp_min(1e-30)
    losses, changes, slopes = [first.item()], [], []
    for size in step_sizes:
        length = size * start.norm()
        with torch.no_grad():
            vector_to_parameters(start - length * unit, parameters)
        there = loss(probe(degraded), clean)
        change = (_flat(torch.autograd.grad(there, parameters)) - gradient).norm()
        losses.append(there.item())
        changes.append((change / gradient.norm()).item())
        slopes.append((change / length).item())
    return Landscape((max(losses) - min(losses)) / losses[0], max(changes), max(slopes))


def effective_learning_rates(network: RestorationNetwork, lr: float) -> dict[str, float]:
    """lr / ||W||^2 of each convolution whose output is normalized (van Laarhoven 2017), by its name.

    Raises:
        ValueError: the network has none.
    """
    conv_norms(network)
    return {
        name: lr / _convolution(module).weight.square().sum().item()
        for name, module in network.named_modules()
        if isinstance(module, ConvNorm)
    }


def scale_invariance(network: RestorationNetwork, degraded: Tensor, factor: float) -> tuple[float, float]:
    """BN(a W u) = BN(W u), and what becomes of the gradient (Ioffe & Szegedy 2015, section 3.3), in float64.

    Every normalized convolution's weights times `factor`, its epsilon next to nothing.

    Returns:
        The largest change of the output relative to its largest value, and the largest ratio of the norms of the
        gradients with respect to W, which is 1 / factor where the identity holds.

    Raises:
        ValueError: the network has no batch norm.
    """
    if network.norm != "batch":
        raise ValueError(f"only batch norm can be checked, not {network.norm}")
    probe = _copy(network).double().train()
    layers = conv_norms(probe)
    for norm in probe.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.eps = 1e-30
    weights = [_convolution(layer).weight for layer in layers]
    images = degraded.double()

    def outcome() -> tuple[Tensor, list[Tensor]]:
        restored = probe(images)
        return restored.detach(), list(torch.autograd.grad(restored.square().mean(), weights))

    plain, gradients = outcome()
    with torch.no_grad():
        for weight in weights:
            weight.mul_(factor)
    scaled, shrunk = outcome()
    change = ((scaled - plain).abs().max() / plain.abs().max()).item()
    ratios = [(small.norm() / large.norm()).item() for small, large in zip(shrunk, gradients, strict=True)]
    return change, max(ratios, key=lambda ratio: abs(ratio * factor - 1))


def recalibrate(network: RestorationNetwork, batches: Sequence[Tensor]) -> None:
    """Replace the running statistics of batch norm by their exact mean over `batches`, in place."""
    update_bn(batches, network)


@contextmanager
def kept_buffers(network: nn.Module) -> Iterator[None]:
    """Puts back the buffers, running statistics among them, as they were."""
    before = [(buffer, buffer.clone()) for buffer in network.buffers()]
    try:
        yield
    finally:
        for buffer, value in before:
            buffer.copy_(value)


def _copy(network: RestorationNetwork) -> RestorationNetwork:
    """One whose parameters can be flattened, whatever the memory format."""
    return copy.deepcopy(network).to(memory_format=torch.contiguous_format)


def _gradients(
    network: RestorationNetwork,
    degraded: Tensor,
    clean: Tensor,
    loss: Loss,
    *groups: list[nn.Parameter],
) -> list[Tensor]:
    flat = torch.autograd.grad(loss(network(degraded), clean), [parameter for group in groups for parameter in group])
    found = iter(flat)
    return [_flat([next(found) for _ in group]) for group in groups]


def _convolution(layer: ConvNorm) -> nn.Conv2d:
    convolution = layer[0]
    assert isinstance(convolution, nn.Conv2d)
    return convolution


def _flat(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([tensor.flatten() for tensor in tensors])
