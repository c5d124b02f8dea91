"""Which networks are bundled, by whose recipe they were trained, on what they are measured, and which one to take."""

from dataclasses import dataclass, replace
from pathlib import Path

from restore.benchmark import baseline_name, default_protocol, measure
from restore.data.catalog import find_images
from restore.data.degradation import Bicubic, Degradation, GaussianNoise, Jpeg, RealNoise
from restore.errors import UserError, nearest
from restore.images.content import Content
from restore.inference import Runner
from restore.metrics import Row
from restore.models import Norm

FOLDER = Path(__file__).resolve().parent
SIGMA_MAX = 55.0  # up to which the blind denoisers are trained
FOR_LEVEL: dict[float | None, str] = {25.0: "dncnn-gray-25"}  # denoisers of gray images for one known level


@dataclass(frozen=True)
class Test:
    """A test set under a degradation.

    Attributes:
        published: PSNR (dB) of the paper's network, or of the same network trained on DIV2K, under the same protocol.
    """

    set: str
    degradation: Degradation
    published: float | None = None


@dataclass(frozen=True)
class BundledModel:
    """A network that comes with the package once it is trained.

    Attributes:
        task: in words.
        network: its class.
        channels, scale: of the network.
        recipe: its configuration, by name.
        paper_recipe: that of the paper.
        tests: on what it is measured; the last needs no download.
        norm: which it must have; None for any.
    """

    name: str
    task: str
    network: str
    channels: int
    scale: int
    recipe: str
    paper_recipe: str
    tests: tuple[Test, ...]
    norm: Norm | None = None

    @property
    def weights(self) -> Path:
        return FOLDER / f"{self.name}.safetensors"

    @property
    def card(self) -> Path:
        return FOLDER / f"{self.name}.md"


def _noise(name: str, levels: dict[float, float | None]) -> tuple[Test, ...]:
    return tuple(Test(name, GaussianNoise(sigma), published) for sigma, published in levels.items())


def _jpeg(name: str, qualities: dict[int, float | None]) -> tuple[Test, ...]:
    return tuple(Test(name, Jpeg(quality), published) for quality, published in qualities.items())


def _enlarging(scale: int, published: float | None) -> tuple[Test, ...]:
    first = Test("Set5", Bicubic(scale), published)
    return first, *(Test(name, Bicubic(scale)) for name in ("Set14", "B100", "photos"))


_GRAY_25 = (*_noise("BSD68", {25.0: 29.23}), *_noise("Set12", {25.0: 30.44}), *_noise("photos", {25.0: None}))
_GRAY_25_WITHOUT_NORM = tuple(replace(test, published=None) for test in _GRAY_25)  # the paper's network has batch norm
_GRAY_BLIND = (
    *_noise("BSD68", {15.0: 31.61, 25.0: 29.16, 50.0: 26.23}),
    *_noise("Set12", {15.0: 32.68, 25.0: 30.36, 50.0: 27.21}),
    *_noise("photos", {25.0: None}),
)
_COLOR_REAL = tuple(Test(name, RealNoise(sigma=25.0, quality=95)) for name in ("Kodak24", "photos"))
_DEBLOCKING = (
    *_jpeg("classic5", {10: 29.40, 20: 31.63, 30: 32.91, 40: 33.77}),
    *_jpeg("LIVE1", {10: 29.19, 20: 31.59, 30: 32.98, 40: 33.96}),
    *_jpeg("photos", {10: None}),
)
_COLOR_BLIND = (
    *_noise("CBSD68", {15.0: 33.89, 25.0: 31.23, 50.0: 27.92}),
    *_noise("Kodak24", {15.0: None, 25.0: None, 50.0: None}),
    *_noise("photos", {25.0: None}),
)


def _dncnn_gray_25(name: str, norm: Norm | None) -> BundledModel:
    task, tests = "denoise gray images, sigma 25", _GRAY_25_WITHOUT_NORM if norm == "none" else _GRAY_25
    return BundledModel(name, task, "DnCNN", 1, 1, "dncnn_gray_25_fast", "dncnn_gray_25", tests, norm)


def _edsr(scale: int, published: float | None, ending: str = "", norm: Norm = "none") -> BundledModel:
    recipe = f"edsr_baseline_x{scale}"
    task, tests = f"enlarge {scale} times", _enlarging(scale, published)
    return BundledModel(
        f"edsr-baseline-x{scale}{ending}", task, "EDSR", 3, scale, f"{recipe}_fast", recipe, tests, norm
    )


