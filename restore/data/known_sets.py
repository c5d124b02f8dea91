"""The table of known data sets: where each lies, where it comes from, and what it holds when it is complete.

To add a test set, add its line to `SETS`.
"""

from dataclasses import dataclass, replace
from typing import Literal

from restore.data.sources import Archive, Folder, Mirror

Split = Literal["train", "test"]
Size = tuple[int, int]  # (width, height)


@dataclass(frozen=True)
class Layout:
    """Where a data set lies below the root: folders (or files) of clean images, and of `X{scale}` LR images, or of
    `noisy` ones of the same size.

    `scenes`, if any, are the stems of those images that belong to it; `files`, if any, the names of all.
    """

    clean: tuple[str, ...]
    lr: str | None = None
    noisy: str | None = None
    scenes: frozenset[str] = frozenset()
    files: tuple[str, ...] = ()


@dataclass(frozen=True)
class Part:
    """What a split of a data set holds.

    Attributes:
        layouts: where it may lie; the first that exists is taken.
        images: how many there are.
        sizes: the only ones that occur; empty if they are not known.
        long_side: the least number of pixels of the longer side.
        pixels: `sha256` of the decoded reference copy (see `verification.fingerprint`); empty if it is not known.
    """

    layouts: tuple[Layout, ...]
    images: int
    sizes: frozenset[Size] = frozenset()
    long_side: int = 1
    pixels: str = ""


@dataclass(frozen=True)
class KnownSet:
    """All that is known of a data set.

    Attributes:
        parts: its splits.
        archives: what can be downloaded; empty if there is no archive.
        page: where people find it.
        folders: further ones that only the user can bring, such as published low-resolution or noisy images.
        made_from: the data set that it is computed from.
    """

    parts: dict[Split, Part]
    archives: tuple[Archive, ...]
    page: str
    folders: tuple[Folder, ...] = ()
    made_from: str = ""

    @property
    def all_folders(self) -> tuple[Folder, ...]:
        return (*(folder for archive in self.archives for folder in archive.folders), *self.folders)


# The scenes of BSD68, among those of BSDS500's val, in the order of its names.
BSD68 = (
    101085, 101087, 102061, 103070, 105025, 106024, 108005, 108070, 108082, 109053, 119082, 12084, 123074, 126007,
    130026, 134035, 14037, 143090, 145086, 147091, 148026, 148089, 157055, 159008, 160068, 16077, 163085, 167062,
    167083, 170057, 175032, 175043, 182053, 189080, 19021, 196073, 197017, 208001, 210088, 21077, 216081, 219090,
    220075, 223061, 227092, 229036, 236037, 24077, 241004, 241048, 253027, 253055, 260058, 271035, 285079, 291000,
    295087, 296007, 296059, 299086, 300091, 302008, 304034, 304074, 306005, 3096, 33039, 351093,
)  # fmt: skip

# BSDS500's val is B100 and holds the scenes of BSD68: training uses train and test.
_BSDS500_ROOTS = ("BSDS500/data/images", "BSR/BSDS500/data/images", "BSDS500/images", "BSDS500")
_BSDS500_VAL = tuple(Layout((f"{root}/val",)) for root in _BSDS500_ROOTS)
_BSDS500_VAL_68 = tuple(replace(layout, scenes=frozenset(map(str, BSD68))) for layout in _BSDS500_VAL)

# Photographs inside the scikit-image package: real images that need no download. No scene is in both parts.
PHOTOS: dict[Split, tuple[str, ...]] = {
    "train": (
        "astronaut.png", "brick.png", "coins.png", "grass.png", "gravel.png", "hubble_deep_field.jpg", "ihc.png",
        "moon.png", "motorcycle_left.png", "motorcycle_right.png", "retina.jpg", "text.png",
    ),
    "test": ("camera.png", "chelsea.png", "coffee.png", "rocket.jpg"),
}  # fmt: skip

_DIV2K = "https://data.vision.ee.ethz.ch/cvl/DIV2K/"


def _div2k(name: str, size: int, sha256: str) -> Archive:
    """`DIV2K_train_HR.zip` holds the folder of that name, `DIV2K_train_LR_bicubic_X2.zip` X2 below such a folder."""
    file = f"DIV2K_{name}"
    folder = file.replace("_X", "/X")
    images = 800 if "train" in name else 100
    mirror = Mirror(f"{_DIV2K}{file}.zip", size, f"sha256:{sha256}")
    return Archive((mirror,), (Folder(f"DIV2K/{folder}", images, (folder, file)),))


def _benchmark_layouts(name: str) -> tuple[Layout, ...]:
    return Layout((f"{name}/HR",), f"{name}/LR_bicubic"), Layout((name,))


