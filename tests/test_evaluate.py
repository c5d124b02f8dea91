"""The evaluate command against published numbers and a second way of computing them."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio

from restore import evaluate, evaluation
from restore.benchmark import paired_differences
from restore.checkpoint import Weights, load_weights, save_weights
from restore.data.catalog import find_images
from restore.data.degradation import Bicubic, GaussianNoise, Jpeg
from restore.errors import UserError
from restore.images.io import list_images, read_image, write_image
from restore.metrics import ImageScore, Row
from restore.models import EDSR, MDSR, DnCNN


def rows(tmp_path: Path, *args: str) -> list[dict]:
    assert evaluate.main([*args, "--json", str(tmp_path / "scores.json")]) == 0
    return json.loads((tmp_path / "scores.json").read_text())["rows"]


@pytest.mark.parametrize(("scale", "published"), [(2, 29.56), (3, 27.21), (4, 25.96)])
def test_bicubic_enlargement_scores_as_published_on_b100(
    reference_data: Path, tmp_path: Path, scale: int, published: float
) -> None:
    (row,) = rows(
        tmp_path, "--weights", "bicubic", "--scale", str(scale), "--data", "B100", "--root", str(reference_data)
    )
    assert (row["set"], row["protocol"], row["scale"], row["images"]) == ("B100", "sr-y", scale, 100)
    assert round(row["psnr"], 2) == published
    assert row["psnr"] == pytest.approx(np.mean([image["psnr"] for image in row["per_image"]]))


def test_noise_scores_as_its_variance_says(reference_data: Path, tmp_path: Path) -> None:
    found = rows(
        tmp_path, "--weights", "noisy", "--sigma", "15", "25", "50", "--data", "BSD68", "--root", str(reference_data)
    )
    for row, sigma in zip(found, (15, 25, 50), strict=True):
        assert (row["protocol"], row["sigma"], row["images"]) == ("denoise-gray", sigma, 68)
        assert row["psnr"] == pytest.approx(20 * np.log10(255 / sigma), abs=0.02)


@pytest.mark.parametrize(("name", "published"), [
    # PSNR as in DnCNN's tables; SSIM and PSNR-B as AR-CNN's successors print them.
    ("classic5", {
        10: (27.82, 0.760, 25.21), 20: (30.12, 0.834, 27.50), 30: (31.48, 0.867, 28.94), 40: (32.43, 0.885, 29.92),
    }),
    ("LIVE1", {
        10: (27.77, 0.773, 25.33), 20: (30.07, 0.851, 27.57), 30: (31.41, 0.885, 28.92), 40: (32.35, 0.904, 29.96),
    }),
])  # fmt: skip
def test_jpeg_scores_as_published(
    reference_data: Path, tmp_path: Path, name: str, published: dict[int, tuple[float, float, float]]
) -> None:
    qualities = [str(quality) for quality in published]
    root = ["--root", str(reference_data)]
    found = rows(tmp_path, "--weights", "noisy", "--quality", *qualities, "--data", name, *root)
    for row, (quality, (psnr, ssim, psnr_b)) in zip(found, published.items(), strict=True):
        assert (row["protocol"], row["degradation"]) == ("jpeg-y", f"JPEG quality {quality}")
        assert row["psnr"] == pytest.approx(psnr, abs=0.01)
        assert row["ssim"] == pytest.approx(ssim, abs=0.001)
        assert row["psnr_b"] == pytest.approx(psnr_b, abs=0.02)


def test_gray_networks_and_baselines_get_rounded_luma_of_colour_images_as_jpeg(weights: Path, tmp_path: Path) -> None:
    image = read_image(find_images("photos", "test", Path()).clean[2])[:96, :120]
    write_image(tmp_path / "set/x.png", image)
    luma = 16 + image.astype(float) @ [65.481, 128.553, 24.966] / 255
    write_image(tmp_path / "gray/x.png", luma.round().astype(np.uint8)[:, :, None])
    for model in ("noisy", str(weights)):
        of_colour, of_gray = (
            rows(tmp_path, "--weights", model, "--degradation", "Jpeg", "--degradation.quality", "30", "--data", folder)
            for folder in (str(tmp_path / "set"), str(tmp_path / "gray"))
        )
        assert [row["protocol"] for row in of_colour] == ["jpeg-y"] * len(of_colour)
        for row, expected in zip(of_colour, of_gray, strict=True):
            assert [row["psnr"], row["ssim"], row["psnr_b"]] == [expected["psnr"], expected["ssim"], expected["psnr_b"]]


def test_rows_with_and_without_psnr_b_make_one_table(weights: Path, image_folder: Path, tmp_path: Path) -> None:
    asked = ["--weights", str(weights), "--data", str(image_folder), "--sigma", "25", "--quality", "30"]
    assert evaluate.main([*asked, "--csv", str(tmp_path / "table.csv")]) == 0
    with (tmp_path / "table.csv").open(newline="") as file:
        found = {row["protocol"]: row["psnr_b"] for row in csv.DictReader(file)}
    assert found["denoise-gray"] == ""
    assert float(found["jpeg-y"]) > 10


def test_a_set_of_noisy_and_clean_photographs_is_measured_as_it_is(weights: Path, tmp_path: Path) -> None:
    clean = np.random.default_rng(0).integers(40, 200, (24, 30, 1), np.uint8)
    write_image(tmp_path / "PolyU/clean/a.png", clean)
    write_image(tmp_path / "PolyU/noisy/a.png", clean + 10)
    asked = ["--weights", str(weights), "noisy", "--root", str(tmp_path)]
    baseline, network = rows(tmp_path, *asked, "--data", "PolyU")
    assert (baseline["model"], baseline["degradation"]) == ("input", "as given")
    assert baseline["psnr"] == network["psnr"] == pytest.approx(20 * np.log10(25.5))
    assert {row["degradation"] for row in rows(tmp_path, *asked, "--data", "PolyU", "--sigma", "25")} == {"sigma 25"}
    with pytest.raises(UserError, match="PolyU has noisy images of its own: measure it separately"):
        rows(tmp_path, *asked, "--data", "photos", "PolyU")


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A denoiser for sigma 25 that predicts no noise: it clips and rounds its input."""
    network = DnCNN(depth=2, features=4)
    torch.nn.init.zeros_(network.body[-1].weight)
    degradation = {"class_path": "GaussianNoise", "init_args": {"sigma": 25.0}}
    save_weights(tmp_path / "w.safetensors", Weights(network, degradation))
    return tmp_path / "w.safetensors"


