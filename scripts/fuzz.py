"""Damage real files, give them to the commands, and see that each works or fails with one clear line.

Case N of a seed is always the same: `--only N` repeats it. Exits with 1 where a command raised anything but a
user's mistake, took too long, left part of a file behind or used up the memory it was granted.
"""

import argparse
import contextlib
import faulthandler
import io
import json
import logging
import resource
import shutil
import signal
import struct
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tifffile
import torch
import yaml
from PIL import Image as Pillow

from restore import cli, evaluate, infer, train
from restore.checkpoint import Weights, save_weights
from restore.data.catalog import default_root, find_images
from restore.data.known_sets import PHOTOS
from restore.data.sources import Folder
from restore.data.unpacking import copy_folders
from restore.folder import LOG_NAME
from restore.images.io import read_image, write_image
from restore.models import EDSR, DnCNN
from restore.progress import progress

LONGEST_S = 20
LARGEST_MIB = 1024  # that one case may add to the resident memory
ADDRESSES_MIB = 8192  # that one case may reserve
TRAINING = """
model: {class_path: restore.models.DnCNN, init_args: {channels: 1, depth: 3, features: 4, norm: batch}}
data: {train: IMAGES, val: IMAGES, batch_size: 2, patch_size: 8, steps_per_epoch: 1, workers: 0, sizes: [1.0, 0.9],
  degradation: {class_path: GaussianNoise, init_args: {sigma: 25}},
  transforms: [{class_path: albumentations.RandomBrightnessContrast, init_args: {p: 0.3}}]}
optim: {lr: 1e-3, ema_decay: 0.9}
trainer: {max_steps: 1, accelerator: cpu, limit_val_batches: 1, enable_progress_bar: false, precision: 32-true}
checkpoint_every: 1
seed: 0
"""
INTERESTING = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
TAGS = (254, 256, 257, 258, 259, 262, 266, 273, 274, 277, 278, 279, 284, 317, 320, 322, 323, 324, 325, 338, 339, 34675)
TAG_VALUES = (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 16, 32, 40, 48, 64, 1000, 32773, 32946, 34712, 34925, 50000)
LEAVES: tuple[Any, ...] = (
    None, True, -1, 0, 1, 3, 7, 2**31, 2**63, 1e308, -0.5, float("nan"), float("inf"), "", "x", "none", "batch", "../x",
    "\0", "os.system", "\N{SNOWMAN}", [], [1], [[]], {}, {"a": 1}, {"class_path": "os.system"},
)  # fmt: skip

KINDS = {
    "restore": 0.22, "score": 0.08, "evaluate": 0.1, "weights": 0.13, "header": 0.14, "archive": 0.1, "log": 0.05,
    "config": 0.05, "settings": 0.05, "checkpoint": 0.05, "train": 0.03,
}  # fmt: skip


class TooLong(BaseException):
    """A case ran longer than LONGEST_S."""