def _benchmark(
    name: str, images: int, sizes: frozenset[Size] = frozenset(), *, pixels: str = "", digest: str = ""
) -> KnownSet:
    """A super-resolution test set: the originals from an archive, low-resolution images from the user."""
    page = f"https://huggingface.co/datasets/eugenesiow/{name}"
    mirror = Mirror(f"{page}/resolve/main/data/{name}_HR.tar.gz", digest=digest)
    originals = Folder(f"{name}/HR", images, (f"{name}/HR", f"{name}_HR", "HR", name, "."))
    part = Part(_benchmark_layouts(name), images, sizes, pixels=pixels)
    return KnownSet({"test": part}, (Archive((mirror,), (originals,)),), page, _low_resolution(name, images, name))


def _low_resolution(name: str, images: int, published_as: str) -> tuple[Folder, ...]:
    return tuple(
        Folder(
            f"{name}/LR_bicubic/X{scale}",
            images,
            (f"{name}/LR_bicubic/X{scale}", f"LR_bicubic/X{scale}", f"{published_as}_LR_x{scale}"),
        )
        for scale in (2, 3, 4)
    )


def _of_repository(name: str, split: Split, part: Part, repository: str, branch: str, place: str) -> KnownSet:
    """One folder of a repository on GitHub, whose archive holds all of it."""
    page = f"https://github.com/{repository}"
    mirror = Mirror(f"{page}/archive/refs/heads/{branch}.zip")
    archive = Archive((mirror,), (Folder(name, part.images, (place, name, ".")),))
    return KnownSet({split: part}, (archive,), f"{page}/tree/{branch}/{place}")


def _of_ffdnet(
    name: str, images: int, sizes: frozenset[Size], *, pixels: str = "", layouts: tuple[Layout, ...] = ()
) -> KnownSet:
    part = Part((*_benchmark_layouts(name), *layouts), images, sizes, pixels=pixels)
    return _of_repository(name, "test", part, "cszn/FFDNet", "master", f"testsets/{name}")


_DIV2K_ARCHIVES = (
    ("train_HR", 3530603713, "9d0b9c463f6e35b6c62cc6a930ee2224f670b34c1df841a57670f9acf0f6c335"),
    ("valid_HR", 448993893, "20dd31fd84d777bc1cf5d6b7654a3f569c0aec74458ae094122ad1d0489900fc"),
    ("train_LR_bicubic_X2", 925390592, "a53a424317575838dadce4bcd97cf7b744d6855f43740ed5f0245af3cf4bd850"),
    ("train_LR_bicubic_X3", 427847282, "ad5c8e5507e2765823d3c2c5bd0934842efcd487c5370604c224090898b3163a"),
    ("train_LR_bicubic_X4", 246914039, "f006b837f4eb52b82909aa01478e6d6d199eefce932179491d0c9dbb706dde3a"),
    ("valid_LR_bicubic_X2", 117763600, "60eed9875c697df51204aa579e2a699e1d5215095788a097ff54dd17e2664d57"),
    ("valid_LR_bicubic_X3", 54513392, "04b9a2ed3b4a0715d3924d3ae8514830c3328fac8d30512ce716d6f419e052a3"),
    ("valid_LR_bicubic_X4", 31505881, "a50a5d1c4b88de4e8d300d8fb2b904c52fe93b2b298a4899697760d7cbb6d553"),
)
_BSDS500_SIZES = frozenset({(481, 321), (321, 481)})
_SET5_SIZES = frozenset({(228, 344), (256, 256), (280, 280), (288, 288), (512, 512)})
_SET12_SIZES = frozenset({(256, 256), (512, 512)})
_SET14_SIZES = frozenset({
    (250, 361), (276, 276), (352, 288), (500, 362), (500, 480), (512, 512), (529, 656), (586, 391), (720, 576),
    (768, 512),
})  # fmt: skip
_LIVE1_SIZES = frozenset({
    (480, 720), (610, 488), (618, 453), (627, 482), (632, 505), (634, 438), (634, 505), (640, 512), (768, 512),
})  # fmt: skip
# Of the copies this project was measured on.
_SET5_PIXELS = "4c7ec530469ec69a603264bfedb975f0f89a1c30bdc4fbaa041f4c3b6efb8471"
_SET12_PIXELS = "94d0eea72fa3d26467baf828c93344c8415ebcc85f0eb607b2d5eb327c647e45"
_SET14_PIXELS = "cbbf63997f984cbaf78ce1dcc458686d7f92b1bff384a0a4cda213710c974a7d"
_BSD68_PIXELS = "6e4d9ebc829dc41766e7b604e79f98bb86635e97bb1ede758ba6d618c39dcc98"
_CLASSIC5_PIXELS = "d799a6e55c2079e96bfb5f1a1d2806d116f793f7c81ea6347284d030271feb26"
_LIVE1_PIXELS = "a2beb1f996b73170859375f137e6ecb1eeb55cce090de8eb3dc7fea7a10490e5"
_KODAK24_PIXELS = "43808d7962867631f0b35e2bd6be2365565b9645d09cfb3c95f74a9179dd0e94"
_POLYU_PIXELS = "ff206f33ca917311213720c0a4496a7e5773f6ed9e979cac79ded55cfc958071"
_TRAIN400_PIXELS = "19f64abce2b7c4472b80e47a9e5a43d41f493946a9e8f7b89c11f40150259af7"
_BSDS500_ARCHIVE = Archive(
    (
        Mirror(
            "https://github.com/BIDS/BSDS500/archive/refs/heads/master.zip",
            digest="md5:7bfe17302a219367694200a61ce8256c",
        ),
        Mirror("http://www.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/BSR/BSR_bsds500.tgz"),
    ),
    tuple(
        Folder(
            f"BSDS500/data/images/{split}",
            images,
            (f"BSDS500/data/images/{split}", f"BSDS500/images/{split}", f"images/{split}", split),
        )
        for split, images in (("train", 200), ("val", 100), ("test", 200))
    ),
)
_BSDS500_PAGE = "https://github.com/BIDS/BSDS500"

