"""What a program calls: networks by name, images as arrays, scores.

Images are NumPy arrays (H, W) or (H, W, 1 or 3), Pillow images of mode L or RGB, or tensors (H, W), (C, H, W) or
(N, C, H, W): uint8 or uint16 from 0 to their largest value, or floats from 0 to 1. What comes back is of the same kind
and type, clipped, on the same device.
"""

import copy
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from PIL import Image as Pillow
from torch import Tensor

from restore import bundled, runner_options
from restore.benchmark import default_protocol
from restore.benchmark import measure as measure_rows
from restore.checkpoint import Weights
from restore.choices import InferencePrecision, Tile
from restore.data.catalog import default_root, find_images
from restore.data.degradation import Degradation, Paired, default_degradation, from_description
from restore.errors import UserError
from restore.foreign_checkpoints import load_any
from restore.images.content import CONTENTS, Content, content
from restore.images.tensors import to_pixels
from restore.inference import Runner, at_level, restore_any, tiled
from restore.metrics import PROTOCOLS, Row
from restore.models import RestorationNetwork

AnyImage = TypeVar("AnyImage")
Model = str | Path | RestorationNetwork

DESCRIBING = ("icc_profile", "exif", "xmp", "dpi")  # of a Pillow image's `info`
LARGEST_FLOAT = 2  # in an image; noise and rounding exceed 1
KEPT = 4  # networks, ready to run, for further images


def load(name: Path | str) -> RestorationNetwork:
    """The network of a bundled model or of a weights file, ours or a known other project's, in eval mode on the CPU.

    Args:
        name: of a bundled model, or the path of a file.

    Raises:
        UserError: there is no such model or file, or it is damaged or of no known layout.

    >>> load("dncnn-gray-25").spec.name
    'DnCNN'
    """
    return load_any(_weights_file(name)).network


def denoise(
    image: AnyImage,
    sigma: float | None = None,
    *,
    model: Model | None = None,
    fast: bool = False,
    device: str | None = None,
    precision: InferencePrecision = "auto",
    tile: Tile = "auto",
    ensemble: bool = False,
) -> AnyImage:
    """An image with less noise.

    Args:
        image: an array, a Pillow image or a tensor; see the module.
        sigma: standard deviation of the noise on the 0-255 scale; None: not known.
        model: a bundled model, a weights file or a network; default: the bundled one for `sigma` and the image.
        fast: for gray images take a bundled one of a fifth of the work; see `bundled.denoiser`.
        device: default: a GPU if there is one.
        precision, tile, ensemble: as of the command `restore.infer`.

    Raises:
        UserError: no image of a known kind, no bundled network is trained for `sigma`, `model` does not take it, or
            both `model` and `fast` are given.

    >>> import numpy as np
    >>> noisy = np.random.default_rng(0).normal(0.5, 0.1, (32, 32))
    >>> clean = denoise(noisy, 25)
    >>> clean.shape, clean.dtype, bool(clean.std() < noisy.std() / 2)
    ((32, 32), dtype('float64'), True)
    """
    if model is not None and fast:
        raise UserError("fast chooses a bundled network, so it cannot be combined with model")
    if sigma is not None and not sigma >= 0:
        raise UserError(f"sigma must be at least 0, not {sigma}")
    if model is None:
        model = bundled.denoiser(sigma, _content(image), fast).weights
    elif sigma is not None and not _takes_level(model):
        name = type(model).__name__ if isinstance(model, RestorationNetwork) else model
        raise UserError(f"sigma: {name} takes no noise level")
    return _restored(image, model, 1, sigma, _options(device, precision, tile, ensemble))


def upscale(
    image: AnyImage,
    scale: int = 2,
    *,
    model: Model | None = None,
    device: str | None = None,
    precision: InferencePrecision = "auto",
    tile: Tile = "auto",
    ensemble: bool = False,
) -> AnyImage:
    """An image enlarged.

    Args:
        image: an array, a Pillow image or a tensor; see the module.
        scale: 2, 3 or 4.
        model: a bundled model, a weights file or a network; default: the bundled one for `scale`.
        device: default: a GPU if there is one.
        precision, tile, ensemble: as of the command `restore.infer`.

    Raises:
        UserError: no image of a known kind, or no network of that scale.

    >>> import numpy as np
    >>> large = upscale(np.zeros((12, 16, 3), np.uint8), 2)
    >>> large.shape, large.dtype
    ((24, 32, 3), dtype('uint8'))
    """
    if model is None and scale not in (2, 3, 4):
        raise UserError(f"scale must be 2, 3 or 4, not {scale}")
    return _restored(
        image, model or bundled.upscaler(scale).weights, scale, None, _options(device, precision, tile, ensemble)
    )


