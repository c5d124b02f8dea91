"""What is measured of trained networks: (network in eval mode, its experiment, data, seed) -> JSON."""

import base64
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import skimage
import torch
from torch import Tensor

from restore.data.degradation import Degradation, GaussianNoise
from restore.data.pairs import ImagePair, make_pair
from restore.data.random import seeded
from restore.images.color import with_channels
from restore.images.io import read_image
from restore.images.pixels import to_uint8
from restore.images.tensors import as_tensor, quantize, to_image
from restore.inference import restore_tensor
from restore.metrics import psnr
from restore.models import RestorationNetwork
from restore.models.fold import fold
from restore.studies.data import StudyData, score, scores
from restore.studies.experiment import Experiment
from restore.studies.figures import Crops
from restore.studies.probes import equivariance_error, recalibrate, scale_invariance
from restore.studies.probes_over_time import worst_block

CONTRASTS = (0.25, 0.5, 0.75, 1.0, 1.25)
SIGMAS = (5.0, 10.0, 15.0, 25.0, 35.0, 50.0, 75.0)
RECALIBRATION_BATCHES = 32
# Images of scikit-image whose content is far from photographs; never trained on.
OTHER_DOMAINS = {"text": ("page.png",), "microscopy": ("cell.png",)}
DOMAIN_CROP = 128
WEIGHT_FACTOR = 10.0
SAMPLE = 48  # height and width of what a reader is shown of a test image


def contrast(network: RestorationNetwork, experiment: Experiment, data: StudyData, _: int) -> dict[str, Any]:
    """What becomes of f(a x) = a f(x), by contrast a, on the deciding test set.

    The input as a whole is multiplied, its noise included, so that a network in proportion has nothing to learn anew.
    `error`: |f(a x) - a f(x)| / |a f(x)|, the mean over the images; `psnr`: dB of f(a x) / a against the clean image
    under the test set's protocol, one number for each image.
    """
    pairs = _deciding(data, experiment.degradation, network.channels)
    result: dict[str, Any] = {"error": {}, "psnr": {}}
    for factor in CONTRASTS:
        errors, psnrs = [], []
        for pair in pairs:
            degraded = pair.degraded.expand(-1, network.channels, -1, -1)
            errors.append(equivariance_error(network, degraded, factor))
            psnrs.append(score(restore_tensor(network, factor * pair.degraded) / factor, pair, network.scale))
        result["error"][str(factor)] = sum(errors) / len(errors)
        result["psnr"][str(factor)] = _short(psnrs)
    return result


def denoising(network: RestorationNetwork, _: Experiment, data: StudyData, __: int) -> dict[str, list[float]]:
    """PSNR (dB) of each image of the deciding test set at each of SIGMAS."""
    return {
        f"{sigma:g}": [round(value, 4) for value in scores(network, pairs, 1)]
        for sigma in SIGMAS
        for pairs in [_deciding(data, GaussianNoise(sigma), network.channels)]
    }


def invariance(network: RestorationNetwork, experiment: Experiment, data: StudyData, seed: int) -> dict[str, float]:
    """How exactly BN(a W u) = BN(W u), and the gradient's factor times a, on a training batch, eps next to nothing."""
    degraded = _training_batch(network, experiment, experiment.degradation, data, seed, 0)
    output, gradient = scale_invariance(network, degraded, WEIGHT_FACTOR)
    return {"output": output, "gradient": gradient}


def recalibrated(network: RestorationNetwork, experiment: Experiment, data: StudyData, seed: int) -> dict[str, Any]:
    """PSNR (dB, one number for each image) with the statistics of training, and with exact ones: at home and elsewhere.

    In other domains the statistics are taken from the very images that are then restored.
    """
    domains: dict[str, tuple[Degradation, list[ImagePair]]] = {
        "training": (experiment.degradation, _deciding(data, experiment.degradation, network.channels)),
        "sigma 50": (GaussianNoise(50.0), _deciding(data, GaussianNoise(50.0), network.channels)),
    }
    for name, files in OTHER_DOMAINS.items():
        domains[name] = (experiment.degradation, _photographs(files, experiment.degradation, network.channels))
    trained = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    result = {}
    for name, (degradation, pairs) in domains.items():
        network.load_state_dict(trained)
        before = scores(network, pairs, network.scale)
        if name in OTHER_DOMAINS:
            batches = [pair.degraded for pair in pairs]
        else:
            batches = [
                _training_batch(network, experiment, degradation, data, seed, step)
                for step in range(RECALIBRATION_BATCHES)
            ]
        recalibrate(network, batches)
        network.eval()
        after = scores(network, pairs, network.scale)
        result[name] = {"as trained": _short(before), "recalibrated": _short(after)}
    return result