def test_an_mdsr_is_measured_at_each_of_its_scales(tmp_path: Path, image_folder: Path) -> None:
    network = MDSR(features=4, blocks=1, scales=(2, 3), scale=3)
    save_weights(tmp_path / "w.safetensors", Weights(network))
    save_weights(tmp_path / "twice.safetensors", Weights(network.at(2)))
    found = rows(tmp_path, "--weights", str(tmp_path / "w.safetensors"), "--data", str(image_folder))
    assert [(row["degradation"], row["model"] == "bicubic") for row in found] == [
        ("bicubic x2", True), ("bicubic x2", False), ("bicubic x3", True), ("bicubic x3", False),
    ]  # fmt: skip
    again = rows(tmp_path, "--weights", str(tmp_path / "twice.safetensors"), "--data", str(image_folder))
    assert [row["psnr"] for row in again] == [row["psnr"] for row in found]


def test_a_network_stands_beside_its_baseline_at_the_level_it_was_trained_for(weights: Path, tmp_path: Path) -> None:
    baseline, network = rows(tmp_path, "--weights", str(weights), "--data", "photos")
    assert (baseline["model"], network["model"]) == ("noisy", str(weights))
    assert baseline["sigma"] == network["sigma"] == 25
    assert baseline["psnr"] == pytest.approx(20.17, abs=0.05)
    assert [image["name"] for image in network["per_image"]] == ["camera", "chelsea", "coffee", "rocket"]
    assert network["psnr"] > baseline["psnr"]  # clipping alone removes some noise


def test_a_folder_in_the_layout_of_set5_scores_as_set5(reference_data: Path, tmp_path: Path) -> None:
    folder = str(reference_data / "Set5")
    (row,) = rows(tmp_path, "--weights", "bicubic", "--scale", "2", "--data", folder)
    assert (row["set"], row["images"], round(row["psnr"], 2)) == ("Set5", 5, 33.67)