def measure(
    network: Model,
    data: str | Path,
    degradation: Degradation | None = None,
    *,
    degraded: Path | str | None = None,
    protocol: str | None = None,
    root: Path | None = None,
) -> Row:
    """The scores of a network on a test set, in float32, as the command `restore.evaluate` gives them.

    Args:
        network: a bundled model, a weights file or a network.
        data: a known data set or a folder of images.
        degradation: of the images; default: what the weights state, or sigma 25, or bicubic by the network's scale.
        degraded: a folder of degraded images instead.
        protocol: how images are scored; default: the papers' for the test set.
        root: where known data sets lie; default: RESTORE_DATA, else `data`.

    Raises:
        UserError: there is no such model, data set or protocol, or the degradation has another scale, or
            is given beside degraded images.

    >>> from restore.models import DnCNN
    >>> row = measure(DnCNN(depth=3, features=4), "photos")
    >>> row.set, row.degradation, row.protocol, row.images
    ('photos', 'sigma 25', 'denoise-gray', 4)
    """
    given = _copied(network) if isinstance(network, RestorationNetwork) else load_any(_weights_file(network))
    used = given.network
    if degraded is not None:
        if degradation is not None:
            raise UserError(f"give the degraded images ({degraded}) or a degradation ({degradation.label}), not both")
        degradation = Paired(used.scale)
    degradation = degradation or from_description(given.degradation) or default_degradation(used.scale)
    if degradation.scale != used.scale:
        raise UserError(f"{degradation.label} has scale {degradation.scale}, the network {used.scale}")
    if protocol is not None and protocol not in PROTOCOLS:
        raise UserError(f"protocol must be one of {', '.join(PROTOCOLS)}, not {protocol!r}")
    folder = None if degraded is None else Path(degraded)
    images = find_images(str(data), "test", root or default_root(), folder, used.scale)
    chosen = PROTOCOLS[protocol] if protocol else default_protocol(images, degradation, used.channels)
    name = type(used).__name__ if isinstance(network, RestorationNetwork) else str(network)
    (row,) = measure_rows({name: tiled(used)}, images, degradation, chosen, used.channels)
    return row


def _takes_level(model: Model) -> bool:
    network = model if isinstance(model, RestorationNetwork) else load(model)
    return network.inputs > network.channels


def _weights_file(name: Path | str) -> Path:
    if Path(name).is_file() or Path(name).suffix or isinstance(name, Path):
        return Path(name)
    return bundled.find(name).weights


def _copied(network: RestorationNetwork) -> Weights:
    """A copy in eval mode: the mode and statistics of the caller's network stay as they are."""
    return Weights(copy.deepcopy(network).eval())


def _options(device: str | None, precision: InferencePrecision, tile: Tile, ensemble: bool) -> runner_options.Options:
    return runner_options.Options(device, precision=precision, tile=tile, ensemble=ensemble)


def _restored(
    image: AnyImage, model: Model, scale: int, sigma: float | None, options: runner_options.Options
) -> AnyImage:
    if isinstance(model, RestorationNetwork):
        name = type(model).__name__
        at_scale = model.at(scale) if scale in model.all_scales else model
        runner = runner_options.runner(options, Path(name), _copied(at_scale), default_root())[0]
    else:
        name, path = str(model), _weights_file(model)
        version = path.stat().st_mtime_ns if path.is_file() else 0
        runner = _runner_of((path, version), scale, options)
    if runner.scale != scale:
        raise UserError(f"{name}: upscales by {runner.scale}, not by {scale}")
    told = at_level(runner, None if sigma is None else sigma / 255)
    batch, back = _as_batch(image)
    restored = torch.cat([restore_any(told, one[None].cpu()).cpu() for one in batch])
    result: AnyImage = back(restored)
    return result