def blocks(network: RestorationNetwork, experiment: Experiment, data: StudyData, _: int) -> list[float]:
    """PSNR (dB) of the worst 16x16 block of each image of the deciding test set."""
    return _short([worst_block(network, pair) for pair in _deciding(data, experiment.degradation, network.channels)])


def folding(network: RestorationNetwork, experiment: Experiment, data: StudyData, _: int) -> dict[str, float]:
    """Largest difference that folding batch norm into the convolutions makes, in [0, 1], in float64."""
    degraded = _deciding(data, experiment.degradation, network.channels)[0].degraded.double()
    network.double()
    with torch.no_grad():
        plain, merged = network(degraded), fold(network)(degraded)
    return {"largest difference": (plain - merged).abs().max().item()}


def sample(network: RestorationNetwork, experiment: Experiment, data: StudyData, _: int) -> dict[str, Any]:
    """The middle of one test image before, after and clean, as PNG in base 64, and the PSNR (dB) of after.

    Of the test images, the one whose middle varies most, where there is something to see.
    """
    pairs = _deciding(data, experiment.degradation, network.channels)
    spread = [_middle(pair.clean.float(), SAMPLE).std().item() for pair in pairs]
    pair = pairs[spread.index(max(spread))]
    with torch.no_grad():
        restored = _middle(network(pair.degraded.expand(-1, network.channels, -1, -1)), SAMPLE)
    clean = _middle(pair.clean, SAMPLE)
    pictures = {
        "before": _png(quantize(_middle(pair.degraded, SAMPLE // network.scale))),
        "after": _png(quantize(restored)),
        "clean": _png(clean),
    }
    return pictures | {"psnr": psnr(quantize(restored), clean.expand_as(restored)).item()}


def before_and_after(title: str, before: str, samples: Mapping[str, Sequence[Any]]) -> list[Crops]:
    """What `sample` saw of the first seed: before, after by each network, clean. Nothing if every network failed."""
    seen = {name: found[0] for name, found in samples.items() if found[0] is not None}
    if not seen:
        return []
    after = {f"{name}\n{one['psnr']:.2f} dB": one["after"] for name, one in seen.items()}
    shared = next(iter(seen.values()))
    return [Crops(title, {before: shared["before"], **after, "clean": shared["clean"]})]


Measure = Callable[[RestorationNetwork, Experiment, StudyData, int], Any]
MEASUREMENTS: dict[str, Measure] = {
    measure.__name__: measure for measure in (contrast, denoising, invariance, recalibrated, blocks, folding, sample)
}


def _deciding(data: StudyData, degradation: Degradation, channels: int) -> list[ImagePair]:
    """The images of the test set that decides."""
    return next(iter(data.test_pairs(degradation, channels).values()))


def _training_batch(
    network: RestorationNetwork, experiment: Experiment, degradation: Degradation, data: StudyData, seed: int, step: int
) -> Tensor:
    """Degraded patches (N, C, S, S)."""
    sampler = data.sampler(network, experiment.patch_size, experiment.batch_size, seed, experiment.images)
    return make_pair(sampler.batch(step), degradation, seeded(seed, step)).degraded


def _photographs(files: tuple[str, ...], degradation: Degradation, channels: int) -> list[ImagePair]:
    """Centers of scikit-image's pictures."""
    folder = Path(skimage.__file__).parent / "data"
    pairs = []
    for file in files:
        clean = _middle(as_tensor(with_channels(to_uint8(read_image(folder / file)), channels)), DOMAIN_CROP)
        pairs.append(ImagePair(file, degradation(clean.float() / 255, seeded(0)), clean))
    return pairs


def _short(values: Sequence[float]) -> list[float]:
    return [round(value, 4) for value in values]


def _middle(images: Tensor, size: int) -> Tensor:
    size = min(size, *images.shape[-2:])
    top, left = ((length - size) // 2 for length in images.shape[-2:])
    return images[..., top : top + size, left : left + size]


def _png(pixels: Tensor) -> str:
    """(1, C, H, W) uint8 as PNG in base 64."""
    return base64.b64encode(cv2.imencode(".png", to_image(pixels)[:, :, ::-1])[1].tobytes()).decode()
