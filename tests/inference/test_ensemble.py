"""The mean over turns and reflections, against numpy's and in exact arithmetic."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from restore.inference import Ensemble, tiled
from restore.models import EDSR


class Lopsided:
    """Doubles an image in whole numbers, differently along each axis: what orientation it was in can be told."""

    channels = inputs = 1
    multiple_of = 1
    scale = 2
    device = torch.device("cpu")

    def __call__(self, degraded: Tensor) -> Tensor:
        doubled = torch.nn.functional.interpolate(degraded, scale_factor=2)
        kernel = torch.tensor([[1.0, 2, 0], [-3, 5, 7], [0, 11, -4]])
        return torch.nn.functional.conv2d(doubled, kernel[None, None], padding=1)


def orientations(image: Tensor) -> Iterator[Tensor]:
    for turns in range(4):
        turned = torch.from_numpy(np.rot90(image.numpy(), turns, (2, 3)).copy())
        yield from (turned, turned.flip(2))


IMAGE = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 1, 5, 8)).astype(np.float32))


def test_it_is_the_mean_of_eight_results_each_turned_back() -> None:
    runner = Lopsided()
    found = []
    for turns in range(4):
        turned = np.rot90(IMAGE.numpy(), turns, (2, 3)).copy()
        found.append(np.rot90(runner(torch.from_numpy(turned)).numpy(), -turns, (2, 3)))
        mirrored = np.flip(turned, 3).copy()
        found.append(np.rot90(np.flip(runner(torch.from_numpy(mirrored)).numpy(), 3), -turns, (2, 3)))
    assert len({array.tobytes() for array in found}) == 8
    np.testing.assert_array_equal(Ensemble(runner)(IMAGE).numpy(), np.mean(found, axis=0))


def test_a_turned_image_gives_the_turned_result_exactly() -> None:
    assert not torch.equal(Lopsided()(IMAGE.flip(2)), Lopsided()(IMAGE).flip(2))
    results = orientations(Ensemble(Lopsided())(IMAGE))
    for image, result in zip(orientations(IMAGE), results, strict=True):
        assert torch.equal(Ensemble(Lopsided())(image), result)


@pytest.mark.parametrize("scale", [2, 3])
def test_it_can_be_tiled(scale: int) -> None:
    network = EDSR(features=4, blocks=1, scale=scale).eval()
    image = torch.rand(1, 3, 30, 41)
    with torch.inference_mode():
        whole = Ensemble(network)(image)
        assert (tiled(network, 9, runner=Ensemble(network))(image) - whole).abs().max() <= 1e-5
