"""How other projects name the tensors of a network, and what names and shapes tell about it.

Depth, width, scale, norm, biases and value range follow from a file; epsilon and momentum of batch norm, and whether
the noise or the clean image is returned, from the layout. What no file tells has the published default and can be given
by name.
"""

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count, takewhile
from typing import Any, Literal

import torch
from torch import Tensor

from restore.errors import UserError
from restore.models import EDSR, MDSR, DnCNN, FDnCNN, FFDNet, NetworkSpec, Norm, RestorationNetwork, build
from restore.models.edsr import DIV2K_MEAN
from restore.models.ffdnet import DOWNSCALE

Tensors = Mapping[str, Tensor]


class Layout(ABC):
    """How one project stores one kind of network.

    Attributes:
        name: the project, and the network if it has several.
        network: our class for it.
        opens: what rebuilds the network in its project, with arguments of ours in braces.
        returns: what the project's network gives: the clean image, or the noise, which ours subtracts.
        unsaid: arguments of our network that the file does not tell.
    """

    name: str
    network: type[RestorationNetwork]
    opens: str
    returns: Literal["clean", "noise"] = "clean"
    unsaid: frozenset[str] = frozenset()

    @abstractmethod
    def matches(self, tensors: Tensors) -> bool:
        """Whether a file with these tensors is meant to be of this layout."""

    @abstractmethod
    def infer(self, tensors: Tensors) -> NetworkSpec:
        """The network of a file that matches, with the published default for what is unsaid."""

    @abstractmethod
    def rename(self, module: str, network: Any) -> str:
        """Their name of the module that `network` calls `module`."""

    def constants(self, network: Any) -> dict[str, Tensor]:
        """What a file holds beside weights."""
        return {}

    def may_lack(self, name: str) -> bool:
        """Whether a file may lack the tensor that we call `name`, which is zero then."""
        return name.endswith("num_batches_tracked")  # counts batches; absent before PyTorch 0.4.1

    def names(self, network: RestorationNetwork) -> dict[str, str]:
        """Our name of each tensor -> theirs."""
        split = {name: name.rpartition(".") for name in network.state_dict()}
        return {name: f"{self.rename(module, network)}.{leaf}" for name, (module, _, leaf) in split.items()}

    def write(self, network: Any) -> tuple[dict[str, Tensor], str]:
        """The tensors of `network`, which has no norm, and what rebuilds it in its project."""
        ours = network.state_dict()
        theirs = {name: ours[own].detach().contiguous() for own, name in self.names(network).items()}
        words = network.spec.arguments | {"scale": "+".join(map(str, network.all_scales))}
        return self.constants(network) | theirs, self.opens.format_map(words)


@dataclass(frozen=True)
class DnCNNLayout(Layout):
    """Convolutions, norms and activations numbered through in one nn.Sequential.

    Attributes:
        prefix: of the nn.Sequential.
        biases: of the convolutions: all, the first, or none.
        bn_eps, bn_momentum: of batch norm.
    """

    name: str
    prefix: str
    biases: Literal["all", "first", "none"]
    bn_eps: float
    bn_momentum: float
    returns: Literal["clean", "noise"] = "clean"
    opens: str = "DnCNN(in_nc={channels}, out_nc={channels}, nc={features}, nb={depth}, act_mode='R')"
    network: type[RestorationNetwork] = DnCNN

    def matches(self, tensors: Tensors) -> bool:
        first, second = (tensors.get(f"{self.prefix}.{number}.weight") for number in (0, 2))
        has_bias = f"{self.prefix}.0.bias" in tensors
        if first is None or second is None or not first.ndim == second.ndim == 4:
            return False
        return has_bias == (self.biases != "none") and self._channels(tensors) is not None

    def _channels(self, tensors: Tensors) -> int | None:
        """Of the image, by what the first convolution reads and the last makes; None if this network does not."""
        return int(tensors[f"{self.prefix}.0.weight"].shape[1])

    def infer(self, tensors: Tensors) -> NetworkSpec:
        norm: Norm = "batch" if any(key.endswith(".running_mean") for key in tensors) else "none"
        last = self._last(tensors)
        depth = math.ceil(last / self._stride(norm)) + 1
        if depth > len(tensors):
            raise ValueError(f"its last convolution has the number {last}, but it holds only {len(tensors)} tensors")
        arguments = {
            "channels": self._channels(tensors),
            "depth": depth,
            "features": tensors[f"{self.prefix}.0.weight"].shape[0],
            "norm": norm,
            "bias": self.biases != "none",
            "bn_eps": self.bn_eps,
            "bn_momentum": self.bn_momentum,
        }
        return NetworkSpec(self.network.__name__, arguments)

    def _last(self, tensors: Tensors) -> int:
        """The number of the last convolution; one of ten digits or more is none."""
        pattern = rf"{self.prefix}\.(\d{{1,9}})\.weight"
        return max(int(place[1]) for key in tensors if (place := re.fullmatch(pattern, key)))

    def rename(self, module: str, network: RestorationNetwork) -> str:
        _, place, *kind = module.split(".")
        stride = self._stride(network.norm)
        layer = int(place) // 2
        number = stride * layer
        if layer and kind != ["norm"]:
            number -= stride - 2  # the first layer has no norm
        return f"{self.prefix}.{number}"

    def may_lack(self, name: str) -> bool:
        bias_of_convolution = name.endswith(".bias") and ".norm." not in name
        return super().may_lack(name) or (bias_of_convolution and name != "body.0.bias" and self.biases != "all")

    def write(self, network: RestorationNetwork) -> tuple[dict[str, Tensor], str]:
        factor, downscale = getattr(self, "factor", 1), network.spec.arguments["downscale"]
        if downscale != factor:
            raise UserError(f"{self.name} works at 1/{factor} of the image's size, but this network at 1/{downscale}")
        if not network.spec.arguments.get("residual", True):
            raise UserError(
                f"{self.name} subtracts the network's output from the input, but this network outputs the clean image"
            )
        biased = build(NetworkSpec(network.spec.name, network.spec.arguments | {"bias": True}))
        zeros = {name: torch.zeros_like(tensor) for name, tensor in biased.state_dict().items()}
        biased.load_state_dict(zeros | network.state_dict())
        return super().write(biased)

    def _stride(self, norm: Norm) -> int:
        """Modules of a layer: convolution, norm if any, activation."""
        return 3 if norm == "batch" else 2


