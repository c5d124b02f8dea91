"""The patch store against plain slicing of decoded images."""

import json
import mmap
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from restore.data.catalog import find_images
from restore.data.store import PatchStore, StoreSpec, default_cache, open_store
from restore.errors import UserError
from restore.images.io import read_image, write_image
from restore.images.resize import imresize


def gather_all(folder: Path, cache: Path, spec: StoreSpec) -> list[tuple[np.ndarray, np.ndarray | None]]:
    """Each stored image's largest square patch at row 2, column 3."""
    store = open_store(find_images(str(folder), "train", Path()), spec, cache)
    patches = []
    for number, image in enumerate(store.images):
        size = min(image.height - 2, image.width - 3)
        clean, degraded = store.gather(torch.tensor([number]), torch.tensor([2]), torch.tensor([3]), size)
        patches.append(
            (clean[0].permute(1, 2, 0).numpy(), None if degraded is None else degraded[0].permute(1, 2, 0).numpy())
        )
    return patches


def test_patches_are_cut_where_asked(image_folder: Path, tmp_path: Path) -> None:
    store = open_store(find_images(str(image_folder), "train", Path()), StoreSpec(channels=3), tmp_path / "cache")
    images = [read_image(path) for path in sorted(image_folder.iterdir())]
    random = np.random.default_rng(1)
    number = random.integers(0, 3, 50)
    top = np.array([random.integers(0, images[n].shape[0] - 8) for n in number])
    left = np.array([random.integers(0, images[n].shape[1] - 8) for n in number])
    clean, degraded = store.gather(*map(torch.from_numpy, (number, top, left)), 8)
    expected = np.stack([images[n][t : t + 8, w : w + 8] for n, t, w in zip(number, top, left, strict=True)])
    np.testing.assert_array_equal(clean.permute(0, 2, 3, 1), expected)
    assert degraded is None


