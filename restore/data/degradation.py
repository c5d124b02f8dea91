"""What is done to a clean image: the degradations of the papers, each a value with a name.

A degradation maps (N, C, H, W) in [0, 1] to (N, C, H/scale, W/scale), by the given draws only.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from restore.data import jpeg
from restore.data.random import Draws
from restore.errors import UserError
from restore.extensions import Registry
from restore.images.crop import crop_to_multiple
from restore.images.resize import imresize, resize_matrix
from restore.images.tensors import quantize, to_image, to_tensor

if TYPE_CHECKING:  # it takes half a second
    from scipy.sparse import csr_array


class Degradation(ABC):
    """Maps clean images to degraded ones. A subclass keeps each of its settings as an attribute of the same name.

    Attributes:
        scale: how many times smaller the degraded image is.
        baseline: what tables call an image without restoration, if it is not enlarged.
        has_level: whether it is noise of one level for each image, which `with_level` tells.
    """

    scale: int = 1
    has_level: ClassVar[bool] = False
    baseline: ClassVar[str] = "input"

    def __init_subclass__(cls, **settings: Any) -> None:
        super().__init_subclass__(**settings)
        _REGISTRY.add(cls)

    @abstractmethod
    def __call__(self, clean: Tensor, draws: Draws) -> Tensor:
        """Degrade a batch (N, C, H, W) in [0, 1]; `draws` are on the batch's device."""

    def with_level(self, clean: Tensor, draws: Draws) -> Tensor:
        """Degraded images with the level of their noise, in the range of [0, 1], as one more channel.

        What is drawn is the same as without it.

        Raises:
            UserError: the degradation has no level.
        """
        raise UserError(f"the network takes the noise level of an image as input, which {self.label} does not have")

    def for_network(self, clean: Tensor, draws: Draws, inputs: int) -> Tensor:
        """Degraded images for a network that reads this many channels: with their noise level if that is one more.

        Raises:
            UserError: it is, and the degradation has no level.
        """
        return self(clean, draws) if inputs == clean.shape[1] else self.with_level(clean, draws)

    @property
    @abstractmethod
    def label(self) -> str:
        """For tables: `sigma 25`, `bicubic x2`."""

    @property
    def description(self) -> dict[str, Any]:
        """The class, by its import path if it is not built in, and the settings, as JSON keeps them."""
        return {"class_path": _REGISTRY.name_of(type(self)), "init_args": dict(vars(self))}


_REGISTRY: Registry[Degradation] = Registry("degradation")


