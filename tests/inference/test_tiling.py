"""Tiles against the whole image, and what happens when memory runs out."""

import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from restore.errors import UserError
from restore.images.tensors import quantize
from restore.inference import restore_tensor, tiled, tiling
from restore.models import EDSR, WDSRA, WDSRB, DnCNN, FDnCNN, FFDNet, RestorationNetwork, SRResNet


def randomised(network: RestorationNetwork) -> RestorationNetwork:
    """With statistics and shifts as training leaves them, which zero padding does not go through unchanged."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.1, 0.1)
    return network.eval()


NETWORKS = {
    "DnCNN-batch": lambda: DnCNN(depth=6, features=8),
    "DnCNN-none": lambda: DnCNN(channels=3, depth=6, features=8, norm="none"),
    "DnCNN-downscale": lambda: DnCNN(channels=3, depth=4, features=8, downscale=2),
    "FDnCNN": lambda: FDnCNN(depth=6, features=8),
    "FFDNet": lambda: FFDNet(channels=3, depth=4, features=8),
    "FFDNet-batch": lambda: FFDNet(depth=4, features=8, norm="batch"),
    "EDSR-x2-weight": lambda: EDSR(blocks=2, features=8, scale=2, norm="weight"),
    "EDSR-x3": lambda: EDSR(blocks=2, features=8, scale=3),
    "EDSR-x4-batch": lambda: EDSR(blocks=2, features=8, scale=4, norm="batch"),
    "SRResNet-x4": lambda: SRResNet(blocks=1, features=8, scale=4),
    "WDSR-A-x2": lambda: WDSRA(blocks=2, features=8),
    "WDSR-B-x3-batch": lambda: WDSRB(blocks=2, features=8, scale=3, norm="batch"),
}


@pytest.mark.parametrize("tile", [5, 16, 40])
@pytest.mark.parametrize("network", NETWORKS)
def test_tiles_come_out_as_parts_of_the_whole_image_do(network: str, tile: int) -> None:
    runner = randomised(NETWORKS[network]())
    image = torch.rand(2, runner.inputs, 43, 58)
    whole, parts = restore_tensor(runner, image), restore_tensor(tiled(runner, tile), image)
    assert whole.shape == parts.shape
    assert (whole - parts).abs().max() <= 1e-5
    ties = ((whole * 255) % 1 - 0.5).abs() < 1e-3
    assert torch.equal(quantize(whole)[~ties], quantize(parts)[~ties])


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (200, 3)])
def test_images_of_any_shape_can_be_tiled(size: tuple[int, int]) -> None:
    network = randomised(DnCNN(depth=4, features=4))
    image = torch.rand(1, 1, *size)
    assert (restore_tensor(tiled(network, 10), image) - restore_tensor(network, image)).abs().max() <= 1e-5


@pytest.mark.parametrize("length", [1, 34, 35, 100, 101, 997])
@pytest.mark.parametrize("tile", [1, 10, 64, 2000])
def test_tiles_cover_an_axis_once_and_read_equally_much(length: int, tile: int) -> None:
    spans = list(tiling._spans(length, tile, halo=17))
    made = [place for span in spans for place in range(span.first, span.last)]
    assert made == list(range(length))
    assert len({span.stop - span.start for span in spans}) == 1
    for span in spans:
        assert 0 <= span.start <= max(0, span.first - 17)
        assert min(length, span.last + 17) <= span.stop <= length
        assert span.stop - span.start <= tile + 2 * 17 or len(spans) == 1


class Watched:
    """A runner that notes what it is given, and that has no memory for more than so many pixels."""

    def __init__(self, network: RestorationNetwork, pixels: int, error: Callable[[], Exception]) -> None:
        self.channels, self.scale, self.device = network.channels, network.scale, network.device
        self.inputs, self.multiple_of = network.inputs, network.multiple_of
        self.sizes: list[tuple[int, int]] = []
        self._network = network
        self._pixels = pixels
        self._error = error

    def __call__(self, degraded: Tensor) -> Tensor:
        height, width = degraded.shape[2:]
        self.sizes.append((height, width))
        if height * width > self._pixels:
            raise self._error()
        return self._network(degraded)


def watched(network: RestorationNetwork, pixels: int = 10**9, error: Callable[[], Exception] = MemoryError) -> Watched:
    return Watched(network, pixels, error)


@pytest.fixture
def denoiser() -> RestorationNetwork:
    """Needs 768 bytes a pixel: input, output and normalized output of a layer with 64 features."""
    return randomised(DnCNN(depth=4, features=64))


IMAGE = torch.rand(1, 1, 100, 120, generator=torch.Generator().manual_seed(0))
NEED = 12000 * 768
RESULT = 12000 * 4


@pytest.mark.parametrize(("free", "calls"), [(2 * NEED + RESULT, 1), (2 * NEED, 2), (NEED // 2, 6), (0, 42)])
def test_auto_takes_tiles_that_fit_into_half_of_the_memory_beside_the_result(
    denoiser: RestorationNetwork, free: int, calls: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiling, "free_memory", lambda _: free)
    runner = watched(denoiser)
    restored = restore_tensor(tiled(denoiser, runner=runner), IMAGE)
    assert (restored - restore_tensor(denoiser, IMAGE)).abs().max() <= 1e-5
    assert len(runner.sizes) == calls
    assert len(set(runner.sizes)) == 1
    height, width = runner.sizes[0]
    assert height * width * 768 <= max((free - RESULT) / 2, 24 * 24 * 768)  # 16 and the halo are the least


def test_auto_takes_no_larger_tiles_than_save_work(monkeypatch: pytest.MonkeyPatch) -> None:
    network = randomised(DnCNN(depth=20, features=1))
    image = torch.rand(1, 1, 1500, 1100)
    runner = watched(network)
    monkeypatch.setattr(tiling, "free_memory", lambda _: image.nbytes * 3)
    restored = restore_tensor(tiled(network, runner=runner), image)
    assert (restored - restore_tensor(network, image)).abs().max() <= 1e-5
    assert runner.sizes == [(527, 570)] * 6  # for 30 times the halo of 20 or less, and the halo


def cuda_error() -> Exception:
    return torch.OutOfMemoryError("CUDA out of memory.")


def cpu_error() -> Exception:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60)
    return caught.value


@pytest.mark.parametrize("error", [cuda_error, cpu_error, MemoryError])
def test_running_out_of_memory_halves_the_tiles_and_goes_on(
    denoiser: RestorationNetwork, error: Callable[[], Exception], caplog: pytest.LogCaptureFixture
) -> None:
    runner = watched(denoiser, 45 * 45, error)
    tiles = tiled(denoiser, runner=runner)
    restored = restore_tensor(tiles, IMAGE)
    assert (restored - restore_tensor(denoiser, IMAGE)).abs().max() <= 1e-5
    assert caplog.messages == [f"out of memory: continuing with tiles of {size} pixels" for size in (60, 30)]
    failures = len([size for size in runner.sizes if size[0] * size[1] > 45 * 45])
    assert (failures, len(runner.sizes)) == (2, 2 + 16)

    runner.sizes.clear()
    restore_tensor(tiles, IMAGE)
    assert max(height * width for height, width in runner.sizes) <= 45 * 45


def test_when_not_even_small_tiles_fit_that_is_an_error(denoiser: RestorationNetwork) -> None:
    with pytest.raises(UserError, match="out of memory, even with tiles of 30 pixels"):
        restore_tensor(tiled(denoiser, runner=watched(denoiser, 20 * 20)), IMAGE)


def test_an_image_that_cannot_be_restored_leaves_tiles_of_a_size_that_is_tried(denoiser: RestorationNetwork) -> None:
    runner = watched(denoiser, 0)
    tiles = tiled(denoiser, runner=runner)
    with pytest.raises(UserError, match="out of memory, even with tiles of 30 pixels"):
        restore_tensor(tiles, IMAGE)
    runner._pixels = 10**9  # another program has ended
    runner.sizes.clear()
    restore_tensor(tiles, IMAGE)
    assert len(runner.sizes) == 4 * 4


def test_other_errors_are_none_of_its_business(denoiser: RestorationNetwork) -> None:
    with pytest.raises(RuntimeError, match="cuDNN"):
        restore_tensor(tiled(denoiser, runner=watched(denoiser, 1, lambda: RuntimeError("cuDNN"))), IMAGE)


UNDER_A_LIMIT = """
import resource, torch
from pathlib import Path
from restore.inference import restore_tensor, tiled
from restore.models import DnCNN