class Corpus:
    """Real files to damage, below `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.images = self._images()
        self.weights = self._weights()
        self.good = folder / "good"
        for name in ("a", "b"):
            shutil.copy(self.images[0], self._made(self.good / f"{name}.png"))
        self.config = self._made(folder / "config.yaml")
        self.config.write_text(TRAINING.replace("IMAGES", str(self.good)))
        with silence():
            train.main(["--config", str(self.config), "--output", str(folder / "run")])
        self.checkpoint = folder / "run" / "checkpoints" / "last.ckpt"
        self.restored = folder / "restored"
        with silence():
            infer.main(list(map(str, ["--weights", self.weights[0], "--input", self.good, "--output", self.restored])))
        self.archive = folder / "archive.zip"
        with zipfile.ZipFile(self.archive, "w") as file:
            for path in self.good.iterdir():
                file.write(path, f"Tiny/{path.name}")

    def _images(self) -> list[Path]:
        photo = read_image(find_images("photos", "test", default_root()).clean[PHOTOS["test"].index("coffee.png")])
        rgb = photo[100:140, 200:248]
        files = []
        for suffix in ("png", "jpg", "tif", "bmp"):
            for name, image in (("rgb", rgb), ("gray", rgb[:, :, :1])):
                files.append(self._made(self.folder / f"{name}.{suffix}"))
                write_image(files[-1], image)
        for suffix in ("png", "tif"):
            files.append(self.folder / f"deep.{suffix}")
            write_image(files[-1], rgb.astype(np.uint16) * 257)
        picture = Pillow.fromarray(rgb)
        exif = Pillow.Exif()
        exif[0x0112] = 6
        deep = rgb.astype(np.uint16) * 257
        tiff = tifffile.imwrite
        odd: dict[str, Callable[[Path], object]] = {
            "palette.png": picture.convert("P").save,
            "alpha.png": picture.convert("RGBA").save,
            "turned.jpg": partial(picture.save, exif=exif),
            "progressive.jpg": partial(picture.save, progressive=True),
            "cmyk.jpg": picture.convert("CMYK").save,
            "lzw.tif": partial(picture.save, compression="tiff_lzw"),
            "bits.png": picture.convert("1").save,
            "planes.tif": partial(tiff, data=np.moveaxis(deep, 2, 0), photometric="rgb", planarconfig="separate"),
            "tiles.tif": partial(tiff, data=deep, photometric="rgb", tile=(16, 16), compression="zlib", predictor=True),
            "packed.tif": partial(tiff, data=deep[:, :, 0] >> 4, photometric="minisblack", bitspersample=12),
            "gray_alpha.tif": partial(tiff, data=deep[:, :, :2], photometric="minisblack", planarconfig="contig",
                                      extrasamples=["unassalpha"], compression="lzw"),
        }  # fmt: skip
        for name, write in odd.items():
            files.append(self.folder / name)
            write(files[-1])
        return files

    def _weights(self) -> list[Path]:
        networks = {"dncnn": DnCNN(channels=1, depth=3, features=4), "edsr": EDSR(scale=2, blocks=1, features=4)}
        description = {"class_path": "GaussianNoise", "init_args": {"sigma": 25}}
        for name, network in networks.items():
            save_weights(self.folder / f"{name}.safetensors", Weights(network.eval(), description))
        return [self.folder / f"{name}.safetensors" for name in networks]

    def _made(self, path: Path) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Without what the commands print."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def damage(content: bytes, random: np.random.Generator) -> bytes:
    """Bytes changed in one to four places: flipped, overwritten, cut off, left out, repeated or inserted."""
    for _ in range(random.integers(1, 5)):
        if not content:
            return content
        place = int(random.integers(len(content) if random.random() < 0.5 else min(len(content), 128)))
        length = int(2 ** random.uniform(0, 8))
        match random.integers(8):
            case 0:
                content = content[:place]
            case 1:
                content = content[:place] + content[place + length :]
            case 2:
                content = content[:place] + content[place : place + length] * 2 + content[place + length :]
            case 3:
                content = content[:place] + random.bytes(length) + content[place:]
            case 4 | 5:
                value = int(random.choice(INTERESTING))
                packed = struct.pack("<I" if random.random() < 0.5 else ">I", value)[: int(random.choice([1, 2, 4]))]
                content = content[:place] + packed + content[place + len(packed) :]
            case _:
                content = (
                    content[:place] + bytes([content[place] ^ (1 << int(random.integers(8)))]) + content[place + 1 :]
                )
    return content


def damage_tags(content: bytes, random: np.random.Generator) -> bytes:
    """A TIFF file of which one to three tags say something else: another value, type, count or number."""
    order = "<" if content[:2] == b"II" else ">"
    changed = bytearray(content)
    (start,) = struct.unpack_from(f"{order}I", content, 4)
    (count,) = struct.unpack_from(f"{order}H", content, start)
    for _ in range(random.integers(1, 4)):
        place = start + 2 + 12 * int(random.integers(count))
        (kind,) = struct.unpack_from(f"{order}H", content, place + 2)
        value = int(random.choice(TAG_VALUES if random.random() < 0.7 else INTERESTING))
        match random.integers(6):
            case 0:
                struct.pack_into(f"{order}H", changed, place, int(random.choice(TAGS)))
            case 1:
                struct.pack_into(f"{order}H", changed, place + 2, int(random.integers(0, 19)))
            case 2:
                struct.pack_into(f"{order}I", changed, place + 4, value)
            case _:
                number = struct.pack(f"{order}{'I' if kind == 4 else 'H'}", value if kind == 4 else value % 2**16)
                changed[place + 8 : place + 8 + len(number)] = number
    return bytes(changed)


def with_true_checksums(png: bytes) -> bytes:
    """A damaged PNG file whose chunks' checksums are right, so that the damage reaches the decoder."""
    position = 8
    while position + 12 <= len(png):
        (length,) = struct.unpack(">I", png[position : position + 4])
        end = position + 8 + length
        if end + 4 > len(png):
            break
        png = png[:end] + struct.pack(">I", zlib.crc32(png[position + 4 : end])) + png[end + 4 :]
        position = end + 4
    return png