SETS: dict[str, KnownSet] = {
    "DIV2K": KnownSet(
        {
            "train": Part((Layout(("DIV2K/DIV2K_train_HR",), "DIV2K/DIV2K_train_LR_bicubic"),), 800, long_side=2000),
            "test": Part((Layout(("DIV2K/DIV2K_valid_HR",), "DIV2K/DIV2K_valid_LR_bicubic"),), 100, long_side=2000),
        },
        tuple(_div2k(*archive) for archive in _DIV2K_ARCHIVES),
        _DIV2K,
    ),
    "BSDS500": KnownSet(
        {
            "train": Part(
                tuple(Layout((f"{root}/train", f"{root}/test")) for root in _BSDS500_ROOTS), 400, _BSDS500_SIZES
            ),
            "test": Part(_BSDS500_VAL, 100, _BSDS500_SIZES),
        },
        (_BSDS500_ARCHIVE,),
        _BSDS500_PAGE,
    ),
    "Train400": _of_repository(
        "Train400",
        "train",
        Part((Layout(("Train400",)),), 400, frozenset({(180, 180)}), pixels=_TRAIN400_PIXELS),
        "cszn/DnCNN",
        "master",
        "TrainingCodes/DnCNN_TrainingCodes_v1.0/data/Train400",
    ),
    "Set5": _benchmark("Set5", 5, _SET5_SIZES, pixels=_SET5_PIXELS),
    "Set14": _benchmark("Set14", 14, _SET14_SIZES, pixels=_SET14_PIXELS),
    "B100": KnownSet(
        {"test": Part((*_benchmark_layouts("B100"), *_BSDS500_VAL), 100, _BSDS500_SIZES)},
        (_BSDS500_ARCHIVE,),
        _BSDS500_PAGE,
        (
            Folder("B100/HR", 100, ("B100/HR", "BSD100_HR", "BSDS100/HR", "B100", "BSDS100")),
            *_low_resolution("B100", 100, "BSD100"),
        ),
    ),
    "Urban100": _benchmark("Urban100", 100, digest="md5:65d9d84a34b72c6f7ca1e26a12df1e4c"),
    "Set12": _of_ffdnet("Set12", 12, _SET12_SIZES, pixels=_SET12_PIXELS),
    "BSD68": KnownSet(
        {"test": Part(_benchmark_layouts("BSD68"), 68, _BSDS500_SIZES, pixels=_BSD68_PIXELS)},
        (),
        "https://github.com/cszn/DnCNN/tree/master/testsets/BSD68",
        (Folder("BSD68", 68, ("BSD68", ".")),),
        made_from="BSDS500",
    ),
    "CBSD68": _of_ffdnet("CBSD68", 68, _BSDS500_SIZES, layouts=_BSDS500_VAL_68),
    "Kodak24": _of_ffdnet("Kodak24", 24, frozenset({(500, 500)}), pixels=_KODAK24_PIXELS),
    "McMaster": _of_ffdnet("McMaster", 18, frozenset({(500, 500)})),
    "classic5": _of_repository(
        "classic5",
        "test",
        Part(_benchmark_layouts("classic5"), 5, frozenset({(512, 512)}), pixels=_CLASSIC5_PIXELS),
        "JingyunLiang/SwinIR",
        "main",
        "testsets/classic5",
    ),
    "LIVE1": _of_repository(
        "LIVE1",
        "test",
        Part(_benchmark_layouts("LIVE1"), 29, _LIVE1_SIZES, pixels=_LIVE1_PIXELS),
        "cszn/DnCNN",
        "master",
        "testsets/LIVE1",
    ),
    "PolyU": KnownSet(
        {
            "test": Part(
                (Layout(("PolyU/clean",), noisy="PolyU/noisy"),), 50, frozenset({(512, 512)}), pixels=_POLYU_PIXELS
            )
        },
        (),
        "https://github.com/csjunxu/PolyU-Real-World-Noisy-Images-Dataset",
        tuple(Folder(f"PolyU/{kind}", 50, (f"PolyU/{kind}", kind)) for kind in ("clean", "noisy")),
    ),
}
