"""Data sets from archives, folders and addresses to their place, verified, and the command that does it."""

import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import cv2
import numpy as np
import pytest

from restore import cli
from restore.data import __main__ as data
from restore.data.catalog import find_images
from restore.data.installation import install, install_from
from restore.data.known_sets import SETS
from restore.data.sources import Archive, Folder, Mirror
from restore.data.verification import verify
from restore.errors import UserError
from restore.images.io import read_image, write_image
from restore.images.resize import imresize

Resize = Callable[[np.ndarray], np.ndarray]


def by_matlab(image: np.ndarray) -> np.ndarray:
    return imresize(image, 1 / 2)


def by_opencv(image: np.ndarray) -> np.ndarray:
    return cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_CUBIC)


def set5(folder: Path, resize: Resize | None = None) -> Path:
    """Random images with Set5's sizes, as `Set5/HR`, and low-resolution ones where `resize` says how."""
    random = np.random.default_rng(0)
    for number, (width, height) in enumerate(sorted(SETS["Set5"].parts["test"].sizes)):
        image = random.integers(0, 256, (height, width, 3), np.uint8)
        write_image(folder / "Set5" / "HR" / f"{number}.png", image)
        if resize:
            write_image(folder / "Set5" / "LR_bicubic" / "X2" / f"{number}x2.png", resize(image))
    return folder / "Set5"


def packed(folder: Path, archive: Path, files: str = "*.png") -> Path:
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted(folder.rglob(files)):
            file.write(path, path.relative_to(folder.parent))
    return archive


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder and the address under which it is served."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

    folder = tmp_path / "site"
    folder.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as http:
        thread = Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield folder, f"http://127.0.0.1:{http.server_address[1]}"
        http.shutdown()
        thread.join()


