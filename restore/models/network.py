"""What every restoration network has in common: a contract and a specification that rebuilds it."""

import inspect
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from functools import wraps
from typing import Any, Self

import torch
from torch import Tensor, nn

from restore.extensions import Registry
from restore.models.norm import Norm, Normalization


@dataclass(frozen=True)
class NetworkSpec:
    """All that rebuilds a network but for its weights.

    Attributes:
        name: of its class, as `package.module:Class` if it is not built in.
        arguments: of its constructor.
    """

    name: str
    arguments: dict[str, Any]


class RestorationNetwork(nn.Module, ABC):
    """Maps a degraded image (N, inputs, H, W), RGB or gray in [0, 1], to (N, channels, scale*H, scale*W).

    The output is not clamped. A subclass is known by its name as soon as it is defined, and the arguments of its
    constructor are recorded: they are its `spec`, and attributes of the same names even before the constructor runs.
    Of a constructor that passes `**` arguments on to its base class, or to `normalization`, the spec holds these, too,
    with the defaults that they have there.

    Attributes:
        channels: of the restored image, 1 (gray) or 3 (RGB).
        inputs: channels that it reads: those of the image, and in a network that is told the noise level one more,
            which is sigma / 255 everywhere.
        multiple_of: height and width of its input must be multiples of this. Images are padded before, and tiles
            begin at multiples.
        scale: how many times larger the output is.
        norm: what normalizes its activations.
        ends_in_tail: whether `forward` uses the modules `upsample` and `tail` only as `tail(upsample(features))`, so
            that `compose` may make one convolution of them. It is false of a subclass with a `forward` of its own,
            unless that says it again.
    """

    channels: int
    scale: int = 1
    norm: Norm = "none"
    multiple_of: int = 1
    ends_in_tail: bool = False
    _arguments: dict[str, Any]
    _passes_on: bool

    def __init__(self) -> None:
        super().__init__()
        if getattr(self, "channels", 1) not in (1, 3):  # a subclass may set it after this
            raise ValueError(f"channels must be 1 (gray) or 3 (RGB), not {self.channels}")

    def __init_subclass__(cls, **settings: Any) -> None:
        super().__init_subclass__(**settings)
        if "forward" in cls.__dict__:
            cls.ends_in_tail = cls.__dict__.get("ends_in_tail", False)
        REGISTRY.add(cls)
        if "__init__" in cls.__dict__:
            _record_arguments(cls)

    @abstractmethod
    def forward(self, degraded: Tensor) -> Tensor:
        """Restore a batch of images."""

    @property
    def inputs(self) -> int:
        return self.channels

    @property
    def all_scales(self) -> tuple[int, ...]:
        """The scales that it is made for."""
        return (self.scale,)

    def at(self, scale: int) -> Self:
        """This network working at another of its scales; both share their weights.

        Raises:
            ValueError: it is not made for `scale`.
        """
        if scale != self.scale:
            raise ValueError(f"scale must be {self.scale}, not {scale}")
        return self

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    @property
    def spec(self) -> NetworkSpec:
        return NetworkSpec(REGISTRY.name_of(type(self)), dict(vars(self).get("_arguments", {})))

    def normalization(self, norm: Norm, **settings: Any) -> Normalization:
        """How the network normalizes, from arguments of its constructor.

        Args:
            norm: the word.
            **settings: the other fields of `Normalization`.
        """
        chosen = Normalization(norm, **settings)
        given = {"norm", *settings}
        self._record_defaults({name: value for name, value in asdict(chosen).items() if name not in given})
        return chosen

    def _record_defaults(self, defaults: dict[str, Any]) -> None:
        """Add what the outermost constructor, if it passes arguments on, has left to their defaults."""
        if self._passes_on:
            self._arguments |= {name: value for name, value in defaults.items() if name not in self._arguments}

    def restate(self, **arguments: Any) -> None:
        """Record other arguments than those of the constructor, for a network that was changed after it."""
        self._arguments = self._arguments | arguments
        for name, value in arguments.items():
            setattr(self, name, value)


REGISTRY: Registry[RestorationNetwork] = Registry("network")


def _record_arguments(cls: type[RestorationNetwork]) -> None:
    construct = cls.__init__
    signature = inspect.signature(construct)
    rest = next((p.name for p in signature.parameters.values() if p.kind is p.VAR_KEYWORD), "")

    @wraps(construct)
    def recorded(self: RestorationNetwork, *args: Any, **kwargs: Any) -> None:
        bound = signature.bind(self, *args, **kwargs)
        given = set(bound.arguments)
        bound.apply_defaults()
        arguments = dict(list(bound.arguments.items())[1:])
        passed_on = arguments.pop(rest, {})
        vars(self).update(arguments | passed_on)
        if "_arguments" in vars(self):  # the constructor of a subclass calls this one
            self._record_defaults({name: value for name, value in arguments.items() if name not in given})
        else:
            vars(self).update(_arguments=arguments | passed_on, _passes_on=bool(rest))
        construct(self, *args, **kwargs)

    setattr(cls, "__init__", recorded)  # noqa: B010 - what mypy cannot type
