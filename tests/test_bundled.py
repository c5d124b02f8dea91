"""Bundled models: what is in the package, how it gets there, and which one serves a task."""

import json
import platform
import re
import runpy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

from restore import bundled, choices, evaluate, infer, runner_options, train
from restore.bundled import bundle, card, registry
from restore.checkpoint import Weights, load_weights, save_weights
from restore.data.catalog import find_images
from restore.errors import UserError
from restore.images.color import with_channels
from restore.images.content import Content
from restore.images.decode import is_in_color, read_picture
from restore.images.io import read_image, write_image
from restore.inference import backends, int8
from restore.inference.psnr_change import Change
from restore.models import EDSR, DnCNN

ROOT = Path(__file__).parents[1]
THERE = bundled.available()  # where there is none, the tests of each are skipped
NAMES = [model.name for model in THERE]

each_bundled = pytest.mark.parametrize("model", THERE, ids=NAMES)


def test_the_words_that_options_take_are_the_names_of_the_models() -> None:
    assert list(choices.BUNDLED_NAMES) == list(registry.MODELS)


@each_bundled
def test_a_bundled_file_is_small_and_its_card_says_what_it_says(model: bundled.BundledModel) -> None:
    weights = load_weights(model.weights)
    assert model.weights.stat().st_size < 4e6
    assert model.card.read_text() == card.card(model, weights)
    assert (ROOT / "configs" / f"{model.recipe}.yaml").is_file()
    measured = {(row["set"], row["degradation"]) for row in weights.results if row["model"] == model.name}
    assert measured == {(test.set, test.degradation.label) for test in model.tests}
    assert not re.search(r'[" =]/', json.dumps([weights.training, weights.results])), "a path of one machine"


def check_recorded(model: bundled.BundledModel, root: Path, *sets: str) -> None:
    tests = tuple(test for test in model.tests if test.set in sets)
    weights = load_weights(model.weights)
    rows = bundled.measure_bundled(replace(model, tests=tests), weights.network, root)
    recorded = {(row["model"], row["set"], row["degradation"]): row["psnr"] for row in weights.results}
    assert rows
    for row in rows:
        assert row.psnr == pytest.approx(recorded[row.model, row.set, row.degradation], abs=0.02)


@each_bundled
def test_a_bundled_model_scores_as_recorded_on_photographs(model: bundled.BundledModel) -> None:
    check_recorded(model, Path(), "photos")


@each_bundled
def test_a_bundled_model_scores_as_recorded_on_small_reference_sets(
    model: bundled.BundledModel, reference_data: Path
) -> None:
    if not {test.set for test in model.tests} & {"Set12", "Set5"}:
        pytest.skip(f"{model.name} is measured on neither Set12 nor Set5")
    check_recorded(model, reference_data, "Set12", "Set5")


def test_every_recipe_that_a_model_names_is_shipped() -> None:
    recipes = {path.stem for path in (ROOT / "configs").glob("*.yaml")}
    assert {name for model in bundled.MODELS.values() for name in (model.recipe, model.paper_recipe)} <= recipes