def test_own_pairs_are_measured_as_they_are(weights: Path, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    clean = {name: random.integers(40, 200, (24, 30, 1), np.uint8) for name in ("a", "b")}
    for name, image in clean.items():
        write_image(tmp_path / f"clean/{name}.png", image)
        write_image(tmp_path / f"noisy/{name}.png", image + 10)
    folders = ["--data", str(tmp_path / "clean"), "--degraded", str(tmp_path / "noisy")]
    for row in rows(tmp_path, "--weights", str(weights), *folders):
        assert (row["degradation"], row["sigma"], row["images"]) == ("as given", None, 2)
        assert row["psnr"] == pytest.approx(20 * np.log10(25.5))


def test_any_degradation_is_measured_by_its_name(weights: Path, tmp_path: Path) -> None:
    asked = ["--degradation", "PoissonGaussian", "--degradation.gain", "2", "--degradation.sigma=3"]
    baseline, network = rows(tmp_path, "--weights", str(weights), "--data", "photos", *asked)
    assert baseline["model"] == "noisy"
    assert network["degradation"] == "Poisson-Gaussian gain 2, sigma 3"


def test_a_blind_network_is_measured_over_its_range_unless_a_level_is_named(tmp_path: Path, image_folder: Path) -> None:
    blind = {"class_path": "GaussianNoise", "init_args": {"sigma": [0.0, 55.0]}}
    save_weights(tmp_path / "w.safetensors", Weights(DnCNN(channels=3, depth=3, features=4), blind))
    asked = "--weights", str(tmp_path / "w.safetensors"), "--data", str(image_folder)
    assert {(row["degradation"], row["sigma"]) for row in rows(tmp_path, *asked)} == {("sigma 0-55", None)}
    assert {row["sigma"] for row in rows(tmp_path, *asked, "--sigma", "15")} == {15}


def test_what_does_not_apply_to_an_enlarging_network_is_refused(tmp_path: Path, image_folder: Path) -> None:
    save_weights(tmp_path / "sr.safetensors", Weights(EDSR(features=4, blocks=1, scale=3)))
    asked = "--weights", str(tmp_path / "sr.safetensors"), "--data", str(image_folder)
    for options, complaint in (
        (("--sigma", "25"), "--sigma and --quality do not apply"),
        (("--scale", "2"), "cannot be measured"),
        (("--degradation", "Bicubic", "--degradation.scale", "2"), "bicubic x2 has scale 2, the network 3"),
    ):
        with pytest.raises(UserError, match=complaint):
            evaluate.main([*asked, *options])


def test_two_models_are_compared_image_by_image(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = load_weights(weights).network
    with torch.no_grad():
        network.body[-1].weight += 0.01
    save_weights(tmp_path / "other.safetensors", Weights(network, load_weights(weights).degradation))
    names = [str(weights), str(tmp_path / "other.safetensors")]
    asked = ["--weights", *names, "--data", "photos", "--json", str(tmp_path / "scores.json")]
    assert evaluate.main(asked) == 0
    document = json.loads((tmp_path / "scores.json").read_text())
    first, second = (row for row in document["rows"] if row["model"] in names)
    pairs = zip(second["per_image"], first["per_image"], strict=True)
    single = np.array([one["psnr"] - two["psnr"] for one, two in pairs])
    (difference,) = document["differences"]
    assert (difference["model"], difference["other"], difference["images"]) == (names[1], names[0], 4)
    assert difference["db"] == pytest.approx(single.mean())
    means = np.random.default_rng(1).choice(single, (20000, 4)).mean(1)
    interval = [difference["low"], difference["high"]]
    np.testing.assert_allclose(interval, np.quantile(means, [0.025, 0.975]), atol=0.05 * np.ptp(single))
    assert f"{names[1]} less {names[0]} on photos, sigma 25: " in capsys.readouterr().out.replace("\n", " ")


def test_images_that_a_model_restores_perfectly_are_left_out_of_differences_as_of_means() -> None:
    def row(model: str, *psnr: float) -> Row:
        scores = tuple(ImageScore(str(place), value, 1.0) for place, value in enumerate(psnr))
        return Row(model, "set", "denoise-gray", "sigma 25", 1, 25.0, 0.0, 1.0, len(psnr), scores)

    infinite = float("inf")
    (one,) = paired_differences([row("a", 30, infinite, 31, infinite), row("b", 31, 40, 34, infinite)])
    assert (one.db, one.images) == (2.0, 2)
    assert one.low is not None
    assert paired_differences([row("a", infinite), row("b", 31)]) == []


def test_tiles_score_as_the_whole_image_and_the_ensemble_otherwise(tmp_path: Path) -> None:
    weights = tmp_path / "w.safetensors"
    save_weights(weights, Weights(DnCNN(depth=4, features=8)))
    write_image(tmp_path / "set/x.png", np.random.default_rng(0).integers(0, 256, (60, 71, 1), np.uint8))
    asked = "--weights", str(weights), "--data", str(tmp_path / "set"), "--sigma", "25"
    whole, tiles, ensemble = (
        rows(tmp_path, *asked, *options)[1]["psnr"] for options in (("--tile", "0"), ("--tile", "16"), ("--ensemble",))
    )
    assert tiles == pytest.approx(whole, abs=1e-4)
    assert abs(ensemble - whole) > 1e-2


def test_gray_test_images_are_scored_gray_for_a_color_network(tmp_path: Path) -> None:
    save_weights(tmp_path / "sr.safetensors", Weights(EDSR(features=4, blocks=1, scale=3)))
    write_image(tmp_path / "set/x.png", np.random.default_rng(0).integers(0, 256, (40, 41, 1), np.uint8))
    bicubic, network = rows(tmp_path, "--weights", str(tmp_path / "sr.safetensors"), "--data", str(tmp_path / "set"))
    assert (bicubic["degradation"], network["scale"]) == ("bicubic x3", 3)


def test_a_contact_sheet_and_a_table_are_written(weights: Path, tmp_path: Path) -> None:
    sheet, table = tmp_path / "sheet.png", tmp_path / "table.csv"
    args = ["--weights", str(weights), "--data", "photos", "--sigma", "50", "--sheet", str(sheet), "--csv", str(table)]
    assert evaluate.main(args) == 0
    assert read_image(sheet).shape[1] > 3 * 300
    assert table.read_text().splitlines()[0] == "model,set,protocol,degradation,scale,sigma,psnr,ssim,images"


def test_anybodys_images_are_scored_against_their_references(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    reference = {name: random.integers(0, 256, (32, 30, 3), np.uint8) for name in ("a", "b")}
    for name, image in reference.items():
        write_image(tmp_path / f"true/{name}.png", image)
        write_image(tmp_path / f"made/{name}x3.png", (image[:30] // 2 + 20))
    folders = ["--restored", str(tmp_path / "made"), "--reference", str(tmp_path / "true")]
    (row,) = rows(tmp_path, *folders, "--protocol", "sr-rgb", "--scale", "3")
    inner = [image[9:21, 9:21] for image in reference.values()]
    expected = [peak_signal_noise_ratio(image, image // 2 + 20) for image in inner]
    assert [image["psnr"] for image in row["per_image"]] == pytest.approx(expected)

    write_image(tmp_path / "true/c.png", reference["a"])
    with pytest.raises(UserError, match=r"made: no counterpart for c\.png"):
        rows(tmp_path, *folders, "--protocol", "sr-rgb", "--scale", "3")


def test_images_of_one_name_in_several_folders_are_scored_against_their_own(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for name in ("a/1", "b/1"):
        image = random.integers(0, 200, (20, 20, 3), np.uint8)
        write_image(tmp_path / f"true/{name}.png", image)
        write_image(tmp_path / f"made/{name}.png", image + np.uint8(10))
    args = "--restored", str(tmp_path / "made"), "--reference", str(tmp_path / "true"), "--protocol", "denoise-rgb"
    (row,) = rows(tmp_path, *args)
    assert [image["name"] for image in row["per_image"]] == ["a/1", "b/1"]
    assert [image["psnr"] for image in row["per_image"]] == [pytest.approx(20 * np.log10(255 / 10))] * 2

    write_image(tmp_path / "made/c/2.png", image)
    with pytest.raises(UserError, match=r"made: 2\.png have no counterpart in the other folder"):
        rows(tmp_path, *args)
    write_image(tmp_path / "true/c/2.png", image[:-1])
    with pytest.raises(UserError, match=r"made/c/2\.png: is 20x20, but its clean image 20x19"):
        rows(tmp_path, *args)


def test_equal_images_have_no_finite_psnr_and_the_json_stays_valid(tmp_path: Path) -> None:
    write_image(tmp_path / "x/a.png", np.zeros((20, 20, 3), np.uint8))
    args = "--restored", str(tmp_path / "x"), "--reference", str(tmp_path / "x"), "--protocol", "denoise-rgb"
    (row,) = rows(tmp_path, *args)
    assert row["psnr"] is None
    assert row["ssim"] == 1


@pytest.mark.parametrize(("args", "complaint"), [
    ("--weights bicubic --data photos", "--weights bicubic needs --scale"),
    ("--weights noisy", "--weights or --model, and --data are needed"),
    ("--restored x --reference y", "are needed together"),
    ("--weights gone.safetensors --data photos", "gone.safetensors: no such weights file"),
    ("--weights noisy --data Set99", "Set99: neither a folder nor a known data set"),
    ("--weights noisy --data photos --sigmas 15", "unrecognized arguments: --sigmas"),
    ("--weights noisy --data photos --degradation Fog", "--degradation Fog: "),
    ("--weights noisy --data photos --degradation.gain 3", "--degradation CLASS is missing"),
    ("--weights noisy --data photos --degradation Jpeg --degradation.gain 3", "--degradation Jpeg: "),
    ("--weights noisy --data photos --sigma 25 --degraded x", "--sigma cannot be combined with --degraded"),
    ("--weights noisy --data photos Set5 --degraded x", "--degraded needs a folder for each of --data: 2, not 1"),
    ("--restored x --reference y --protocol sr-y --sigma 25", "--restored cannot be combined with --sigma"),
    ("--restored x --reference y --protocol sr-y --scale 2 3", "--restored takes one --scale"),
    ("--all-bundled --quality 10", "--all-bundled cannot be combined with --quality"),
    ("--weights noisy --data photos --sigma many", "argument --sigma: invalid float value: 'many'"),
    ("--weights noisy --data photos --scale 2", "--scale 2: applies to nothing that is measured"),
    ("--weights bicubic --data photos --scale 2 --sigma 25", "--sigma 25: applies to nothing that is measured"),
    ("--weights bicubic --data photos --scale 2 --degradation GaussianNoise", "--scale 2: applies to nothing"),
    ("--model edsr-baseline-x2 --data photos --scale 2 3", "--scale 3: applies to nothing that is measured"),
    ("--weights noisy --data photos --report page.html", "--report shows what networks restore, but only baselines"),
])  # fmt: skip
def test_mistakes_are_named(args: str, complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        evaluate.main(args.split())


def test_what_cannot_be_written_is_named_before_anything_is_measured(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    for option, name in (("--json", "file/a.json"), ("--csv", "file/a.csv"), ("--report", "file/a.html")):
        with pytest.raises(UserError, match=r"file/a\.\w+: cannot be written"):
            evaluate.main(["--weights", str(weights), "--data", "photos", option, str(tmp_path / name)])
    with pytest.raises(UserError, match=r"a\.xyz: cannot write \.xyz"):
        evaluate.main(["--weights", str(weights), "--data", "photos", "--sheet", str(tmp_path / "a.xyz")])
    assert capsys.readouterr().out == ""


def test_a_sheet_that_fails_costs_no_score(
    weights: Path, tmp_path: Path, image_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise UserError("sheet.png: cannot be written (No space left on device)")

    monkeypatch.setattr("restore.evaluation.contact_sheet", full)
    scores, sheet = tmp_path / "scores.json", tmp_path / "sheet.png"
    args = ["--weights", str(weights), "--data", str(image_folder), "--json", str(scores), "--sheet", str(sheet)]
    assert evaluate.main(args) == 1
    assert len(json.loads(scores.read_text())["rows"]) == 2


def test_a_network_whose_results_are_not_finite_is_named_and_the_scores_of_other_sets_are_kept(
    weights: Path, tmp_path: Path, image_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = DnCNN(depth=2, features=4, bias=True)
    torch.nn.init.ones_(network.body[0].bias)
    torch.nn.init.constant_(network.body[-1].weight, 3e38)
    save_weights(tmp_path / "large.safetensors", Weights(network))
    asked = "--weights", str(tmp_path / "large.safetensors"), "--data", str(image_folder), "--sigma", "25"
    with pytest.raises(UserError, match=r"large\.safetensors: .*a\.png: the network's output is not finite"):
        evaluate.main([*asked])

    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/x.png").write_text("no image")
    asked = "--weights", str(weights), "--data", str(image_folder), str(tmp_path / "broken")
    assert evaluate.main([*asked, "--json", str(tmp_path / "scores.json")]) == 1
    assert len(json.loads((tmp_path / "scores.json").read_text())["rows"]) == 2
    assert "failed: " in capsys.readouterr().err


def test_a_report_of_several_sets_and_levels_tells_its_images_apart(
    weights: Path, image_folder: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    write_image(broken / "a.png", read_image(next(image_folder.glob("*.png"))))
    (broken / "b.png").write_bytes(b"no image")
    page = tmp_path / "page.html"
    asked = ["--weights", str(weights), "--data", str(image_folder), str(broken), "--sigma", "25", "--quality", "30"]
    assert evaluate.main([*asked, "--report", str(page), "--sheet", str(tmp_path / "sheet.png")]) == 1
    text = page.read_text()
    headings = re.findall(r"<h2>(.*?)</h2>", text)[1:-1]  # without the table and the settings
    assert len(headings) == len(set(headings)) == 2 * len(list_images(image_folder))
    assert all("sigma 25" in heading or "JPEG quality 30" in heading for heading in headings)
    assert "broken" not in "".join(headings)
    columns = text.count("<th ")
    assert all(row.count("<td") == columns for row in re.findall(r"<tr>(.*?)</tr>", text)[1:])


def test_an_image_that_is_too_small_for_a_protocol_is_named(tmp_path: Path) -> None:
    for folder in ("true", "made"):
        write_image(tmp_path / f"{folder}/small.png", np.zeros((10, 10, 3), np.uint8))
    args = ["--restored", str(tmp_path / "made"), "--reference", str(tmp_path / "true"), "--protocol", "denoise-rgb"]
    with pytest.raises(UserError, match=r"made/small\.png: denoise-rgb shaves 0 pixels per side and needs 11x11"):
        evaluate.main(args)


def test_a_table_that_cannot_be_written_is_named_before_models_are_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("restore.bundled.measure_bundled", None)
    with pytest.raises(UserError, match=r"table\.md: no such file"):
        evaluate.main(["--all-bundled", str(tmp_path / "table.md")])


def test_a_mean_of_infinite_psnr_does_not_hide_the_other_images(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    random = np.random.default_rng(0)
    for name in ("a", "b"):
        image = random.integers(0, 200, (20, 20, 3), np.uint8)
        write_image(tmp_path / f"true/{name}.png", image)
        write_image(tmp_path / f"made/{name}.png", image + np.uint8(10 * (name == "b")))
    args = "--restored", str(tmp_path / "made"), "--reference", str(tmp_path / "true"), "--protocol", "denoise-rgb"
    (row,) = rows(tmp_path, *args)
    assert [image["psnr"] for image in row["per_image"]] == [None, pytest.approx(20 * np.log10(255 / 10))]
    assert row["psnr"] == pytest.approx(20 * np.log10(255 / 10))
    assert "1 of 2 images are equal to the truth; PSNR is the mean of the others" in capsys.readouterr().out


def test_an_image_smaller_than_the_scale_is_named(tmp_path: Path) -> None:
    write_image(tmp_path / "set/x.png", np.zeros((1, 1, 3), np.uint8))
    with pytest.raises(UserError, match=r"x\.png: an image of 1x1 is too small for scale 2"):
        evaluate.main(["--weights", "bicubic", "--scale", "2", "--data", str(tmp_path / "set")])
    with pytest.raises(UserError, match=r"x\.png: denoise-rgb .*\(1, 1\)"):
        evaluate.main(["--weights", "noisy", "--data", str(tmp_path / "set")])


def test_the_noise_of_a_test_image_follows_from_its_path(tmp_path: Path) -> None:
    image = np.full((40, 40, 1), 128, np.uint8)
    for name in ("000/frame", "001/frame", "flat"):
        write_image(tmp_path / "set" / f"{name}.png", image)
    (row,) = rows(tmp_path, "--weights", "noisy", "--data", str(tmp_path / "set"), "--sigma", "25")
    assert [score["name"] for score in row["per_image"]] == ["000/frame", "001/frame", "flat"]
    assert len({score["psnr"] for score in row["per_image"]}) == 3
    write_image(tmp_path / "alone/flat.png", image)
    (alone,) = rows(tmp_path, "--weights", "noisy", "--data", str(tmp_path / "alone"), "--sigma", "25")
    assert alone["per_image"][0]["psnr"] == row["per_image"][2]["psnr"]


def test_a_folder_in_the_home_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    write_image(tmp_path / "set/x.png", np.zeros((20, 20, 3), np.uint8))
    (row,) = rows(tmp_path, "--weights", "noisy", "--data", "~/set", "--root", "~/data")
    assert row["set"] == "set"


def test_only_the_first_of_several_processes_scores_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_image(tmp_path / "x/a.png", np.random.default_rng(0).integers(0, 256, (20, 20, 1), np.uint8))
    args = ["--restored", str(tmp_path / "x"), "--reference", str(tmp_path / "x"), "--protocol", "denoise-gray"]
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank in (0, 1):
        monkeypatch.setenv("RANK", str(rank))
        assert evaluate.main([*args, "--csv", str(tmp_path / f"{rank}.csv")]) == 0
        assert ("protocol denoise-gray" in capsys.readouterr().out) == (rank == 0)
    assert not list(tmp_path.glob("1*.csv"))


def test_folders_of_one_name_are_told_apart_by_their_paths(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, level in (("val", 60), ("test", 90)):
        write_image(tmp_path / name / "clean/a.png", np.full((16, 16, 1), level, np.uint8))
    sets = [str(tmp_path / name / "clean") for name in ("val", "test")]
    found = rows(tmp_path, "--weights", str(weights), "--data", *sets, "--sigma", "25")
    assert [row["set"] for row in found] == [sets[0], sets[0], sets[1], sets[1]]
    assert " less " not in capsys.readouterr().out  # there is one network alone


@pytest.mark.parametrize("names", [("a", "b"), ("b", "a")])
def test_a_baseline_is_measured_in_color_whichever_image_is_the_first(tmp_path: Path, names: tuple[str, str]) -> None:
    random = np.random.default_rng(0)
    write_image(tmp_path / f"{names[0]}.png", random.integers(0, 256, (24, 24, 1), np.uint8))
    write_image(tmp_path / f"{names[1]}.png", random.integers(0, 256, (24, 24, 3), np.uint8))
    images = find_images(str(tmp_path), "test", tmp_path)
    assert evaluation._channels(images, Bicubic(2)) == evaluation._channels(images, GaussianNoise(25)) == 3
    assert evaluation._channels(images, Jpeg(10)) == 1


def test_mdsr_is_measured_on_pairs_of_the_scale_that_is_asked_for(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    write_image(tmp_path / "clean/a.png", random.integers(0, 256, (36, 36, 3), np.uint8))
    write_image(tmp_path / "low/a.png", random.integers(0, 256, (12, 12, 3), np.uint8))
    save_weights(tmp_path / "mdsr.safetensors", Weights(MDSR(features=4, blocks=1)))
    folders = ["--data", str(tmp_path / "clean"), "--degraded", str(tmp_path / "low")]
    found = rows(tmp_path, "--weights", str(tmp_path / "mdsr.safetensors"), *folders, "--scale", "3")
    assert {row["scale"] for row in found} == {3}
    with pytest.raises(UserError, match="pairs of images have one --scale"):
        rows(tmp_path, "--weights", str(tmp_path / "mdsr.safetensors"), *folders, "--scale", "2", "3")
