"""The page, in a real browser."""

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

from restore import evaluate, infer
from restore.checkpoint import Weights, save_weights
from restore.data.degradation import Bicubic
from restore.images.pixels import Image
from restore.models import EDSR
from restore.page import ComparisonPage, Figure, Table, data_uri, write_page

BLUE, RED, GREEN = (20, 60, 220), (200, 30, 40), (30, 180, 60)
EVIL = "<img src=x onerror=document.title='taken'>.png"


def plain(color: tuple[int, int, int], height: int = 200, width: int = 300) -> Image:
    return np.full((height, width, 3), color, np.uint8)


@pytest.fixture
def page(tmp_path: Path) -> Path:
    page = ComparisonPage(sliders=2)
    page.add("b.png", plain(BLUE), plain(RED), plain(GREEN), {"PSNR (dB)": 9.5})
    page.add(EVIL, plain(BLUE, 50, 75), plain(RED), None, {"PSNR (dB)": 31.25})
    page.add("a.png", plain(BLUE), plain(RED), plain(GREEN), {"PSNR (dB)": 28.0})
    path = tmp_path / "report" / "index.html"
    page.write(path, "Restored", {"weights": EVIL, "packages": {"torch": "2"}})
    return path


def opened(browser: Any, path: Path) -> Any:
    browser.get(path.as_uri())
    return browser


def shown(element: Any) -> np.ndarray:
    return np.asarray(Pillow.open(io.BytesIO(element.screenshot_as_png)).convert("RGB")).astype(int)


def close_to(pixel: np.ndarray, color: tuple[int, int, int]) -> bool:
    return bool(np.abs(pixel - color).max() <= 6)  # WebP is lossy


def move(browser: Any, slider: Any, value: float) -> None:
    """As a user's drag ends: the value set and `input` told."""
    handle = slider.find_element("css selector", "input")
    browser.execute_script(
        "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('input'))", handle, value
    )


def test_the_slider_shows_the_input_left_of_it_and_the_result_right(browser: Any, page: Path) -> None:
    slider = opened(browser, page).find_element("css selector", ".slider")
    for value in (50, 20, 85):
        move(browser, slider, value)
        picture = shown(slider)
        edge, row = picture.shape[1] * value // 100, picture.shape[0] // 4
        assert close_to(picture[row, edge - 12], BLUE), value
        assert close_to(picture[row, edge + 12], RED), value


def test_the_keyboard_moves_the_slider_too(browser: Any, page: Path) -> None:
    slider = opened(browser, page).find_element("css selector", ".slider")
    slider.find_element("css selector", "input").send_keys("\ue011")  # Home
    picture = shown(slider)
    assert close_to(picture[picture.shape[0] // 4, 12], RED)


def test_the_truth_takes_the_right_side_when_asked_for(browser: Any, page: Path) -> None:
    section = opened(browser, page).find_element("css selector", ".comparison")
    section.find_element("css selector", ".choice [data-label=truth]").click()
    picture = shown(section.find_element("css selector", ".slider"))
    assert close_to(picture[picture.shape[0] // 4, -20], GREEN)
    assert section.find_element("css selector", ".right").text == "truth"


def test_the_table_lists_all_images_and_sorts_numbers_as_numbers(browser: Any, page: Path) -> None:
    opened(browser, page)
    headings = browser.find_elements("css selector", "th")
    heading = next(cell for cell in headings if "PSNR" in cell.text)

    def column() -> list[str]:
        return [cell.text for cell in browser.find_elements("css selector", "td.number:last-child")]

    heading.find_element("css selector", "button").click()
    assert column() == ["9.50", "28.00", "31.25"]
    heading.find_element("css selector", "button").click()
    assert column() == ["31.25", "28.00", "9.50"]
    assert heading.get_attribute("aria-sort") == "descending"
    assert len(browser.find_elements("css selector", ".slider")) == 2
    assert "3 images, of which the first 2 are shown" in browser.find_element("css selector", "header").text


def test_names_are_text_and_nothing_is_fetched_or_complained_of(browser: Any, page: Path) -> None:
    opened(browser, page)
    assert browser.title == "Restored"
    assert any(EVIL in heading.text for heading in browser.find_elements("css selector", "h2"))
    assert browser.get_log("browser") == []
    requests = [entry["message"] for entry in browser.get_log("performance") if "requestWillBeSent" in entry["message"]]
    assert not [message for message in requests if '"url":"http' in message]
    assert "http" not in page.read_text().replace("http-equiv", "")


def test_a_crop_shows_where_most_has_changed(tmp_path: Path) -> None:
    before = plain(BLUE, 400, 600)
    after = before.copy()
    after[300:330, 500:540] = RED
    page = ComparisonPage()
    page.add("x", before, after)
    page.write(tmp_path / "x.html", "x", {})
    content = (tmp_path / "x.html").read_text().split('<div class="crops">')[1].split("data:image/png;base64,")[2]
    crop = np.asarray(Pillow.open(io.BytesIO(base64.b64decode(content.split('"')[0]))))
    assert (crop == RED).all(2).sum() == 30 * 40


def test_tables_and_figures_stand_alone(browser: Any, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Pillow.fromarray(plain(GREEN)).save(buffer, "png")
    sections = [
        Table("Ledger", [{"claim": "one", "effect": 0.5}], note="All of it."),
        Figure("Curve", data_uri(buffer.getvalue(), "image/png"), "What it shows."),
    ]
    write_page(tmp_path / "x.html", "Report", sections, {})
    opened(browser, tmp_path / "x.html")
    assert close_to(shown(browser.find_element("css selector", "figure img"))[100, 150], GREEN)
    assert browser.get_log("browser") == []


def test_evaluate_writes_a_page_with_scores(browser: Any, image_folder: Path, tmp_path: Path) -> None:
    weights, report = tmp_path / "w.safetensors", tmp_path / "report.html"
    save_weights(weights, Weights(EDSR(features=4, blocks=1), Bicubic(2).description))
    argv = ["--weights", str(weights), "--data", str(image_folder), "--device", "cpu", "--report", str(report)]
    assert evaluate.main(argv) == 0
    opened(browser, report)
    assert len(browser.find_elements("css selector", ".slider")) == 3
    text = browser.find_element("css selector", "body").text
    assert "sr-y" in text
    assert "torch" in text
    assert browser.get_log("browser") == []


def test_infer_writes_a_page_of_what_it_restored_and_of_what_it_did_not(
    browser: Any, image_folder: Path, tmp_path: Path
) -> None:
    weights, report = tmp_path / "w.safetensors", tmp_path / "out" / "index.html"
    save_weights(weights, Weights(EDSR(features=4, blocks=1), Bicubic(2).description))
    (image_folder / "broken.png").write_bytes(b"no image")
    common = ["--weights", str(weights), "--input", str(image_folder), "--output", str(tmp_path / "out")]
    assert infer.main([*common, "--device", "cpu", "--precision", "fp32", "--report", str(report)]) == 1
    opened(browser, report)
    assert len(browser.find_elements("css selector", ".slider")) == 3
    assert browser.find_element("css selector", ".facts").text == "60 × 48"
    text = browser.find_element("css selector", "body").text
    assert "broken.png" in text
    assert "fp32" in text
    assert browser.get_log("browser") == []