def test_a_wheel_holds_the_models_and_their_cards(tmp_path: Path) -> None:
    code = "import setuptools; setuptools.setup()"
    done = subprocess.run(
        [sys.executable, "-c", code, "-q", "egg_info", "--egg-base", tmp_path, "build_py", "--build-lib", tmp_path],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    built = {path.name for path in (tmp_path / "restore/bundled").iterdir()}
    int8 = {path.name for path in bundled.FOLDER.glob("*.int8-*")}
    assert {"registry.py", *int8, *(f"{name}{ending}" for name in NAMES for ending in (".safetensors", ".md"))} <= built


@pytest.mark.parametrize("path", sorted(bundled.FOLDER.glob("*.int8-*.xml")), ids=lambda path: path.stem)
def test_an_8_bit_network_in_the_package_is_that_of_the_weights_beside_it_and_taken(path: Path) -> None:
    pytest.importorskip("restore.inference.openvino_runner")
    if platform.machine() not in backends.GAINS_FROM_INT8:
        pytest.skip("8 bits were never measured on this kind of processor")
    weights = bundled.FOLDER / f"{path.name.partition('.')[0]}.safetensors"
    _, engine = runner_options.runner(runner_options.Options(device="cpu"), weights, load_weights(weights), Path())
    assert engine.startswith("OpenVINO, int8")


@pytest.mark.parametrize(("db", "kept"), [(-0.01, True), (-0.03, False)])
def test_8_bits_go_into_the_package_if_auto_takes_them(
    db: float, kept: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("restore.inference.openvino_runner")
    pytest.importorskip("nncf")
    monkeypatch.setattr(int8, "PATCHES", 4)
    monkeypatch.setattr(int8, "psnr_change", lambda *_: Change(db, 4, 0.0))
    monkeypatch.setattr(backends.platform, "machine", lambda: "x86_64")
    model = bundled.MODELS["dncnn-gray-25"]
    save_weights(tmp_path / model.weights.name, Weights(DnCNN(depth=6, features=8).eval()))
    (tmp_path / "dncnn-gray-25.int8-old.xml").touch()
    (tmp_path / "dncnn-gray-25-nobn.int8-old.xml").touch()
    said = bundle.make_int8(model, Path(), tmp_path)
    assert said.endswith("kept" if kept else "not kept: it costs too much")
    names = {path.name for path in tmp_path.glob("*.int8-*")}
    assert len(names) == (3 if kept else 1)
    assert "dncnn-gray-25-nobn.int8-old.xml" in names
    assert "dncnn-gray-25.int8-old.xml" not in names


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder of three steps, with a network like that of `dncnn-gray-25` but smaller."""
    output = tmp_path_factory.mktemp("runs") / "small"
    args = (
        f"--config dncnn_gray_25_fast --data.train photos --data.val photos --optim.optimizer adam --output {output} "
        "--model.depth 3 --model.features 4 --model.init small_last --data.batch_size 2 --data.patch_size 16 "
        "--data.steps_per_epoch 2 --data.sizes [1.0] --trainer.max_steps 4 --trainer.accelerator cpu "
        f"--trainer.enable_progress_bar false --data.root {output.parent}"
    ).split()
    before, sys.argv = sys.argv, ["restore/train.py", *args]
    try:
        assert train.main() == 0
    finally:
        sys.argv = before
    return output


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> bundled.BundledModel:
    """`dncnn-gray-25`, measured on photographs alone."""
    full = bundled.MODELS["dncnn-gray-25"]
    monkeypatch.setitem(bundled.MODELS, full.name, replace(full, tests=full.tests[-1:]))
    return bundled.MODELS[full.name]


def test_a_run_folder_becomes_a_file_in_half_precision_with_a_card(
    run: Path, model: bundled.BundledModel, tmp_path: Path
) -> None:
    rows = bundle.make(run, model, Path(), tmp_path)
    file = tmp_path / "dncnn-gray-25.safetensors"
    exact, kept = load_file(run / "weights.safetensors"), load_file(file)
    for name, tensor in exact.items():
        stored = tensor if "running" in name or "num_batches" in name else tensor.astype(np.float16)
        assert kept[name].dtype == stored.dtype
        assert np.array_equal(kept[name], stored)

    text = (tmp_path / "dncnn-gray-25.md").read_text()
    with safe_open(file, "pt") as opened:
        header = opened.metadata()["restore"]
    for place in (str(run.parent), str(ROOT)):
        assert place not in text + header
    assert "restore train --config dncnn_gray_25_fast" in text
    assert "--data.root DATA" in text
    assert "--output runs/dncnn_gray_25_fast" in text

    weights = load_weights(file)
    assert text == card.card(model, weights)
    assert [point["step"] for point in weights.training["validation"]["curve"]] == [2, 4]
    assert [row.model for row in rows] == ["noisy", "dncnn-gray-25"]
    assert f"**{rows[1].psnr:.2f}**" in text
    assert evaluate.main(["--weights", str(file), "--data", "photos", "--json", str(tmp_path / "s.json")]) == 0
    again = json.loads((tmp_path / "s.json").read_text())["rows"]
    assert [row["psnr"] for row in again] == pytest.approx([row["psnr"] for row in weights.results], abs=1e-6)


@pytest.mark.parametrize(("name", "complaint"), [
    ("dncnn-color-blind", "its channels is 1, that of dncnn-color-blind 3"),
    ("edsr-baseline-x2", "its network is DnCNN, that of edsr-baseline-x2 EDSR"),
    ("dncnn-gray-25-nobn", "its norm is batch, that of dncnn-gray-25-nobn none"),
])  # fmt: skip
def test_another_network_is_refused(run: Path, name: str, complaint: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=complaint):
        bundle.make(run, bundled.MODELS[name], Path(), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder in place of the package's."""
    (tmp_path / "models").mkdir()
    monkeypatch.setattr(registry, "FOLDER", tmp_path / "models")
    return tmp_path / "models"


@pytest.mark.parametrize(("sigma", "kind", "chosen"), [
    (25, "gray", "gray-25"),
    (26, "gray", "gray-blind"),
    (None, "gray", "gray-blind"),
    (25, "luma", "color-real"),
    (None, "luma", "color-real"),
    (25, "color", "color-blind"),
    (None, "color", "color-blind"),
])  # fmt: skip
def test_the_denoiser_follows_from_level_and_content(
    folder: Path, sigma: float | None, kind: Content, chosen: str
) -> None:
    for name in ("gray-25", "gray-blind", "color-blind", "color-real"):
        (folder / f"dncnn-{name}.safetensors").touch()
    assert bundled.denoiser(sigma, kind).name == f"dncnn-{chosen}"
    assert bundled.denoiser(sigma, kind, fast=True).name == f"dncnn-{'gray-blind' if kind == 'gray' else chosen}"


@pytest.fixture
def small_models(folder: Path) -> Path:
    noise = {"class_path": "GaussianNoise", "init_args": {"sigma": 25.0}}
    blind = {"class_path": "GaussianNoise", "init_args": {"sigma": [0.0, 55.0]}}
    save_weights(folder / "dncnn-gray-25.safetensors", Weights(DnCNN(depth=2, features=4), noise))
    save_weights(folder / "dncnn-gray-blind.safetensors", Weights(DnCNN(depth=2, features=4), blind))
    for name in ("blind", "real"):
        save_weights(folder / f"dncnn-color-{name}.safetensors", Weights(DnCNN(3, depth=2, features=4), blind))
    save_weights(folder / "edsr-baseline-x2.safetensors", Weights(EDSR(features=4, blocks=1)))
    return folder


@pytest.mark.parametrize(("task", "channels", "name", "size"), [
    ("--denoise", 3, "dncnn-color-blind", (20, 22)),
    ("--denoise 25", 1, "dncnn-gray-25", (20, 22)),
    ("--denoise 25 --fast", 1, "dncnn-gray-blind", (20, 22)),
    ("--denoise --fast", 3, "dncnn-color-blind", (20, 22)),
    ("--upscale 2", 1, "edsr-baseline-x2", (40, 44)),
    ("--model edsr-baseline-x2", 3, "edsr-baseline-x2", (40, 44)),
    ("--model dncnn-color-b", 3, "dncnn-color-blind", (20, 22)),
])  # fmt: skip
@pytest.mark.usefixtures("small_models")
def test_one_line_restores_one_photograph(
    task: str, channels: int, name: str, size: tuple[int, int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_image(tmp_path / "photo.png", np.random.default_rng(0).integers(0, 256, (20, 22, channels), np.uint8))
    paths = ["--input", str(tmp_path / "photo.png"), "--output", str(tmp_path / "out"), "--backend", "torch"]
    assert infer.main([*task.split(), *paths]) == 0
    assert read_image(tmp_path / "out/photo.png").shape == (*size, channels)
    assert f"{name}: network run by torch" in capsys.readouterr().out


@pytest.mark.usefixtures("small_models")
@pytest.mark.parametrize(("task", "complaint"), [
    ("--model bm3d", "bm3d: unknown model; bundled: dncnn-gray-25, dncnn-gray-blind, dncnn-color-blind, "
     "dncnn-color-real, edsr-"),
    ("--model dncnn-gray", "dncnn-gray: the beginning of several models: dncnn-gray-25, dncnn-gray-blind"),
    ("--model edsr-baseline-x4", "edsr-baseline-x4: not included in the package"),
    ("--upscale 3", "edsr-baseline-x3: not included in the package; bundled: dncnn-gray-25, "),
    ("--denoise 80", "the bundled networks are trained for sigma 0 to 55, not 80"),
    ("--dejpeg", "--dejpeg: its network, dncnn3, is not trained yet; bundled: dncnn-gray-25, "),
    ("--upscale 2 --fast", "--fast: only --denoise has a faster network"),
    ("--denoise strong", "expected a noise level of 0 or more"),
    ("--denoise --upscale 2", "not allowed with argument"),
    ("", "one of the arguments --denoise --upscale --dejpeg --model --weights is required"),
])  # fmt: skip
def test_what_cannot_be_done_is_said(task: str, complaint: str, image_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=complaint):
        infer.main([*task.split(), "--input", str(image_folder), "--output", str(tmp_path / "out")])


@pytest.fixture
def kinds(tmp_path: Path) -> Path:
    """A folder of a photograph with noise in all channels, the same as gray, and gray saved in RGB."""
    random = np.random.default_rng(0)
    photo = read_image(find_images("photos", "test", Path()).clean[2])[100:164, 100:180]
    gray = with_channels(photo, 1)
    noisy = (photo + random.normal(0, 25, photo.shape)).clip(0, 255).round().astype(np.uint8)
    noisy_gray = (gray + random.normal(0, 25, gray.shape)).clip(0, 255).round().astype(np.uint8)
    for name, image in {"color": noisy, "gray": noisy_gray, "gray_in_rgb": noisy_gray.repeat(3, axis=2)}.items():
        write_image(tmp_path / "kinds" / f"{name}.png", image)
    return tmp_path / "kinds"


@pytest.mark.usefixtures("small_models")
def test_a_folder_of_gray_and_color_uses_a_network_for_each_and_says_so(
    kinds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = ["--input", str(kinds), "--output", str(tmp_path / "out"), "--report", str(tmp_path / "page.html")]
    assert infer.main(["--denoise", "25", *places, "--backend", "torch", "--precision", "fp32"]) == 0
    out = capsys.readouterr().out
    assert "dncnn-gray-25: network run by torch, fp32, 2 of the images" in out
    assert "dncnn-color-blind: network run by torch, fp32, 1 of the images" in out
    assert "note: the level 25 is not used by dncnn-color-blind: estimated in each image instead" in out
    log = json.loads((tmp_path / "out/restore-log.json").read_text())
    chosen = {name: entry["network"] for name, entry in log["images"].items()}
    assert chosen == {
        "color.png": "dncnn-color-blind", "gray.png": "dncnn-gray-25", "gray_in_rgb.png": "dncnn-gray-25",
    }  # fmt: skip
    assert list(log["settings"]["weights"]) == [
        "dncnn-gray-25", "dncnn-color-real", "dncnn-color-blind",
    ]  # fmt: skip
    assert (tmp_path / "page.html").read_text().count("dncnn-color-blind") >= 2
    gray, in_rgb = (read_image(tmp_path / f"out/{name}.png") for name in ("gray", "gray_in_rgb"))
    np.testing.assert_array_equal(in_rgb, gray.repeat(3, axis=2))  # the file's form, and no cast


@pytest.mark.usefixtures("small_models")
def test_a_folder_of_gray_images_loads_no_network_for_color_and_goes_on_with_others(
    kinds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    color = (kinds / "color.png").read_bytes()
    (kinds / "color.png").unlink()
    (kinds / "gray_in_rgb.png").unlink()
    command = ["--denoise", "--input", str(kinds), "--output", str(tmp_path / "out"), "--backend", "torch"]
    assert infer.main(command) == 0
    assert "color-blind" not in capsys.readouterr().out
    (kinds / "color.png").write_bytes(color)
    assert infer.main(command) == 0
    log = json.loads((tmp_path / "out/restore-log.json").read_text())
    assert {name: (entry["status"], entry["network"]) for name, entry in log["images"].items()} == {
        "color.png": ("restored", "dncnn-color-blind"), "gray.png": ("kept", "dncnn-gray-blind"),
    }  # fmt: skip


def test_artifacts_of_jpeg_are_removed_by_dncnn3_of_which_it_is_said_that_it_restores_only_the_luma(
    small_models: Path, kinds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_weights(small_models / "dncnn3.safetensors", Weights(DnCNN(depth=2, features=4)))
    paths = ["--input", str(kinds), "--output", str(tmp_path / "out"), "--backend", "torch"]
    assert infer.main(["--dejpeg", *paths]) == 0
    said = capsys.readouterr().out
    assert "dncnn3: network run by torch" in said
    assert "note: 1 in color, of which a network for gray images restored only the luma" in said
    log = json.loads((tmp_path / "out/restore-log.json").read_text())["images"]
    assert [name for name, entry in log.items() if entry.get("luma_only")] == ["color.png"]


@pytest.mark.usefixtures("small_models")
def test_an_image_above_the_default_limit_is_restored_by_its_network_if_the_command_allows_it(
    kinds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RESTORE_MAX_MEGAPIXELS", "0.001")
    command = ["--denoise", "--input", str(kinds), "--output", str(tmp_path / "out"), "--precision", "fp32"]
    assert infer.main(command) == 1
    assert infer.main([*command, "--max-megapixels", "1"]) == 0
    log = json.loads((tmp_path / "out/restore-log.json").read_text())
    assert (log["images"]["color.png"]["status"], log["images"]["color.png"]["network"]) == (
        "restored", "dncnn-color-blind",
    )  # fmt: skip


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_color_is_told_by_the_header_as_by_the_pixels(mode: str, tmp_path: Path) -> None:
    from PIL import Image

    path = tmp_path / ("x.tif" if mode == "CMYK" else "x.png")
    Image.new(mode, (8, 8)).save(path)
    assert is_in_color(path) == (read_picture(path).pixels.shape[2] == 3)


@pytest.mark.usefixtures("small_models")
def test_the_table_in_a_file_is_made_anew(tmp_path: Path, run: Path, model: bundled.BundledModel, folder: Path) -> None:
    for file in folder.glob("*.safetensors"):
        file.unlink()
    (_, row) = bundle.make(run, model, Path(), folder)
    page = tmp_path / "README.md"
    page.write_text(f"# Title\n\n{card.MARKERS[0]}\nold\n{card.MARKERS[1]}\n\nrest\n")
    assert evaluate.main(["--all-bundled", str(page)]) == 0
    lines = page.read_text().splitlines()
    assert (lines[0], lines[-1]) == ("# Title", "rest")
    assert "old" not in lines
    (line,) = (line for line in lines if line.startswith("| `dncnn-gray-25` | CPU | photos | `denoise-gray` "))
    assert f"| **{row.psnr:.2f}** |" in line

    with pytest.raises(UserError, match="--all-bundled cannot be combined with --csv"):
        evaluate.main(["--all-bundled", "--csv", "x.csv"])
    page.write_text("# Title\n")
    with pytest.raises(UserError, match="expected the lines"):
        evaluate.main(["--all-bundled", str(page)])


def test_the_page_shows_every_model_there_with_its_share_of_the_papers_patches(
    run: Path, model: bundled.BundledModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle.make(run, model, Path(), tmp_path)
    page = tmp_path / "models.md"
    places = ["models_page.py", "--page", str(page), "--folder", str(tmp_path)]

    monkeypatch.setattr(sys, "argv", places)
    assert runpy.run_path(str(ROOT / "scripts/models_page.py"))["main"]() == 0
    text = page.read_text()
    assert "| `dncnn-gray-25` | 8 | 10,240,000 | 0.00% |" in text  # 4 steps of 2; 50 epochs of 1600 steps of 128
    assert len(re.findall("^## dncnn", text, re.MULTILINE)) == 1
    shown = re.findall(r"!\[.*\]\((.*)\)", text)
    assert [Path(path).name for path in shown] == ["steps.png", "dncnn-gray-25.jpg"]
    assert all(read_image(tmp_path / path).shape[1] > 256 for path in shown)


@pytest.mark.usefixtures("small_models")
def test_a_bundled_model_is_measured_by_name(tmp_path: Path, image_folder: Path) -> None:
    scores = tmp_path / "scores.json"
    assert evaluate.main(["--model", "edsr-baseline-x2", "--data", str(image_folder), "--json", str(scores)]) == 0
    assert [row["model"] for row in json.loads(scores.read_text())["rows"]] == ["bicubic", "edsr-baseline-x2"]