@dataclass(frozen=True)
class LevelLayout(DnCNNLayout):
    """The same for a network that is told the noise level, as one more channel than `factor`^2 of the image's."""

    factor: int = 1

    def _channels(self, tensors: Tensors) -> int | None:
        read, made = tensors[f"{self.prefix}.0.weight"].shape[1], tensors[f"{self.prefix}.{self._last(tensors)}.weight"]
        return len(made) // self.factor**2 if read == len(made) + 1 and len(made) % self.factor**2 == 0 else None


@dataclass(frozen=True)
class EDSRLayout(Layout):
    """The parts of an EDSR under other names.

    Attributes:
        renames: (our name of a module as a regular expression, theirs); the first that fits whole counts.
        rgb_range: what the project's network multiplies [0, 1] with; None: the file says it, with the mean color.
    """

    name: str
    renames: tuple[tuple[str, str], ...]
    opens: str
    rgb_range: float | None
    network: type[RestorationNetwork] = EDSR
    unsaid: frozenset[str] = frozenset({"res_scale"})

    def matches(self, tensors: Tensors) -> bool:
        return all(self._key(module) in tensors for module in ("head", "body.0.body.0.conv", "upsample.0"))

    def infer(self, tensors: Tensors) -> NetworkSpec:
        arguments = self._size(tensors)
        arguments["scale"] = self._scale(tensors, "upsample")
        arguments["res_scale"] = 0.1 if (arguments["blocks"], arguments["features"]) == (32, 256) else 1.0
        return NetworkSpec("EDSR", arguments)

    def rename(self, module: str, network: Any = None) -> str:
        for pattern, theirs in self.renames:
            if match := re.fullmatch(pattern, module):
                return match.expand(theirs)
        return module

    def constants(self, network: EDSR | MDSR) -> dict[str, Tensor]:
        if self.rgb_range is not None:
            return {}
        identity = torch.eye(3).view(3, 3, 1, 1)
        mean = DIV2K_MEAN * network.rgb_range
        return {
            "sub_mean.weight": identity,
            "sub_mean.bias": -mean,
            "add_mean.weight": identity.clone(),
            "add_mean.bias": mean,
        }

    def write(self, network: EDSR | MDSR) -> tuple[dict[str, Tensor], str]:
        if network.channels != 3:
            raise UserError(f"{self.name} takes color networks only, and this one is gray")
        return super().write(network)

    def _size(self, tensors: Tensors) -> dict[str, Any]:
        features, channels = tensors[self._key("head")].shape[:2]
        blocks = takewhile(lambda number: self._key(f"body.{number}.body.0.conv") in tensors, count())
        arguments: dict[str, Any] = {"channels": channels, "features": features, "blocks": len(list(blocks))}
        if self.rgb_range is not None:
            return arguments | {"rgb_range": self.rgb_range}
        shift = tensors.get("sub_mean.bias")
        if shift is not None and shift.shape == DIV2K_MEAN.shape:
            arguments["rgb_range"] = round((-shift / DIV2K_MEAN).mean().item(), 3)
        return arguments

    def _scale(self, tensors: Tensors, upsampler: str) -> int:
        keys = [self._key(f"{upsampler}.{place}") for place in (0, 2, 4)]  # a pixel shuffle after each
        return math.prod(math.isqrt(tensors[key].shape[0] // tensors[key].shape[1]) for key in keys if key in tensors)

    def _key(self, module: str) -> str:
        return f"{self.rename(module)}.weight"


@dataclass(frozen=True)
class MDSRLayout(EDSRLayout):
    """EDSR's, with pre-processing blocks and an upsampler for each scale."""

    network: type[RestorationNetwork] = MDSR
    unsaid: frozenset[str] = frozenset({"scale"})

    def matches(self, tensors: Tensors) -> bool:
        return all(self._key(module) in tensors for module in ("head", "pre_process.0.0.body.0.conv", "upsample.0.0"))

    def infer(self, tensors: Tensors) -> NetworkSpec:
        branches = takewhile(lambda number: self._key(f"upsample.{number}.0") in tensors, count())
        scales = tuple(self._scale(tensors, f"upsample.{branch}") for branch in branches)
        arguments = {"scales": scales, "scale": 4 if 4 in scales else scales[-1]}
        return NetworkSpec("MDSR", self._size(tensors) | arguments)


_OFFICIAL = (("head", "head.0"), (r"(.*)\.conv", r"\1"))
_BASICSR = (
    ("head", "conv_first"),
    (r"body\.(\d+)\.body\.0\.conv", r"body.\1.conv1"),
    (r"body\.(\d+)\.body\.2\.conv", r"body.\1.conv2"),
    (r"body\.\d+", "conv_after_body"),
    ("tail", "conv_last"),
)
_MMAGIC = tuple((f"upsample.{2 * step}", f"upsample.{step}.upsample_conv") for step in range(3))
_FLAGS = "--n_feats {features} --n_resblocks {blocks} --rgb_range {rgb_range:g}"

KAIR = DnCNNLayout("KAIR's DnCNN", "model", "all", bn_eps=1e-4, bn_momentum=0.9)
KAIR_FDNCNN = LevelLayout(
    "KAIR's FDnCNN", "model", "all", bn_eps=1e-4, bn_momentum=0.9, network=FDnCNN,
    opens="FDnCNN(in_nc={channels} + 1, out_nc={channels}, nc={features}, nb={depth}, act_mode='R')",
)  # fmt: skip
KAIR_FFDNET = LevelLayout(
    "KAIR's FFDNet", "model", "all", bn_eps=1e-4, bn_momentum=0.9, network=FFDNet, factor=DOWNSCALE,
    opens="FFDNet(in_nc={channels}, out_nc={channels}, nc={features}, nb={depth}, act_mode='R')",
)  # fmt: skip
OFFICIAL_EDSR = EDSRLayout(
    "EDSR-PyTorch's EDSR",
    (*_OFFICIAL, (r"upsample\.(\d)", r"tail.0.\1"), ("tail", "tail.1")),
    f"--model EDSR {_FLAGS} --scale {{scale}} --res_scale {{res_scale:g}}",
    rgb_range=None,
)
OFFICIAL_MDSR = MDSRLayout(
    "EDSR-PyTorch's MDSR", (*_OFFICIAL, ("tail", "tail.0")), f"--model MDSR {_FLAGS} --scale {{scale}}", rgb_range=None
)
BASICSR = EDSRLayout(
    "BasicSR's EDSR",
    _BASICSR,
    "EDSR(num_in_ch=3, num_out_ch=3, num_feat={features}, num_block={blocks}, upscale={scale}, "
    "res_scale={res_scale:g}, img_range={rgb_range:g})",
    rgb_range=255.0,
    unsaid=frozenset({"res_scale", "rgb_range"}),
)
LAYOUTS: tuple[Layout, ...] = (
    KAIR_FFDNET,
    KAIR_FDNCNN,
    KAIR,
    DnCNNLayout("cszn's DnCNN", "dncnn", "first", bn_eps=1e-4, bn_momentum=0.95),
    DnCNNLayout("SaoYan's DnCNN", "dncnn", "none", bn_eps=1e-5, bn_momentum=0.1, returns="noise"),
    OFFICIAL_EDSR,
    OFFICIAL_MDSR,
    EDSRLayout("mmagic's EDSR", (*_BASICSR, *_MMAGIC), "", rgb_range=1.0),
    BASICSR,
)
WRITABLE: dict[str, tuple[Layout, ...]] = {
    "basicsr": (BASICSR,),
    "edsr-pytorch": (OFFICIAL_EDSR, OFFICIAL_MDSR),
    "kair": (KAIR, KAIR_FDNCNN, KAIR_FFDNET),
}