network = DnCNN(depth=3, features=64).eval()
image = torch.rand(1, 1, 900, 900)
expected = restore_tensor(tiled(network, 100), image)
size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + 400 * 2**20, size + 400 * 2**20))
try:
    network(image)
except RuntimeError as error:
    print(str(error))
print((restore_tensor(tiled(network), image) - expected).abs().max().item() <= 1e-5)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits memory as Linux does")
def test_a_process_without_memory_for_the_whole_image_restores_it() -> None:
    done = subprocess.run([sys.executable, "-c", UNDER_A_LIMIT], capture_output=True, text=True, check=False)
    assert "can't allocate memory" in done.stdout, done.stderr
    assert done.stdout.endswith("True\n"), done.stderr
    assert "continuing with tiles of 450 pixels" in done.stderr


@pytest.mark.parametrize(("norm", "obstacle"), [
    *((norm, f"{norm} norm") for norm in ("group", "instance", "layer")),
    *((norm, "statistics of each image") for norm in ("adadm", "iln")),
])  # fmt: skip
def test_networks_that_cannot_be_tiled_exactly_say_so(
    norm: str, obstacle: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = DnCNN(depth=4, features=8, norm=norm).eval()
    with pytest.raises(UserError, match=f"because of its {obstacle} .--tile-approximate"):
        tiled(network, 32)
    whole = restore_tensor(network, IMAGE)
    assert torch.equal(restore_tensor(tiled(network), IMAGE), whole)
    difference = restore_tensor(tiled(network, 32, approximate=True), IMAGE) - whole
    assert 1e-5 < difference.abs().max() < 0.5

    monkeypatch.setattr(tiling, "free_memory", lambda _: 2**20)
    with pytest.raises(UserError, match=r"an image of 120x100 does not fit into memory; .* cannot be tiled exactly"):
        restore_tensor(tiled(network), IMAGE)


def test_an_image_that_cannot_be_tiled_and_runs_out_of_memory_is_refused() -> None:
    network = DnCNN(depth=4, features=8, norm="group").eval()
    with pytest.raises(UserError, match="does not fit into memory"):
        restore_tensor(tiled(network, runner=watched(network, 10)), IMAGE)