def damage_leaf(tree: Any, random: np.random.Generator) -> Any:
    """A tree of dicts and lists with one of its entries replaced or left out."""
    if isinstance(tree, (dict, list)) and tree and random.random() < 0.85:
        keys = list(tree) if isinstance(tree, dict) else list(range(len(tree)))
        key = keys[int(random.integers(len(keys)))]
        changed = tree.copy()
        if random.random() < 0.1:
            del changed[key]
        else:
            changed[key] = damage_leaf(tree[key], random)
        return changed
    return LEAVES[int(random.integers(len(LEAVES)))]


def damage_header(content: bytes, random: np.random.Generator) -> bytes:
    """A safetensors file that is whole but says something else of its network."""
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    description = damage_leaf(json.loads(header["__metadata__"]["restore"]), random)
    header["__metadata__"]["restore"] = json.dumps(description)
    packed = json.dumps(header).encode()
    return struct.pack("<Q", len(packed)) + packed + content[8 + length :]


Case = tuple[str, Callable[[], int]]


def make_case(corpus: Corpus, folder: Path, random: np.random.Generator) -> Case:
    """A command and the damaged file that it is given, as text for people and as a call."""
    kind = random.choice(list(KINDS), p=list(KINDS.values()))
    out = folder / "out"
    weights = corpus.weights[int(random.integers(len(corpus.weights)))]
    match kind:
        case "restore" | "score" | "evaluate" | "train":
            source = corpus.images[int(random.integers(len(corpus.images)))]
            hurt = damage_tags if source.suffix == ".tif" and random.random() < 0.6 else damage
            content = hurt(source.read_bytes(), random)
            if source.suffix == ".png" and random.random() < 0.7:
                content = with_true_checksums(content)
            shutil.copytree(corpus.good, folder / "in")
            name = f"bad{source.suffix}"
            (folder / "in" / name).write_bytes(content)
            label = f"{kind} {source.name}"
            if kind == "restore":
                return label, call(infer, "--weights", weights, "--input", folder / "in", "--output", out)
            if kind == "score":
                shutil.copytree(folder / "in", folder / "true")
                (folder / "true" / name).write_bytes(source.read_bytes())
                folders = ("--restored", folder / "in", "--reference", folder / "true")
                return label, call(evaluate, *folders, "--protocol", "denoise-rgb", "--json", out / "a.json")
            if kind == "evaluate":
                tables = ("--csv", out / "a.csv", "--sheet", out / "a.png")
                return label, call(evaluate, "--weights", weights, "--data", folder / "in", *tables)
            places = ("--data.train", folder / "in", "--data.cache", folder / "cache", "--output", out)
            return label, call(train, "--config", corpus.config, *places)
        case "weights" | "header":
            content = (damage if kind == "weights" else damage_header)(weights.read_bytes(), random)
            bad = folder / "bad.safetensors"
            bad.write_bytes(content)
            if random.random() < 0.5:
                return f"{kind} {weights.name}, infer", call(
                    infer, "--weights", bad, "--input", corpus.good, "--output", out
                )
            return f"{kind} {weights.name}, evaluate", call(evaluate, "--weights", bad, "--data", corpus.good)
        case "archive":
            bad = folder / "bad.zip"
            bad.write_bytes(damage(corpus.archive.read_bytes(), random))
            return "archive", partial(unpack, bad, out)
        case "log":
            shutil.copytree(corpus.restored, out)
            log = out / LOG_NAME
            if random.random() < 0.5:
                log.write_bytes(damage(log.read_bytes(), random))
            else:
                log.write_text(json.dumps(damage_leaf(json.loads(log.read_text()), random)))
            return kind, call(infer, "--weights", corpus.weights[0], "--input", corpus.good, "--output", out)
        case "config" | "settings":
            bad = folder / "bad.yaml"
            if kind == "config":
                bad.write_bytes(damage(corpus.config.read_bytes(), random))
            else:
                tree = yaml.safe_load(corpus.config.read_text())
                bad.write_text(yaml.safe_dump(damage_leaf(tree, random), allow_unicode=True))
            short = ("--trainer.max_steps", 1, "--data.cache", folder / "cache", "--output", out)
            return kind, call(train, "--config", bad, *short)
        case _:
            bad = folder / "bad.ckpt"
            bad.write_bytes(damage(corpus.checkpoint.read_bytes(), random))
            short = ("--trainer.max_steps", 2, "--data.cache", folder / "cache", "--output", out)
            return "checkpoint", call(train, "--config", corpus.config, "--resume", bad, *short)