@lru_cache(maxsize=KEPT)
def _runner_of(file: tuple[Path, int], scale: int, options: runner_options.Options) -> Runner:
    """The network of a file, of which the time of its last change is a part, ready to run."""
    path, _ = file
    weights = load_any(path)
    several = scale in weights.network.all_scales and scale != weights.network.scale
    weights = load_any(path, scale=scale) if several else weights
    return runner_options.runner(options, path, weights, default_root())[0]


def _content(image: Any) -> Content:
    """What is in an image, or in the one of a batch that needs most."""
    batch, _ = _as_batch(image)
    found = [content(to_pixels(one[None], np.dtype(np.uint16))) for one in batch]
    return max(found, key=CONTENTS.index)


def _as_batch(image: Any) -> tuple[Tensor, Callable[[Tensor], Any]]:
    """(N, 1 or 3, H, W) float32 in [0, 1], and what turns such a tensor into an image like the one given."""
    if isinstance(image, Pillow.Image):
        if image.mode not in ("L", "RGB"):
            raise UserError(f"image: expected a Pillow image of mode L or RGB, not {image.mode}; use image.convert")
        batch, back = _as_batch(np.asarray(image))
        described: dict[Any, Any] = {name: image.info[name] for name in DESCRIBING if name in image.info}

        def to_pillow(restored: Tensor) -> Any:
            made = Pillow.fromarray(back(restored))
            made.info.update(described)
            return made

        return batch, to_pillow
    if isinstance(image, np.ndarray):
        if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (1, 3)):
            raise UserError(f"image: expected an array (H, W) or (H, W, 1 or 3), not {image.shape}")
        planes = image[:, :, None] if image.ndim == 2 else image
        batch = torch.from_numpy(_scaled(planes)).permute(2, 0, 1)[None]

        def to_array(restored: Tensor) -> Any:
            array = restored[0].permute(1, 2, 0).numpy()
            return np.ascontiguousarray(_unscaled(array[:, :, 0] if image.ndim == 2 else array, image.dtype))

        return batch, to_array
    if isinstance(image, Tensor):
        if image.ndim not in (2, 3, 4) or (image.ndim > 2 and image.shape[-3] not in (1, 3)):
            raise UserError(f"image: expected a tensor (H, W), (C, H, W) or (N, C, H, W), not {tuple(image.shape)}")
        array = image.detach().cpu().float().numpy() if image.is_floating_point() else image.cpu().numpy()
        batch = torch.from_numpy(_scaled(array)).view(-1, image.shape[-3] if image.ndim > 2 else 1, *image.shape[-2:])

        def to_tensor(restored: Tensor) -> Any:
            shaped = restored.view(*image.shape[:-2], *restored.shape[-2:])
            return torch.from_numpy(_unscaled(shaped.numpy(), array.dtype)).to(image.device, image.dtype)

        return batch, to_tensor
    raise UserError(f"image: expected a NumPy array, a Pillow image or a tensor, not {type(image).__name__}")


def _scaled(array: Any) -> Any:
    """Float32 in [0, 1], contiguous."""
    if not array.size:
        raise UserError(f"image: is empty, {array.shape}")
    if array.dtype in (np.uint8, np.uint16):
        return np.divide(array, np.iinfo(array.dtype).max, dtype=np.float32)
    if not np.issubdtype(array.dtype, np.floating):
        raise UserError(f"image: expected uint8, uint16 or floats, not {array.dtype}")
    if not np.isfinite(array).all():
        raise UserError("image: holds values that are not finite (NaN or infinity)")
    if (largest := array.max()) > LARGEST_FLOAT:
        full = 255 if largest < 256 else 65535
        raise UserError(
            f"image: floats have values from 0 to 1, found up to {largest:g}: divide by the largest possible value, "
            f"probably {full}"
        )
    return np.ascontiguousarray(array, np.float32)


def _unscaled(array: Any, dtype: Any) -> Any:
    if np.issubdtype(dtype, np.floating):
        return array.clip(0, 1).astype(dtype)
    full = np.iinfo(dtype).max
    return np.floor(array.astype(np.float64) * full + 0.5).clip(0, full).astype(dtype)