@pytest.mark.parametrize("scale", [2, 3])
def test_low_resolution_patches_are_cut_from_the_resized_whole_image(
    image_folder: Path, tmp_path: Path, scale: int
) -> None:
    patches = gather_all(image_folder, tmp_path / "cache", StoreSpec(channels=3, scale=scale))
    for path, (clean, degraded) in zip(sorted(image_folder.iterdir()), patches, strict=True):
        image = read_image(path)
        image = image[: image.shape[0] // scale * scale, : image.shape[1] // scale * scale]
        low = imresize(image, 1 / scale)
        size = degraded.shape[0]
        np.testing.assert_array_equal(degraded, low[2 : 2 + size, 3 : 3 + size])
        top, left, size = 2 * scale, 3 * scale, size * scale
        np.testing.assert_array_equal(clean, image[top : top + size, left : left + size])


def test_published_low_resolution_images_are_taken_where_there_are_some(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    high, low = random.integers(0, 256, (21, 24, 3), np.uint8), random.integers(0, 256, (10, 12, 3), np.uint8)
    write_image(tmp_path / "DIV2K/DIV2K_train_HR/0001.png", high)
    write_image(tmp_path / "DIV2K/DIV2K_train_LR_bicubic/X2/0001x2.png", low)
    store = open_store(find_images("DIV2K", "train", tmp_path), StoreSpec(3, scale=2), tmp_path / "cache")
    zero = torch.tensor([0])
    clean, degraded = store.gather(zero, zero, zero, 10)
    np.testing.assert_array_equal(degraded[0].permute(1, 2, 0), low[:, :10])
    np.testing.assert_array_equal(clean[0].permute(1, 2, 0), high[:20, :20])

    write_image(tmp_path / "DIV2K/DIV2K_train_LR_bicubic/X2/0001x2.png", low[:9])
    with pytest.raises(UserError, match=r"0001\.png: is 24x21, but its degraded image of scale 2 is 12x9"):
        open_store(find_images("DIV2K", "train", tmp_path), StoreSpec(3, scale=2), tmp_path / "cache")


def test_images_are_stored_at_every_size_of_the_recipe(image_folder: Path, tmp_path: Path) -> None:
    spec = StoreSpec(channels=1, sizes=(1.0, 0.7))
    store = open_store(find_images(str(image_folder), "train", Path()), spec, tmp_path / "cache")
    sizes = [(image.height, image.width) for image in store.images]
    assert sizes == [(24, 30), (17, 21), (40, 26), (28, 19), (33, 35), (24, 25)]


@pytest.mark.parametrize("name", ["images", "pics[1]"])
def test_a_store_is_used_again_until_an_image_changes(name: str, image_folder: Path, tmp_path: Path) -> None:
    image_folder = image_folder.rename(tmp_path / name)
    cache = tmp_path / "cache"
    before = gather_all(image_folder, cache, StoreSpec(3))
    built = [path for path in cache.iterdir() if path.is_dir()]
    stamp = (built[0] / "pixels.u8").stat().st_mtime_ns
    gather_all(image_folder, cache, StoreSpec(3))
    assert (built[0] / "pixels.u8").stat().st_mtime_ns == stamp

    path = image_folder / "b.png"
    write_image(path, 255 - read_image(path))
    after = gather_all(image_folder, cache, StoreSpec(3))
    np.testing.assert_array_equal(after[1][0], 255 - before[1][0])
    assert len([path for path in cache.iterdir() if path.is_dir()]) == 1


def test_the_cache_may_lie_in_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESTORE_CACHE", "~/stores")
    assert default_cache() == Path.home() / "stores"


def test_a_build_that_was_killed_is_not_mistaken_for_a_store(image_folder: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    script = (
        "import os, sys\nfrom pathlib import Path\nimport restore.data.store as store\n"
        "from restore.data.catalog import find_images\n"
        "decode = store._decode\n"
        "store._decode = lambda path, *rest: os._exit(9) if path.stem == 'c' else decode(path, *rest)\n"
        "store.open_store(find_images(sys.argv[1], 'train', Path()), store.StoreSpec(3), Path(sys.argv[2]))\n"
    )
    killed = subprocess.run([sys.executable, "-c", script, image_folder, cache], check=False)
    assert killed.returncode == 9
    assert len(gather_all(image_folder, cache, StoreSpec(3))) == 3
    assert not list(cache.glob(".*.partial"))


def test_processes_that_start_at_once_share_one_store(image_folder: Path, tmp_path: Path) -> None:
    script = (
        "import sys\nfrom pathlib import Path\nfrom restore.data.catalog import find_images\n"
        "from restore.data.store import PatchStore, StoreSpec, open_store\n"
        "store = open_store(find_images(sys.argv[1], 'train', Path()), StoreSpec(3), Path(sys.argv[2]))\n"
        "print(int(store.pixels.sum()))\n"
    )
    command = [sys.executable, "-c", script, str(image_folder), str(tmp_path / "cache")]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=dict(os.environ)) for _ in range(3)]
    sums = [int(process.communicate()[0]) for process in processes]
    assert sums == [sum(int(read_image(path).sum()) for path in image_folder.iterdir())] * 3


def test_an_unreadable_image_is_named_and_leaves_no_store(image_folder: Path, tmp_path: Path) -> None:
    (image_folder / "d.png").write_bytes(b"not an image")
    with pytest.raises(UserError, match=r"d\.png: not a readable image"):
        gather_all(image_folder, tmp_path / "cache", StoreSpec(3))
    assert not [path for path in (tmp_path / "cache").iterdir() if path.is_dir()]


def test_a_store_that_lost_its_end_or_its_index_is_made_anew(image_folder: Path, tmp_path: Path) -> None:
    images = find_images(str(image_folder), "train", Path())
    whole = open_store(images, StoreSpec(channels=3), tmp_path / "cache")
    pixels = whole.pixels.clone()
    (folder,) = (path for path in (tmp_path / "cache").iterdir() if path.is_dir())
    for name, content in (("pixels.u8", b"short"), ("index.json", b'{"images": [')):
        (folder / name).write_bytes(content)
        again = open_store(images, StoreSpec(channels=3), tmp_path / "cache")
        assert torch.equal(again.pixels, pixels)
        assert again.fingerprint == whole.fingerprint


def test_the_fingerprint_follows_the_pixels_and_not_the_files_times(image_folder: Path, tmp_path: Path) -> None:
    def fingerprint() -> str:
        images = find_images(str(image_folder), "train", Path())
        return open_store(images, StoreSpec(channels=3), tmp_path / "cache").fingerprint

    before = fingerprint()
    os.utime(image_folder / "a.png", (0, 0))
    assert fingerprint() == before
    pixels = read_image(image_folder / "a.png")
    pixels[3, 4, 0] ^= 1
    write_image(image_folder / "a.png", pixels)
    assert fingerprint() != before


def test_a_store_larger_than_memory_is_opened_and_read(tmp_path: Path) -> None:
    size, width, end = 8, 20, 2**40
    entry = {"name": "far.png", "height": 10, "width": width, "clean": end - 200, "degraded": end - 200}
    index = {"channels": 1, "scale": 1, "sizes": [1.0], "images": [entry]}
    (tmp_path / "index.json").write_text(json.dumps(index))
    with (tmp_path / "pixels.u8").open("wb") as file:  # a hole of a tebibyte, and one image
        file.seek(end - 200)
        file.write(bytes(range(200)))
    zero = torch.zeros(1, dtype=torch.int64)
    clean, _ = PatchStore(tmp_path).gather(zero, zero + 1, zero + 2, size)
    expected = torch.arange(200).view(10, width)[1 : 1 + size, 2 : 2 + size]
    assert torch.equal(clean[0, 0].long(), expected)


@pytest.mark.skipif(not hasattr(mmap, "MADV_WILLNEED"), reason="the system takes no advice")
@pytest.mark.parametrize("end", [2**20, 2**40])
def test_the_rows_of_patches_are_announced_where_memory_cannot_hold_the_store(
    end: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    announced: list[tuple[list[int], list[int]]] = []

    def announce(_: object, first: torch.Tensor, length: torch.Tensor) -> None:
        announced.append((first.tolist(), length.tolist()))

    monkeypatch.setattr("restore.data.store._prefetch", announce)
    entry = {"name": "hole.png", "height": 10, "width": 20, "clean": end - 600, "degraded": end - 600}
    index = {"channels": 3, "scale": 1, "sizes": [1.0], "images": [entry]}
    (tmp_path / "index.json").write_text(json.dumps(index))
    with (tmp_path / "pixels.u8").open("wb") as file:
        file.truncate(end)
    zero = torch.zeros(2, dtype=torch.int64)
    PatchStore(tmp_path).gather(zero, torch.tensor([0, 2]), zero + 5, 8)
    rows = ([end - 600, end - 600 + 2 * 20 * 3], [8 * 20 * 3] * 2)
    assert announced == ([rows] if end == 2**40 else [])