@dataclass(frozen=True)
class GaussianNoise(Degradation):
    """Additive white Gaussian noise, not clipped.

    Attributes:
        sigma: standard deviation on the 0-255 scale, or (low, high): drawn uniformly for each image ("blind").
    """

    has_level: ClassVar[bool] = True
    baseline: ClassVar[str] = "noisy"
    sigma: float | tuple[float, float] = 25.0

    def __post_init__(self) -> None:
        low, high = _ends(self.sigma)
        if not 0 <= low <= high < math.inf:
            raise UserError(f"sigma must be at least 0 and finite, and a range must be ascending, not {self.sigma}")

    def __call__(self, clean: Tensor, draws: Draws) -> Tensor:
        return self._degraded(clean, draws)[0]

    def with_level(self, clean: Tensor, draws: Draws) -> Tensor:
        degraded, level = self._degraded(clean, draws)
        return torch.cat([degraded, level.expand_as(clean[:, :1])], 1)

    def _degraded(self, clean: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        sigma = _draw(self.sigma, clean, draws) / 255
        return clean + sigma * draws.normal(clean.shape), sigma

    @property
    def label(self) -> str:
        return f"sigma {_words(self.sigma)}"


@dataclass(frozen=True)
class PoissonGaussian(Degradation):
    """Noise of a camera: photons are counted, and reading them adds Gaussian noise. Not clipped.

    The variance of a pixel of value x, on the 0-255 scale, is gain * x + sigma^2.

    Attributes:
        gain: steps of the 0-255 scale for each photon, or (low, high): drawn uniformly for each image.
        sigma: standard deviation of the reading on the 0-255 scale, or (low, high).
    """

    baseline: ClassVar[str] = "noisy"
    gain: float | tuple[float, float] = 1.0
    sigma: float | tuple[float, float] = 2.0

    def __post_init__(self) -> None:
        for name, (low, high) in (("gain", _ends(self.gain)), ("sigma", _ends(self.sigma))):
            if not (low >= 0 if name == "sigma" else low > 0) or low > high:
                raise UserError(
                    f"{name} must be positive (sigma may be 0), and a range must be ascending, not {low}, {high}"
                )

    def __call__(self, clean: Tensor, draws: Draws) -> Tensor:
        gain = _draw(self.gain, clean, draws) / 255
        return _photograph(clean, gain, _draw(self.sigma, clean, draws) / 255, draws)

    @property
    def label(self) -> str:
        return f"Poisson-Gaussian gain {_words(self.gain)}, sigma {_words(self.sigma)}"


@dataclass(frozen=True)
class Paired(Degradation):
    """Degraded images that are there as files beside the clean ones; none can be made.

    Attributes:
        scale: how many times smaller they are.
    """

    scale: int = 1

    def __call__(self, clean: Tensor, draws: Draws) -> Tensor:
        raise UserError("needs a folder of degraded images")

    @property
    def label(self) -> str:
        return "as given" if self.scale == 1 else f"as given, x{self.scale}"


@dataclass(frozen=True)
class Bicubic(Degradation):
    """MATLAB's bicubic downsampling of 8-bit images, as all super-resolution papers mean it.

    Attributes:
        scale: 2, 3, 4 or 8.
    """

    scale: int = 2

    def __post_init__(self) -> None:
        if self.scale not in (2, 3, 4, 8):
            raise UserError(f"scale must be 2, 3, 4 or 8, not {self.scale}")

    def __call__(self, clean: Tensor, draws: Draws) -> Tensor:
        images = [crop_to_multiple(to_image(image[None]), self.scale) for image in quantize(clean)]
        return torch.cat([to_tensor(imresize(image, 1 / self.scale)) for image in images]).to(clean.device)

    @property
    def label(self) -> str:
        return f"bicubic x{self.scale}"


@dataclass(frozen=True)
class BicubicBlur(Degradation):
    """Bicubic down- and upsampling to the original size: what DnCNN-3 gets as super-resolution input.

    Attributes:
        factors: one of these is drawn for each image.
    """

    factors: tuple[int, ...] = (2, 3, 4)

    def __post_init__(self) -> None:
        if not self.factors or min(self.factors) < 1:
            raise UserError(f"factors must be one or more numbers of at least 1, not {self.factors}")

    def __call__(self, clean: Tensor, draws: Draws) -> Tensor:
        return _by_choice(clean, draws, [partial(_blur, factor) for factor in self.factors])

    @property
    def label(self) -> str:
        return f"bicubic blur x{'/'.join(map(str, self.factors))}"


@dataclass(frozen=True)
class Jpeg(Degradation):
    """Baseline JPEG compression, computed on the device: the transform coding of libjpeg without the entropy coder,
    which loses nothing.

    Attributes:
        quality: 1 to 100 (libjpeg's scale), or (low, high): drawn uniformly for each image.
        subsampling: of the chroma of color images.
        cropped: the images are cut from larger ones after coding, as training patches are: the 8x8 blocks of each
            begin at a place drawn at random, not at its corner.
    """

    quality: int | tuple[int, int] = (5, 99)
    subsampling: Literal["4:2:0", "4:4:4"] = "4:2:0"
    cropped: bool = False

    def __post_init__(self) -> None:
        low, high = _ends(self.quality)
        if not 1 <= low <= high <= 100:
            raise UserError(f"quality must be from 1 to 100, and a range must be ascending, not {self.quality}")
        if self.subsampling not in ("4:2:0", "4:4:4"):
            raise UserError(f"subsampling must be 4:2:0 or 4:4:4, not {self.subsampling}")

    def __call__(self, clean: Tensor, draws: Draws) -> Tensor:
        low, high = _ends(self.quality)
        quality = draws.integers(int(low), int(high) + 1, (len(clean), 1, 1))
        halved = clean.shape[1] == 3 and self.subsampling == "4:2:0"
        block = 16 if halved else 8
        height, width = clean.shape[-2:]
        start = draws.integers(0, block if self.cropped else 1, (len(clean), 2))
        rows, columns = (
            torch.arange(-(-(size + self.cropped * block) // block) * block, device=clean.device) - first[:, None]
            for size, first in zip((height, width), start.T, strict=True)
        )
        image = _gather(quantize(clean).float(), rows.clamp(0, height - 1), columns.clamp(0, width - 1))
        coded = jpeg.coded(image, quality, halved)
        rows, columns = (
            torch.arange(size, device=clean.device) + first[:, None]
            for size, first in zip((height, width), start.T, strict=True)
        )
        return _gather(coded, rows, columns).round().clamp(0, 255) / 255

    @property
    def label(self) -> str:
        return f"JPEG quality {_words(self.quality)}" + (" 4:4:4" if self.subsampling == "4:4:4" else "")


@dataclass(frozen=True)
class DnCNN3Mixture(Degradation):
    """What DnCNN-3 is trained on: each image gets noise, bicubic blur or JPEG compression, one in three.

    Attributes:
        sigma: of the `GaussianNoise`.
        factors: of the `BicubicBlur`.
        quality: of the `Jpeg`.
    """

    sigma: float | tuple[float, float] = (0.0, 55.0)
    factors: tuple[int, ...] = (2, 3, 4)
    quality: int | tuple[int, int] = (5, 99)

    def __post_init__(self) -> None:
        _ = self._parts  # which say what is wrong

    def __call__(self, clean: Tensor, draws: Draws) -> Tensor:
        return _by_choice(clean, draws, self._parts)

    @property
    def label(self) -> str:
        return " | ".join(part.label for part in self._parts)

    @property
    def _parts(self) -> tuple[Degradation, ...]:
        return GaussianNoise(self.sigma), BicubicBlur(self.factors), Jpeg(self.quality, cropped=True)


@dataclass(frozen=True)
class RealNoise(Degradation):
    """What a photograph has been through: Poisson-Gaussian noise, correlated by the camera's processing, often JPEG
    coding with or without subsampling of chroma, sometimes reduction in size. Each image has its own draw of all.

    Attributes:
        sigma: standard deviation of the noise of a mid gray of 128, on the 0-255 scale, or (low, high).
        photons: share of that variance that grows with the light (Poisson), 0 to 1.
        common: correlation between the noise of any two channels: 0 independent, 1 the same in all.
        blur: standard deviation in pixels of the Gaussian filter that correlates the noise of neighbors; its level
            stays.
        quality: of the JPEG coding. A third of the images is coded in 4:2:0, a third in 4:4:4, the rest is only
            clipped, as in PNG files.
        sizes: one is drawn for each image: its size, as a share of the size at which it was photographed and coded.
    """

    baseline: ClassVar[str] = "noisy"
    sigma: float | tuple[float, float] = (0.0, 55.0)
    photons: float | tuple[float, float] = (0.0, 1.0)
    common: float | tuple[float, float] = (0.0, 0.9)
    blur: float | tuple[float, float] = (0.0, 0.8)
    quality: int | tuple[int, int] = (60, 100)
    sizes: tuple[float, ...] = (1.0, 1.0, 0.75)

    def __post_init__(self) -> None:
        limits = {"sigma": 255.0, "photons": 1.0, "common": 1.0, "blur": _BLUR_REACH / 2, "sizes": 1.0}
        for name, limit in limits.items():
            value = getattr(self, name)
            low, high = (min(value), max(value)) if name == "sizes" else _ends(value)
            if not 0 <= low <= high <= limit or (name == "sizes" and low < 0.25):
                least = 0.25 if name == "sizes" else 0
                raise UserError(f"{name} must lie in {least:g} to {limit:g} and a range ascend, not {value}")
        Jpeg(self.quality)

    def __call__(self, clean: Tensor, draws: Draws) -> Tensor:
        return _by_choice(clean, draws, [partial(self._at_size, size) for size in self.sizes])

    @property
    def label(self) -> str:
        return f"real noise sigma {_words(self.sigma)}, JPEG quality {_words(self.quality)}"

    def _at_size(self, size: float, clean: Tensor, draws: Draws) -> Tensor:
        if size == 1:
            return self._coded(clean, draws)
        whole = [round(extent / size) for extent in clean.shape[-2:]]
        original = F.interpolate(clean, whole, mode="bicubic", align_corners=False).clamp(0, 1)
        coded = self._coded(original, draws)
        return F.interpolate(coded, clean.shape[-2:], mode="bicubic", align_corners=False, antialias=True).clamp(0, 1)

    def _coded(self, clean: Tensor, draws: Draws) -> Tensor:
        coded = Jpeg(self.quality, "4:4:4", cropped=True), Jpeg(self.quality, cropped=True)
        return _by_choice(self._noisy(clean, draws), draws, [*coded, _clip])

    def _noisy(self, clean: Tensor, draws: Draws) -> Tensor:
        variance = (_draw(self.sigma, clean, draws) / 255) ** 2
        photons = _draw(self.photons, clean, draws)
        gain = (variance * photons / _MID_GRAY).clamp(min=_LEAST_GAIN)
        reading = (variance * (1 - photons)).sqrt()
        deviation = (gain * clean + reading**2).sqrt().clamp(min=1e-6)
        noise = (_photograph(clean, gain, reading, draws) - clean) / deviation  # of variance 1
        noise = _mix_channels(noise, _draw(self.common, clean, draws))
        return clean + deviation * _correlate(noise, _draw(self.blur, clean, draws))


def is_precomputed(degradation: Degradation) -> bool:
    """Whether degraded images are read from files, or made once by `imresize` and kept in the patch store.

    All other degradations, subclasses of these two among them, are computed from each clean patch as it is used.
    """
    return type(degradation) in (Paired, Bicubic)


def default_degradation(scale: int) -> Degradation:
    """What a network of that scale restores unless something else is said: bicubic downsampling, or sigma 25."""
    return Bicubic(scale) if scale > 1 else GaussianNoise()


def from_description(description: Mapping[str, Any]) -> Degradation | None:
    """The degradation that a `Degradation.description`, as JSON keeps it, states; None if it is empty.

    Raises:
        UserError: there is no such degradation, it does not take these settings, or its package may not be imported.
    """
    if not description:
        return None
    name, stated = str(description.get("class_path")), description.get("init_args", {})
    if not isinstance(stated, dict):
        raise UserError(f"degradation {name}: expected arguments by name, found {stated!r}")
    kind: Callable[..., Degradation] = _REGISTRY.find(name)
    try:
        return kind(**{key: tuple(v) if isinstance(v, list) else v for key, v in stated.items()})
    except (TypeError, ValueError) as error:
        raise UserError(f"degradation {name}: {error}") from error


def _ends(value: float | tuple[float, float]) -> tuple[float, float]:
    return value if isinstance(value, tuple) else (value, value)


def _words(value: float | tuple[float, float]) -> str:
    low, high = _ends(value)
    return f"{low:g}" if low == high else f"{low:g}-{high:g}"


def _draw(value: float | tuple[float, float], clean: Tensor, draws: Draws) -> Tensor:
    """(N, 1, 1, 1), uniform in the range."""
    low, high = _ends(value)
    return low + (high - low) * draws.uniform((len(clean), 1, 1, 1))


def _photograph(clean: Tensor, gain: Tensor, sigma: Tensor, draws: Draws) -> Tensor:
    """(N, C, H, W) in [0, 1] with Poisson-Gaussian noise of variance gain * clean + sigma^2; both (N, 1, 1, 1)."""
    return gain * draws.poisson(clean / gain) + sigma * draws.normal(clean.shape)


_MID_GRAY = 128 / 255
_LEAST_GAIN = 1e-6  # photons are then so many that they add no noise: a deviation of 0.3 of 255 levels in white
_BLUR_REACH = 3  # pixels


def _mix_channels(noise: Tensor, correlation: Tensor) -> Tensor:
    """Noise of variance 1, independent in its channels -> of variance 1 and that correlation (N, 1, 1, 1) in all."""
    mean = noise.mean(1, keepdim=True)
    return (1 - correlation).sqrt() * (noise - mean) + (1 + (noise.shape[1] - 1) * correlation).sqrt() * mean


def _correlate(noise: Tensor, width: Tensor) -> Tensor:
    """White noise (N, C, H, W) -> filtered by Gaussians of these standard deviations (N, 1, 1, 1), of equal variance.

    Borders are joined, so that the variance is the same everywhere.
    """
    offsets = range(-_BLUR_REACH, _BLUR_REACH + 1)
    weights = torch.stack([torch.exp(-(offset**2) / (2 * width.clamp(min=1e-3) ** 2)) for offset in offsets])
    weights = weights / weights.square().sum(0).sqrt()
    for dim in (2, 3):
        noise = sum((w * noise.roll(o, dim) for o, w in zip(offsets, weights, strict=True)), torch.zeros_like(noise))
    return noise


def _by_choice(clean: Tensor, draws: Draws, options: Sequence[Callable[[Tensor, Draws], Tensor]]) -> Tensor:
    degraded = torch.empty_like(clean)
    for option, (chosen, part) in zip(options, draws.split(len(options), len(clean)), strict=True):
        if part.total:  # even if none is chosen here, since others draw then
            degraded[chosen] = option(clean[chosen], part)
    return degraded


def _clip(image: Tensor, _: Draws) -> Tensor:
    return image.clamp(0, 1)


def _blur(factor: int, clean: Tensor, _: Draws) -> Tensor:
    rows, columns = (_shrink_and_enlarge(size, factor) for size in clean.shape[-2:])
    image = quantize(clean).double()
    for row_matrix, column_matrix in zip(rows, columns, strict=True):
        image = _to_levels(row_matrix.to(image.device) @ image)
        image = _to_levels(image @ column_matrix.to(image.device).T)
    return (image / 255).to(clean.dtype)


def _shrink_and_enlarge(size: int, factor: int) -> tuple[Tensor, Tensor]:
    """The two matrices of `imresize` along an axis of `size` pixels, down by `factor` and up again."""
    down, up = _sparse(size, factor)
    return torch.from_numpy(down.toarray()), torch.from_numpy(up.toarray())


@lru_cache(maxsize=64)
def _sparse(size: int, factor: int) -> "tuple[csr_array, csr_array]":
    """The same; dense ones are too large to keep for photographs."""
    down = resize_matrix(size, 1 / factor)
    return down, resize_matrix(down.shape[0], factor)[:size]


def _to_levels(image: Tensor) -> Tensor:
    return (image + 0.5).floor().clamp(0, 255)


def _gather(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """(N, C, H, W) -> (N, C, h, w): of each image its own rows (N, h) and columns (N, w)."""
    number = torch.arange(len(images), device=images.device)[:, None, None]
    return images.movedim(1, 3)[number, rows[:, :, None], columns[:, None]].movedim(3, 1)


DEGRADATIONS: Mapping[str, type[Degradation]] = _REGISTRY.built_in()
