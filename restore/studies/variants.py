"""DnCNN with what only studies vary: the order of norm and activation, sigmoids, dropout, no biases at all.

Importing this module makes its networks known to `build`, and so to weights files.
"""

from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from restore.models import DnCNN, NetworkSpec
from restore.models.norm import ConvNorm, Normalization

Order = Literal["norm-activation", "activation-norm"]
Activation = Literal["relu", "sigmoid"]

ACTIVATIONS: dict[Activation, Callable[[], nn.Module]] = {"relu": partial(nn.ReLU, inplace=True), "sigmoid": nn.Sigmoid}


class BiasFreeBatchNorm2d(nn.BatchNorm2d):
    """Batch norm without additive constants (Mohan et al. 2020, section 4): weight x / deviation.

    The variance is taken as usual, about the mean, but the mean is not subtracted and there is no shift. In eval mode
    the running variance takes its place, and f(a x) = a f(x).
    """

    def __init__(self, features: int, eps: float, momentum: float) -> None:
        super().__init__(features, eps=eps, momentum=momentum)
        self.register_parameter("bias", None)

    def forward(self, x: Tensor) -> Tensor:
        assert self.running_var is not None
        variance = self.running_var
        if self.training:
            variance = torch.var(x, dim=(0, 2, 3), correction=0).to(self.running_var.dtype)
            self._update(variance.detach(), x.numel() // x.shape[1])
        gain = self.weight * torch.rsqrt(variance + self.eps)
        return x * gain.view(1, -1, 1, 1).to(x.dtype)

    @torch.no_grad()
    def _update(self, variance: Tensor, count: int) -> None:
        """Of the running variance, unbiased as PyTorch's; without momentum it is the mean over all batches."""
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        share = 1 / self.num_batches_tracked.item() if self.momentum is None else self.momentum
        self.running_var.lerp_(variance * count / (count - 1), share)


class DnCNNVariant(DnCNN):
    """DnCNN, unless told otherwise.

    Args:
        order: `norm-activation` is DnCNN's; with `activation-norm` the middle layers are conv-activation-norm, and
            their convolutions have a bias, which no shift of a norm replaces before the activation.
        activation: `relu` or `sigmoid`, everywhere.
        dropout: the share of features that are dropped after each middle activation (`nn.Dropout2d`).
        bias_free: no additive constant anywhere (Mohan et al. 2020, arXiv:1906.05478), so that with ReLUs
            f(a x) = a f(x) in eval mode: convolutions without biases and, with `batch`, `BiasFreeBatchNorm2d`.
        **dncnn: the arguments of DnCNN.

    Raises:
        ValueError: `bias_free` with another norm than `batch` and `none`, or an argument out of its range.
    """

    order: Order
    activation: Activation
    dropout: float
    bias_free: bool

    def __init__(
        self,
        *,
        order: Order = "norm-activation",
        activation: Activation = "relu",
        dropout: float = 0.0,
        bias_free: bool = False,
        **dncnn: Any,
    ) -> None:
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must lie in [0, 1), not {dropout}")
        super().__init__(**dncnn)
        if bias_free and self.norm not in ("batch", "none"):
            raise ValueError(f"bias_free needs the norm batch or none, not {self.norm}")

    def _activation(self) -> nn.Module:
        return ACTIVATIONS[self.activation]()

    def _middle_layer(self, normalization: Normalization) -> list[nn.Module]:
        """A convolution and an activation, either followed by the norm; named alike in all variants."""
        norm_comes_last = self.order == "activation-norm"
        layer = ConvNorm(self.features, self.features, normalization, bias=norm_comes_last)
        if self.bias_free:
            layer.get_submodule("conv").register_parameter("bias", None)
            if self.norm == "batch":
                layer.norm = BiasFreeBatchNorm2d(self.features, normalization.bn_eps, normalization.bn_momentum)
        activation = self._activation()
        if self.dropout:
            activation = nn.Sequential(activation, nn.Dropout2d(self.dropout))
        if norm_comes_last and hasattr(layer, "norm"):
            norm = layer.get_submodule("norm")
            del layer.norm
            activation = nn.Sequential(OrderedDict(activation=activation, norm=norm))
        return [layer, activation]


def variant_of(spec: NetworkSpec) -> NetworkSpec:
    """The same DnCNN as one that takes more arguments."""
    return NetworkSpec(DnCNNVariant.__name__, spec.arguments)