def test_what_was_downloaded_is_unpacked_and_not_downloaded_again(
    tmp_path: Path, site: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, url = site
    packed(set5(tmp_path / "made"), folder / "Set5_HR.zip")
    archive = Archive((Mirror(f"{url}/gone.zip"), Mirror(f"{url}/Set5_HR.zip")), (Folder("Set5/HR", 5, ("Set5/HR",)),))
    monkeypatch.setitem(SETS, "Set5", replace(SETS["Set5"], archives=(archive,), folders=(), page="the page"))
    root = tmp_path / "root"
    assert install("Set5", root) == ["Set5/HR"]
    for path in find_images("Set5", "test", root).clean:
        assert (read_image(path) == read_image(tmp_path / "made" / "Set5" / "HR" / path.name)).all()
    assert [path.name for path in (root / ".downloads" / "Set5").iterdir()] == [".lock"]
    (folder / "Set5_HR.zip").unlink()
    assert install("Set5", root) == []


def test_an_answer_that_is_no_archive_is_said_and_can_be_deleted(
    tmp_path: Path, site: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (site[0] / "a.zip").write_text("<html>please log in</html>")
    archive = Archive((Mirror(f"{site[1]}/a.zip"),), (Folder("A", 1, ("A",)),))
    monkeypatch.setitem(SETS, "Set5", replace(SETS["Set5"], archives=(archive,), folders=(), page="http://page"))
    with pytest.raises(UserError, match=r"no zip or tar archive, .*; delete .*a\.zip to download it again"):
        install("Set5", tmp_path)


def test_where_no_address_answers_the_message_says_what_to_do(
    tmp_path: Path, site: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = Archive((Mirror(f"{site[1]}/a.zip", 7, "md5:0"), Mirror(f"{site[1]}/b.zip")), (Folder("A", 1, ("A",)),))
    monkeypatch.setitem(SETS, "Set5", replace(SETS["Set5"], archives=(archive,), folders=(), page="http://page"))
    with pytest.raises(UserError) as error:
        install("Set5", tmp_path)
    assert str(error.value) == (
        f"Set5: none of the download sources works "
        f"({site[1]}/a.zip: HTTP 404 File not found; {site[1]}/b.zip: HTTP 404 File not found);"
        f" download a.zip (7 bytes, md5:0) by hand from http://page, put it into {tmp_path}/.downloads/Set5 and run "
        "this again"
    )


def test_a_set_without_archive_is_put_there_by_hand(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"PolyU: there is no archive .* put 50 images into .*/PolyU/clean and 50 images"
    ):
        install("PolyU", tmp_path)


@pytest.mark.parametrize("kind", ["folder", "parent", "images", "archive", "address"])
def test_a_data_set_comes_from_whatever_is_at_hand(tmp_path: Path, site: tuple[Path, str], kind: str) -> None:
    made = set5(tmp_path / "made", by_matlab)
    archive = packed(made, site[0] / "mine.zip")
    given = {"folder": made, "parent": made.parent, "images": made / "HR", "archive": archive}
    new = install_from("Set5", str(given.get(kind, f"{site[1]}/mine.zip")), tmp_path / "root")
    assert new == (["Set5/HR"] if kind == "images" else ["Set5/HR", "Set5/LR_bicubic/X2"])
    (verification,) = verify("Set5", tmp_path / "root")
    assert (verification.images, verification.scales, verification.wrong) == (5, () if kind == "images" else (2,), [])


def test_an_archive_of_the_same_name_at_another_address_is_another(tmp_path: Path, site: tuple[Path, str]) -> None:
    for folder in ("old", "new"):
        (site[0] / folder).mkdir()
    (site[0] / "old/mine.zip").write_text("<html>please log in</html>")
    packed(set5(tmp_path / "made", by_matlab), site[0] / "new/mine.zip")
    with pytest.raises(UserError, match=r"no zip or tar archive, .*; delete .*mine\.zip to download it again"):
        install_from("Set5", f"{site[1]}/old/mine.zip", tmp_path / "root")
    assert install_from("Set5", f"{site[1]}/new/mine.zip", tmp_path / "root") == ["Set5/HR", "Set5/LR_bicubic/X2"]


def test_an_archive_of_a_known_name_must_have_the_known_bytes(tmp_path: Path) -> None:
    archive = packed(set5(tmp_path / "made"), tmp_path / "Urban100_HR.tar.gz")
    with pytest.raises(UserError, match=r"Urban100_HR\.tar\.gz: its md5 is .*, expected 65d9d84a"):
        install_from("Urban100", str(archive), tmp_path / "root")


def test_nothing_is_installed_of_what_is_incomplete_damaged_or_something_else(tmp_path: Path) -> None:
    made = set5(tmp_path / "made")
    with pytest.raises(UserError, match=r"holds no folder of Set12 \(looked for testsets/Set12\)"):
        install_from("Set12", str(made), tmp_path / "root")
    image = made / "HR" / "3.png"
    image.write_bytes(image.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"made/Set5: 3\.png: not a readable image"):
        install_from("Set5", str(made), tmp_path / "root")
    assert not (tmp_path / "root" / "Set5").exists()
    image.unlink()
    with pytest.raises(UserError, match="HR holds 4 images, expected 5"):
        install_from("Set5", str(made), tmp_path / "root")
    assert not [path for path in (tmp_path / "root").rglob("*") if path.is_file()]


def test_a_test_set_is_taken_out_of_the_archive_of_a_whole_repository(
    tmp_path: Path, site: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = SETS["classic5"]
    repository = tmp_path / "SwinIR-main"
    for name in ("classic5", "Set12"):
        for number in range(5):
            write_image(repository / "testsets" / name / f"{number}.bmp", np.full((512, 512, 1), 40, np.uint8))
    packed(repository, site[0] / "main.zip", "*.bmp")
    (archive,) = source.archives
    at_hand = replace(archive, mirrors=(Mirror(f"{site[1]}/main.zip"),))
    monkeypatch.setitem(SETS, "classic5", replace(source, archives=(at_hand,)))
    assert archive.mirrors[0].url == "https://github.com/JingyunLiang/SwinIR/archive/refs/heads/main.zip"
    assert install("classic5", tmp_path / "root") == ["classic5"]
    assert len(find_images("classic5", "test", tmp_path / "root").clean) == 5


def test_what_the_user_has_there_is_not_touched(tmp_path: Path) -> None:
    made = set5(tmp_path / "made")
    (tmp_path / "root" / "Set5" / "HR").mkdir(parents=True)
    (tmp_path / "root" / "Set5" / "HR" / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="HR: is not empty; move it away"):
        install_from("Set5", str(made), tmp_path / "root")
    write_image(tmp_path / "root" / "Set5" / "HR" / "mine.png", np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(UserError, match="HR: holds 1 images, expected 5; move it away"):
        install_from("Set5", str(made), tmp_path / "root")
    assert (tmp_path / "root" / "Set5" / "HR" / "notes.txt").read_text() == "mine"


def test_what_a_mac_leaves_beside_images_is_not_counted(tmp_path: Path) -> None:
    made, installed = set5(tmp_path / "made", by_matlab), set5(tmp_path / "root")
    for folder in (made / "LR_bicubic" / "X2", installed / "HR"):
        (folder / "._0.png").write_bytes(b"a Mac was here")
    assert install_from("Set5", str(made), tmp_path / "root") == ["Set5/LR_bicubic/X2"]
    assert len(list((installed / "LR_bicubic" / "X2").iterdir())) == 5


def test_low_resolution_images_that_matlab_did_not_make_are_remarked(tmp_path: Path) -> None:
    set5(tmp_path / "matlab", by_matlab)
    set5(tmp_path / "opencv", by_opencv)
    (matlab,), (opencv,) = verify("Set5", tmp_path / "matlab"), verify("Set5", tmp_path / "opencv")
    assert not any("MATLAB" in remark for remark in matlab.remarks)
    assert any("x2 was not made by MATLAB's bicubic: " in remark for remark in opencv.remarks)
    assert matlab.wrong == opencv.wrong == []


@pytest.mark.parametrize(("mistake", "complaint"), [
    (lambda set5: (set5 / "HR" / "0.png").unlink(), "X2: 0x2.png have no counterpart in the other folder"),
    (lambda set5: (set5 / "LR_bicubic" / "X2" / "1x2.png").unlink(), "X2: no counterpart for 1.png"),
    (lambda set5: write_image(set5 / "HR" / "0.png", np.zeros((20, 30, 3), np.uint8)), "0.png is 30x20"),
    (lambda set5: (set5 / "HR" / "0.png").write_bytes(b"no image"), "0.png: not a readable image"),
    (
        lambda set5: write_image(set5 / "LR_bicubic" / "X2" / "1x2.png", np.zeros((128, 99, 3), np.uint8)),
        "1.png: is 256x256, but its degraded image of scale 2 is 99x128",
    ),
])  # fmt: skip
def test_what_is_wrong_is_named(tmp_path: Path, mistake: Callable[[Path], None], complaint: str) -> None:
    mistake(set5(tmp_path, by_matlab))
    (verification,) = verify("Set5", tmp_path)
    assert verification.verdict == "wrong"
    assert complaint in "; ".join(verification.wrong)


def test_the_reference_sets_are_what_the_catalog_says(reference_data: Path) -> None:
    verifications = {(f.name, f.split): f for name in SETS for f in verify(name, reference_data)}
    there = {("BSDS500", "train"): 400, ("BSDS500", "test"): 100, ("B100", "test"): 100, ("Train400", "train"): 400}
    sets = {"Set5": 5, "Set14": 14, "Set12": 12, "BSD68": 68, "CBSD68": 68, "Kodak24": 24, "classic5": 5, "LIVE1": 29}
    there |= {(name, "test"): n for name, n in {**sets, "PolyU": 50}.items()}
    assert {key: f.images for key, f in verifications.items() if f.images} == there
    assert {(*f.wrong, *f.remarks) for f in verifications.values()} == {()}
    assert verifications["Set5", "test"].scales == (2, 4)
    assert verifications["PolyU", "test"].scales == (1,)


def test_bsd68_is_made_from_bsds500_bit_for_bit(reference_data: Path, tmp_path: Path) -> None:
    (tmp_path / "BSDS500").symlink_to(reference_data / "BSDS500")
    assert install("BSD68", tmp_path) == ["BSD68"]
    made = find_images("BSD68", "test", tmp_path).clean
    published = find_images("BSD68", "test", reference_data).clean
    assert [path.name for path in made] == [path.name for path in published]
    assert all((read_image(a) == read_image(b)).all() for a, b in zip(made, published, strict=True))


def run(*args: str | Path) -> int:
    return data.main([str(arg) for arg in args])


def test_the_command_installs_prints_a_table_and_fails_where_something_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made, root = set5(tmp_path / "made", by_opencv), tmp_path / "root"
    assert run("Set5", "--root", root, "--from", made) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "Set5: installed Set5/HR, Set5/LR_bicubic/X2" in lines
    assert "Set5 test 5 x2 ok" in lines
    assert any(line.startswith("note: Set5 test: x2 was not made by MATLAB's bicubic") for line in lines)
    assert run("verify", "--root", root) == 0  # what is not installed is no fault
    assert run("verify", "Set14", "--root", root) == 1  # unless it was asked for
    assert run("PolyU", "--root", root) == 1
    assert capsys.readouterr().err.startswith("failed: PolyU: there is no archive to download")
    (root / "Set5" / "HR" / "0.png").unlink()
    assert run("verify", "--root", root) == 1
    assert "0x2.png have no counterpart in the other folder" in capsys.readouterr().out


@pytest.mark.parametrize(("args", "complaint"), [
    (["Set6"], "Set6: unknown data set; did you mean Set5?; known: DIV2K, BSDS500, "),
    (["all", "--from", "."], "--from takes exactly one data set"),
    (["verify", "Set5", "--from", "."], "--from takes exactly one data set"),
])  # fmt: skip
def test_a_mistake_is_one_line(args: list[str], complaint: str) -> None:
    with pytest.raises(SystemExit) as end:
        cli.run(partial(run, *args))
    assert complaint in str(end.value.code)
    assert "\n" not in str(end.value.code)