MODELS: dict[str, BundledModel] = {
    model.name: model
    for model in (
        _dncnn_gray_25("dncnn-gray-25", None),
        BundledModel(
            "dncnn-gray-blind", "denoise gray images, sigma 0 to 55", "DnCNN", 1, 1, "dncnn_small", "dncnn_blind",
            _GRAY_BLIND,
        ),
        BundledModel(
            "dncnn-color-blind", "denoise color images, sigma 0 to 55", "DnCNN", 3, 1, "cdncnn_small",
            "cdncnn_blind", _COLOR_BLIND,
        ),
        BundledModel(
            "dncnn-color-real", "denoise color photographs as cameras and JPEG leave them", "DnCNN", 3, 1,
            "cdncnn_real_small", "cdncnn_blind", _COLOR_REAL,
        ),
        BundledModel(
            "dncnn3", "remove noise, the blur of enlargement and JPEG artifacts from gray images", "DnCNN", 1, 1,
            "dncnn3_small", "dncnn3", _DEBLOCKING,
        ),
        _edsr(2, 37.99),
        _edsr(3, None),
        _edsr(4, 32.09),
        _dncnn_gray_25("dncnn-gray-25-nobn", "none"),
        _edsr(2, None, "-bn", "batch"),
    )
}  # fmt: skip


def available() -> list[BundledModel]:
    """The models whose weights are in the package, in the order of `MODELS`."""
    return [model for model in MODELS.values() if model.weights.is_file()]


def find(name: str) -> BundledModel:
    """The bundled model of this name, or the only one whose name begins so.

    Raises:
        UserError: no such model, several, or its weights are not in the package.
    """
    names = [name] if name in MODELS else [each for each in MODELS if each.startswith(name)]
    if not names:
        raise UserError(f"{name}: unknown model{nearest(name, MODELS)}; {_bundled()}")
    if len(names) > 1:
        raise UserError(f"{name}: the beginning of several models: {', '.join(names)}")
    model = MODELS[names[0]]
    if not model.weights.is_file():
        raise UserError(f"{model.name}: not included in the package; {_bundled()}")
    return model


def denoiser(sigma: float | None, content: Content, fast: bool = False) -> BundledModel:
    """The network for noise of `sigma` (0-255; None: not known) on images of that content.

    Gray images with sigma 25 have a network of their own, all other networks estimate the level. Images in color whose
    chroma JPEG has smoothed have one as well. With `fast`, gray images of any level have one of a fifth of the work.

    Raises:
        UserError: no bundled network is trained for it.
    """
    if sigma is not None and not 0 <= sigma <= SIGMA_MAX:
        raise UserError(f"the bundled networks are trained for sigma 0 to {SIGMA_MAX:g}, not {sigma:g}")
    if content == "gray" and sigma in FOR_LEVEL and not fast:
        return find(FOR_LEVEL[sigma])
    if content == "gray":
        return find("dncnn-gray-blind")
    return find("dncnn-color-blind" if content == "color" else "dncnn-color-real")


def deblocker() -> BundledModel:
    """The network that removes what JPEG compression adds.

    Raises:
        UserError: it is not bundled yet.
    """
    if not MODELS["dncnn3"].weights.is_file():
        raise UserError(f"--dejpeg: its network, dncnn3, is not trained yet; {_bundled()}")
    return MODELS["dncnn3"]


def upscaler(scale: int) -> BundledModel:
    """The network that enlarges images of any kind `scale` times.

    Raises:
        UserError: none is bundled for that scale.
    """
    return find(f"edsr-baseline-x{scale}")


def measure_bundled(model: BundledModel, runner: Runner, root: Path) -> list[Row]:
    """The rows of a model's tests, the baseline's before its own.

    Raises:
        UserError: a test set is missing.
    """
    rows = []
    for test in model.tests:
        images = find_images(test.set, "test", root)
        protocol = default_protocol(images, test.degradation, model.channels)
        models = {baseline_name(test.degradation): None, model.name: runner}
        rows += measure(models, images, test.degradation, protocol, model.channels)
    return rows


def _bundled() -> str:
    names = ", ".join(model.name for model in available())
    return f"bundled: {names or 'none'}; --weights takes any weights file"
