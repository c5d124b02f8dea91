"""What is measured of trained networks: (network in eval mode, its experiment, data, seed) -> JSON."""

import base64
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import skimage
import torch
from torch import Tensor

from restore.data.catalog import find_images
from restore.data.degradation import Degradation, GaussianNoise
from restore.data.pairs import Pair, PatchSampler, make_pair
from restore.data.random import seeded
from restore.data.store import StoreSpec, default_cache, open_store
from restore.images.color import with_channels
from restore.images.io import read_image, to_uint8
from restore.images.tensors import quantise, to_image, to_tensor
from restore.models import RestorationNetwork
from restore.models.fold import fold
from restore.studies.experiment import Bench, Experiment, mean_psnr, scores
from restore.studies.figures import Crops
from restore.studies.probes import dead_features, equivariance_error, recalibrate, scale_invariance

CONTRASTS = (0.25, 0.5, 1.0, 1.5, 2.0)
SHIFT = 0.2
SIGMAS = (15.0, 25.0, 50.0)
RECALIBRATION_BATCHES = 32
OTHER_DOMAINS = {"text": ("page.png",), "microscopy": ("cell.png",)}  # of scikit-image, never trained on
WEIGHT_FACTOR = 10.0
SAMPLE = 48  # height and width of what a reader is shown of a test crop


def contrast(network: RestorationNetwork, experiment: Experiment, bench: Bench, _: int) -> dict[str, Any]:
    """Equivariance error and PSNR (dB) of test crops of other contrast, and of brighter ones."""
    crops = bench.test_crops(experiment.degradation, network.channels)
    result: dict[str, Any] = {"error": {}, "psnr": {}}
    for factor in CONTRASTS:
        result["error"][str(factor)] = equivariance_error(network, crops.degraded, factor)
        clean = crops.clean * factor
        degraded = _again(experiment.degradation, clean)
        with torch.no_grad():
            restored = network(degraded)
        error = (restored - clean).square().flatten(1).mean(1)
        result["psnr"][str(factor)] = (-10 * error.log10()).mean().item()  # not quantised: 2 x is beyond 8 bits
    result["shift_error"] = equivariance_error(network, crops.degraded, 1.0, SHIFT)
    return result


def dead(network: RestorationNetwork, experiment: Experiment, bench: Bench, _: int) -> float:
    """The share of features that are dead on the test crops, in percent."""
    return 100 * dead_features(network, bench.test_crops(experiment.degradation, network.channels).degraded)


def denoising(network: RestorationNetwork, _: Experiment, bench: Bench, __: int) -> dict[str, float]:
    """PSNR (dB) of the test crops at each of SIGMAS."""
    noises = {sigma: bench.test_crops(GaussianNoise(sigma), network.channels) for sigma in SIGMAS}
    return {f"{sigma:g}": scores(network, crops)[0] for sigma, crops in noises.items()}


def invariance(network: RestorationNetwork, experiment: Experiment, bench: Bench, seed: int) -> dict[str, float]:
    """How exactly BN(a W u) = BN(W u), and the gradient's factor times a, on a training batch."""
    pair = _training_pair(network, experiment, experiment.degradation, bench, seed, 0)
    output, gradient = scale_invariance(network, pair.degraded, WEIGHT_FACTOR)
    return {"output": output, "gradient": gradient}


def recalibrated(network: RestorationNetwork, experiment: Experiment, bench: Bench, seed: int) -> dict[str, Any]:
    """PSNR (dB) with the statistics of training, and with exact ones: at home and in other domains."""
    domains: dict[str, tuple[Callable[[int], Pair], Pair]] = {
        "training": (
            partial(_training_pair, network, experiment, experiment.degradation, bench, seed),
            bench.test_crops(experiment.degradation, network.channels),
        ),
        "sigma 50": (
            partial(_training_pair, network, experiment, GaussianNoise(50.0), bench, seed),
            bench.test_crops(GaussianNoise(50.0), network.channels),
        ),
    }
    for name, files in OTHER_DOMAINS.items():
        pair = _photographs(files, experiment, network.channels)
        domains[name] = (partial(_always, pair), pair)
    trained = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    result = {}
    for name, (batches, test) in domains.items():
        network.load_state_dict(trained)
        before = scores(network, test)[0]
        recalibrate(network, [batches(step).degraded for step in range(RECALIBRATION_BATCHES)])
        network.eval()
        result[name] = {"as trained": before, "recalibrated": scores(network, test)[0]}
    return result


