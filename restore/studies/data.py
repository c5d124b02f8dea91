"""What the networks of a study are trained, chosen and scored on: three groups of images that share no scene."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from torch import Tensor

from restore.choices import CollectionName
from restore.data.catalog import ImageSet, find_images
from restore.data.degradation import Degradation
from restore.data.pairs import ImagePair, PatchSampler, load_pair
from restore.data.store import StoreSpec, default_cache, open_store
from restore.errors import UserError
from restore.images.tensors import quantize
from restore.inference import Runner, baseline, restore_tensor
from restore.metrics import PROTOCOLS, Protocol
from restore.models import RestorationNetwork

VALIDATION_PHOTOS = 2  # of the collection `photos`, held back from its test images


@dataclass(frozen=True)
class StudyData:
    """The images of a study.

    `papers`: training on Train400 and BSDS500's train and test images (for super-resolution: BSDS500's), scores on
    BSD68 and Set12 (B100 and Set5), and choices, such as that of a learning rate, on four photographs of scikit-image.
    `photos` needs no download: all images are photographs of scikit-image.

    Attributes:
        collection: one of these words.
        root: the folder that holds the data sets; not part of what decides an outcome.
        images: how many images of each test set to use, the first ones, to try the machinery; None: all.
        crop: and only the center of this height and width; None: whole images.
    """

    collection: CollectionName
    root: Path
    images: int | None = None
    crop: int | None = None

    @property
    def identity(self) -> dict[str, str | int | None]:
        """All that decides an outcome, as JSON."""
        return {"collection": self.collection, "images": self.images, "crop": self.crop}

    def train_images(self, scale: int) -> ImageSet:
        """Training images for networks of a scale."""
        if self.collection == "photos":
            return find_images("photos", "train", self.root)
        names = ("BSDS500",) if scale > 1 else ("Train400", "BSDS500")
        sets = [find_images(name, "train", self.root) for name in names]
        return ImageSet("+".join(names), tuple(path for one in sets for path in one.clean), {})

    def test_sets(self, scale: int) -> dict[str, ImageSet]:
        """Test images by the name of their set; the first is the one that decides."""
        if self.collection == "photos":
            photos = find_images("photos", "test", self.root)
            return {"photos": ImageSet("photos", photos.clean[VALIDATION_PHOTOS:], {}).first(self.images)}
        names = ("B100", "Set5") if scale > 1 else ("BSD68", "Set12")
        return {name: find_images(name, "test", self.root).first(self.images) for name in names}

    def check(self) -> None:
        """Look for all images, so that what is missing is said before anything is trained.

        Raises:
            UserError: a data set is missing or incomplete.
        """
        for scale in (1, 2):
            self.train_images(scale)
            self.test_sets(scale)
        self.validation_images()

    def validation_images(self) -> ImageSet:
        """Images on which settings are chosen; they are in no test set and no training set."""
        photos = find_images("photos", "test", self.root)
        return photos.first(VALIDATION_PHOTOS) if self.collection == "photos" else photos.first(self.images)

    def sampler(
        self, network: RestorationNetwork, patch_size: int, batch_size: int, seed: int, images: int | None = None
    ) -> PatchSampler:
        """Training patches for a network, from the first `images` images only, or from all."""
        spec = StoreSpec(network.channels, network.scale)
        store = open_store(self.train_images(network.scale).first(images), spec, default_cache())
        return PatchSampler(store, patch_size, batch_size, seed)

    def test_pairs(self, degradation: Degradation, channels: int) -> dict[str, list[ImagePair]]:
        """Degraded and clean test images by their set, the noise of each always the same."""
        sets = self.test_sets(degradation.scale)
        return {name: _pairs(images, degradation, channels, self.crop) for name, images in sets.items()}

    def validation_pairs(self, degradation: Degradation, channels: int) -> list[ImagePair]:
        """Degraded and clean validation images."""
        return _pairs(self.validation_images(), degradation, channels, self.crop)


# Processes that train and score many networks read and degrade each image once.
@cache
def _pairs_of(
    paths: tuple[Path, ...], name: str, degradation: Degradation, channels: int, crop: int | None
) -> list[ImagePair]:
    images = ImageSet(name, paths, {})
    pairs = [load_pair(images, index, degradation, channels) for index in range(len(paths))]
    return pairs if crop is None else [_center(pair, crop, degradation.scale) for pair in pairs]


def _pairs(images: ImageSet, degradation: Degradation, channels: int, crop: int | None) -> list[ImagePair]:
    # Published low-resolution images are left aside: `imresize` makes the same, and Set5 has no x3.
    return _pairs_of(images.clean, images.name, degradation, channels, crop)


def _center(pair: ImagePair, crop: int, scale: int) -> ImagePair:
    size = crop // scale
    height, width = pair.degraded.shape[-2:]
    if min(height, width) < size:
        raise UserError(f"{pair.name}: {width}x{height} pixels, smaller than a crop of {size}x{size}")
    top, left = (height - size) // 2, (width - size) // 2
    degraded = pair.degraded[..., top : top + size, left : left + size]
    top, left, full = top * scale, left * scale, size * scale
    return ImagePair(pair.name, degraded, pair.clean[..., top : top + full, left : left + full])


def scores(runner: Runner | None, pairs: list[ImagePair], scale: int) -> list[float]:
    """PSNR (dB) of each image under the papers' protocol: `denoise-gray`, `denoise-rgb` or `sr-y`.

    Args:
        runner: a network in eval mode or what runs one; None: the degraded image itself, enlarged bicubically if
            `scale` is not 1.
        pairs: of a test set.
        scale: of the super-resolution, or 1.

    Returns:
        One number for each image; 0 if what was restored is not finite.
    """
    if runner is None:
        return [_protocol(pair, scale).psnr(baseline(pair.degraded, scale), pair.clean, scale) for pair in pairs]
    return [score(restore_tensor(runner, pair.degraded.to(runner.device)), pair, scale) for pair in pairs]


def score(restored: Tensor, pair: ImagePair, scale: int) -> float:
    """PSNR (dB) of one restored image, float of shape (1, C, H, W) in [0, 1], under the same protocols; 0 if it is not
    finite."""
    if not restored.isfinite().all():
        return 0.0
    return _protocol(pair, scale).psnr(quantize(restored).cpu(), pair.clean, scale)


def _protocol(pair: ImagePair, scale: int) -> Protocol:
    gray = pair.clean.shape[1] == 1
    return PROTOCOLS["sr-y" if scale > 1 else "denoise-gray" if gray else "denoise-rgb"]