def unpack(archive: Path, target: Path) -> int:
    copy_folders(archive, {Folder("Tiny", 2, ("Tiny",)): target})
    return 0


def call(module: Any, *args: object) -> Callable[[], int]:
    return partial(module.main, [str(arg) for arg in args])


def memory_mib(field: str) -> float:
    """Of this process: VmRSS is what is resident now, VmHWM the peak, VmSize what is reserved."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[field].split()[0]) / 2**10


def judge(case: Callable[[], int], folder: Path) -> tuple[str, str]:
    """What became of a case, `works` or `refused` or a fault, and the details."""

    def stop(*_: object) -> None:
        raise TooLong

    Path("/proc/self/clear_refs").write_text("5")  # the peak is measured anew
    before_mib = memory_mib("VmRSS")
    signal.signal(signal.SIGALRM, stop)
    signal.alarm(LONGEST_S)
    faulthandler.dump_traceback_later(3 * LONGEST_S, exit=True)
    try:
        with silence():
            cli.run(case)
        outcome, details = "fault: no exit code", ""
    except SystemExit as end:
        details = str(end.code)
        if end.code in (0, 1):
            outcome = "works" if end.code == 0 else "works in part"
        elif details.startswith("error: ") and "\n" not in details:
            outcome = "refused"
        else:
            outcome = "fault: not one line"
    except TooLong:
        outcome, details = f"fault: more than {LONGEST_S} s", traceback.format_exc()
    except BaseException as error:
        outcome, details = f"fault: {type(error).__name__}", traceback.format_exc()
    finally:
        signal.alarm(0)
        faulthandler.cancel_dump_traceback_later()
    grown_mib = memory_mib("VmHWM") - before_mib
    if grown_mib > LARGEST_MIB and not outcome.startswith("fault"):
        outcome, details = "fault: memory", f"{grown_mib:.0f} MiB; {details}"
    partial_files = [str(path) for path in folder.rglob(".*") if path.is_file()]
    if partial_files and not outcome.startswith("fault"):
        outcome, details = "fault: partial file", str(partial_files)
    return outcome, details


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="repeat one case")
    parser.add_argument("--keep", type=Path, help="copy the files of faults there")
    args = parser.parse_args()

    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    start = time.perf_counter()
    outcomes: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as place:
        corpus = Corpus(Path(place) / "corpus")
        limit = int((memory_mib("VmSize") + ADDRESSES_MIB) * 2**20)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        for number in progress([args.only] if args.only is not None else range(args.cases), "Fuzzing"):
            folder = Path(place) / "case"
            folder.mkdir()
            label, case = make_case(corpus, folder, np.random.default_rng([args.seed, number]))
            outcome, details = judge(case, folder)
            outcomes[outcome] += 1
            kinds[label.split()[0]] += 1
            if outcome.startswith("fault") or args.only is not None:
                print(f"case {number} ({label}): {outcome}\n{details}", flush=True)
                if args.keep:
                    shutil.copytree(folder, args.keep / str(number), dirs_exist_ok=True)
            shutil.rmtree(folder)
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    faults = sum(count for outcome, count in outcomes.items() if outcome.startswith("fault"))
    print(f"cases: {', '.join(f'{count} {kind}' for kind, count in sorted(kinds.items()))}")
    print(f"outcomes: {', '.join(f'{count} {outcome}' for outcome, count in sorted(outcomes.items()))}")
    print(f"{faults} faults; {time.perf_counter() - start:.0f} s, peak_rss {peak_mib:.0f} MiB")
    return int(faults > 0)


if __name__ == "__main__":
    sys.exit(main())