def folding(network: RestorationNetwork, experiment: Experiment, bench: Bench, _: int) -> dict[str, float]:
    """Largest difference that folding batch norm into the convolutions makes, in [0, 1], in float64."""
    crops = bench.test_crops(experiment.degradation, network.channels)
    network.double()
    with torch.no_grad():
        plain, merged = network(crops.degraded.double()), fold(network)(crops.degraded.double())
    return {"largest difference": (plain - merged).abs().max().item()}


def sample(network: RestorationNetwork, experiment: Experiment, bench: Bench, _: int) -> dict[str, Any]:
    """The middle of one test crop before, after and clean, as PNG in base 64, and the PSNR (dB) of after.

    Of the test crops, the one whose middle varies most, where there is something to see.
    """
    crops = bench.test_crops(experiment.degradation, network.channels)
    middles = _middle(crops.clean, SAMPLE)
    most = int(middles.flatten(1).std(1).argmax())
    clean, degraded = middles[most, None], crops.degraded[most, None]
    with torch.no_grad():
        restored = _middle(network(degraded), SAMPLE)
    degraded = _middle(degraded, SAMPLE // network.scale)
    pictures = {name: _png(images) for name, images in (("before", degraded), ("after", restored), ("clean", clean))}
    return pictures | {"psnr": mean_psnr(restored, clean)}


def before_and_after(title: str, before: str, samples: Mapping[str, Sequence[Any]]) -> list[Crops]:
    """What `sample` saw of the first seed: before, after by each network, clean. Nothing if every network diverged."""
    seen = {name: found[0] for name, found in samples.items() if found[0] is not None}
    if not seen:
        return []
    after = {f"{name}\n{one['psnr']:.2f} dB": one["after"] for name, one in seen.items()}
    shared = next(iter(seen.values()))
    return [Crops(title, {before: shared["before"], **after, "clean": shared["clean"]})]


Measure = Callable[[RestorationNetwork, Experiment, Bench, int], Any]
MEASUREMENTS: dict[str, Measure] = {
    measure.__name__: measure for measure in (contrast, dead, denoising, invariance, recalibrated, folding, sample)
}


def _training_pair(
    network: RestorationNetwork,
    experiment: Experiment,
    degradation: Degradation,
    bench: Bench,
    seed: int,
    step: int,
) -> Pair:
    images = find_images(bench.train, "train", bench.root)
    store = open_store(images, StoreSpec(network.channels, network.scale), default_cache())
    sampler = PatchSampler(store, experiment.patch_size, experiment.batch_size, seed)
    return make_pair(sampler.batch(step), degradation, seeded(seed, step))


def _always(pair: Pair, _: int) -> Pair:
    return pair


def _photographs(files: tuple[str, ...], experiment: Experiment, channels: int) -> Pair:
    """Centres, 128x128, of scikit-image's pictures."""
    folder = Path(skimage.__file__).parent / "data"
    clean = [_middle(to_tensor(with_channels(to_uint8(read_image(folder / file)), channels)), 128) for file in files]
    images = torch.cat(clean)
    return Pair(_again(experiment.degradation, images), images)


def _again(degradation: Degradation, clean: Tensor) -> Tensor:
    return degradation(clean, seeded(0))


def _middle(images: Tensor, size: int) -> Tensor:
    size = min(size, *images.shape[-2:])
    top, left = ((length - size) // 2 for length in images.shape[-2:])
    return images[..., top : top + size, left : left + size]


def _png(images: Tensor) -> str:
    pixels = to_image(quantise(images))
    return base64.b64encode(cv2.imencode(".png", pixels[:, :, ::-1])[1].tobytes()).decode()
