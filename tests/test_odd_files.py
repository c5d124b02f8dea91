"""Odd but sound files through every command: right, or refused by the name of the tag."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from odd_files import Odd, write_odd_files

from restore import evaluate, infer
from restore.checkpoint import Weights, save_weights
from restore.data.catalog import ImageSet
from restore.data.store import StoreSpec, open_store
from restore.errors import UserError
from restore.folder import Job, Networks
from restore.folder.pipeline import Pipeline, Writing
from restore.images.color import with_channels
from restore.images.decode import is_in_color, picture_size, read_picture
from restore.images.io import read_image, write_image
from restore.images.pixels import to_uint8
from restore.models import DnCNN

SHARED = Path(__file__).parents[2] / "shared" / "cases"


def shared_cases() -> list[Odd]:
    """Those beside the checkout, if there are any."""
    cases = []
    for file in sorted(SHARED.glob("expected/*.npz")):
        arrays = np.load(file)
        cases.append(Odd(str(SHARED / "images" / file.stem), arrays["pixels"], arrays.get("alpha")))
    return cases


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("odd") / "in"


@pytest.fixture(scope="module")
def odd(folder: Path) -> list[Odd]:
    return write_odd_files(folder) + shared_cases()


def tolerance(case: Odd) -> int:
    return 5 if "lab8" in case.name else 0  # levels, between ways from Lab to sRGB


def assert_same(found: np.ndarray, case: Odd, where: np.ndarray | None = None) -> None:
    assert (found.shape, found.dtype) == (case.pixels.shape, case.pixels.dtype), case.name
    wrong = np.abs(found.astype(int) - case.pixels)
    assert wrong[True if where is None else where[:, :, 0]].max() <= tolerance(case), case.name


def test_every_sound_file_is_read_as_it_means_and_others_name_their_tag(odd: list[Odd], folder: Path) -> None:
    assert len(odd) > 100
    for case in odd:
        path = folder / case.name
        if case.refused:
            for read in (read_picture, read_image, picture_size):
                with pytest.raises(UserError) as error:
                    read(path)
                assert case.refused in str(error.value)
            continue
        picture = read_picture(path)
        assert_same(picture.pixels, case)
        assert (picture.alpha is None) == (case.alpha is None), case.name
        if case.alpha is not None:
            np.testing.assert_array_equal(picture.alpha, case.alpha, strict=True)
        assert_same(read_image(path), case, None if case.alpha is None else case.alpha > 0)
        assert picture_size(path) == case.pixels.shape[:2]
        assert is_in_color(path) == (case.pixels.shape[2] == 3)


def test_infer_gives_back_every_sound_file_through_a_network_that_changes_nothing(
    odd: list[Odd], folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = DnCNN(channels=3, depth=2, features=4)
    torch.nn.init.zeros_(network.body[-1].weight)
    save_weights(tmp_path / "w.safetensors", Weights(network.eval()))
    inputs = [str(folder), *(case.name for case in odd if Path(case.name).is_absolute())]
    out = tmp_path / "out"
    args = ["--weights", str(tmp_path / "w.safetensors"), "--output", str(out), "--input", *inputs, "--device", "cpu"]
    assert infer.main([*args, "--backend", "torch", "--precision", "fp32", "--workers", "1"]) == 1
    complaints = capsys.readouterr().err
    for case in odd:
        if case.refused:
            assert case.refused in complaints
            continue
        written = out / Path(case.name).name
        values = cv2.imread(str(written), cv2.IMREAD_UNCHANGED) if written.suffix == ".png" else None
        if values is None:
            picture = read_picture(written)
            assert_same(picture.pixels, case)
        elif case.pixels.shape[2] == 3:
            assert_same(np.ascontiguousarray(values[:, :, 2::-1]), case)
        else:
            assert_same(values[:, :, :1] if values.ndim == 3 else values[:, :, None], case)


def test_evaluate_and_training_see_the_same_pixels(odd: list[Odd], folder: Path, tmp_path: Path) -> None:
    sound = [case for case in odd if not case.refused]
    for number, case in enumerate(sound):
        path = folder / case.name
        (tmp_path / "made").mkdir(exist_ok=True)
        (tmp_path / "made" / f"{number}{path.suffix}").symlink_to(path)
        hidden = np.zeros(case.pixels.shape[:2], bool) if case.alpha is None else case.alpha[:, :, 0] == 0
        meant = np.where(hidden[:, :, None], read_image(path), case.pixels)  # what is hidden has no right value
        write_image(tmp_path / f"true/{number}.png", to_uint8(meant))
    scored = "--restored", tmp_path / "made", "--reference", tmp_path / "true", "--protocol", "denoise-rgb"
    assert evaluate.main([*map(str, scored), "--json", str(tmp_path / "scores.json")]) == 0
    (row,) = json.loads((tmp_path / "scores.json").read_text())["rows"]
    assert len(row["per_image"]) == len(sound)
    for score in row["per_image"]:
        assert score["psnr"] is None or "lab8" in sound[int(score["name"])].name, sound[int(score["name"])].name

    paths = tuple(tmp_path / f"made/{number}{Path(case.name).suffix}" for number, case in enumerate(sound))
    store = open_store(ImageSet("odd", paths, {}), StoreSpec(3, 1, (1.0,)), tmp_path / "cache")
    for number, case in enumerate(sound):
        stored = store.images[number]
        clean, _ = store.gather(*(torch.tensor([value]) for value in (number, 0, 0)), min(stored.height, stored.width))
        truth = with_channels(to_uint8(read_image(tmp_path / f"true/{number}.png")), 3)
        size = clean.shape[-1]
        wrong = np.abs(clean[0].permute(1, 2, 0).numpy().astype(int) - truth[:size, :size]).max()
        assert wrong <= tolerance(case), case.name


@pytest.mark.parametrize("scale", [2, 4])
def test_a_logo_on_nothing_is_enlarged_without_a_dark_rim(tmp_path: Path, scale: int) -> None:
    height = 64
    y, x = np.mgrid[:height, :height] - height / 2 + 0.5
    alpha = np.clip((22 - np.hypot(x, y)) * 255, 0, 255).astype(np.uint8)[:, :, None]
    logo = np.where(alpha > 0, 230, 0).astype(np.uint8).repeat(3, axis=2)
    (tmp_path / "in").mkdir()
    cv2.imwrite(str(tmp_path / "in/logo.png"), np.concatenate([logo, alpha], axis=2))

    class Bicubic:
        channels = inputs = 3
        multiple_of = 1
        device = torch.device("cpu")

        def __init__(self) -> None:
            self.scale = scale

        def __call__(self, degraded: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.interpolate(degraded, scale_factor=scale, mode="bicubic")

    job = Job(tmp_path / "in/logo.png", tmp_path / "out/logo.png")
    (outcome,) = Pipeline(Networks.single(Bicubic()), Writing()).run([job], tmp_path / "out")
    assert outcome.status == "restored"
    large = cv2.imread(str(job.target), cv2.IMREAD_UNCHANGED).astype(float)
    share = large[:, :, 3:] / 255
    composited = share * large[:, :, :3] + (1 - share) * 230
    assert np.abs(composited - 230).max() < 1.5


def test_training_images_have_no_dark_rim_either(tmp_path: Path) -> None:
    alpha = np.zeros((20, 20, 1), np.uint8)
    alpha[5:15, 5:15] = 255
    pixels = np.where(alpha > 0, 230, 0).astype(np.uint8).repeat(3, axis=2)
    cv2.imwrite(str(tmp_path / "x.png"), np.concatenate([pixels, alpha], axis=2))
    np.testing.assert_array_equal(read_image(tmp_path / "x.png"), 230)
