"""Downloads from a local server that is slow, breaks off, lies, forgets ranges or has nothing."""

import hashlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from restore.data.download import fetch
from restore.data.sources import Mirror
from restore.errors import UserError

CONTENT = np.random.default_rng(0).integers(0, 256, 100_000, np.uint8).tobytes()
WRONG = bytes(100_000)
SHA256 = "sha256:" + hashlib.sha256(CONTENT).hexdigest()


@dataclass
class Server:
    """Where it is, and the range of each request that it saw: (path, `Range` header)."""

    url: str
    requests: list[tuple[str, str | None]] = field(default_factory=list)

    def mirror(self, manner: str, size: int | None = len(CONTENT), digest: str = SHA256) -> Mirror:
        return Mirror(f"{self.url}/{manner}/file.zip", size, digest)

    def ranges(self, manner: str) -> list[str | None]:
        return [asked for path, asked in self.requests if path == f"/{manner}/file.zip"]


@pytest.fixture
def server() -> Iterator[Server]:
    """A server whose manners are named by the first part of the path."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            manner, asked = self.path.split("/")[1], self.headers["Range"]
            known.requests.append((self.path, asked))
            if manner == "nothing":
                self.send_error(404)
                return
            if manner == "overloaded" and len(known.ranges(manner)) == 1:
                self.send_error(503)
                return
            content = WRONG if manner == "wrong" else CONTENT
            start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and manner != "rangeless" else 0
            if asked and start >= len(content):
                self.send_error(416)
                return
            self.send_response(206 if asked and manner != "rangeless" else 200)
            if manner == "shifted":
                start = start // 2
            if asked and manner != "rangeless":
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            if manner == "endless":
                self.end_headers()
                self.wfile.write(content + content)
                return
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            if manner == "silent":
                time.sleep(1)
            elif manner == "slow":
                for first in range(start, len(content), 10_000):
                    self.wfile.write(content[first : first + 10_000])
                    self.wfile.flush()
                    time.sleep(0.02)
            elif manner in ("breaking", "rangeless") and len(known.ranges(manner)) <= 3:
                self.wfile.write(content[start : start + 20_000])
            elif manner == "stuck":
                pass
            else:
                self.wfile.write(content[start:])

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        known = Server(f"http://127.0.0.1:{http.server_address[1]}")
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield known
        http.shutdown()
        thread.join()


def get(folder: Path, *mirrors: Mirror) -> bytes:
    return fetch(mirrors, folder, timeout_s=0.3, pause_s=0).read_bytes()


@pytest.mark.parametrize("manner", ["plain", "slow", "breaking", "rangeless", "overloaded"])
def test_a_file_arrives_whole_whatever_the_servers_manners(server: Server, tmp_path: Path, manner: str) -> None:
    assert get(tmp_path, server.mirror(manner)) == CONTENT
    assert not list(tmp_path.glob("*.partial"))


def test_a_broken_off_download_goes_on_where_it_ended(server: Server, tmp_path: Path) -> None:
    get(tmp_path, server.mirror("breaking"))
    assert server.ranges("breaking") == [None, "bytes=20000-", "bytes=40000-", "bytes=60000-"]


def test_a_later_call_goes_on_too_and_asks_nothing_once_all_is_there(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.zip.partial").write_bytes(CONTENT[:70_000])
    assert get(tmp_path, server.mirror("plain")) == CONTENT
    assert get(tmp_path, server.mirror("plain")) == CONTENT
    assert server.ranges("plain") == ["bytes=70000-"]


@pytest.mark.parametrize("left_over", [WRONG[:70_000], CONTENT + b"more", WRONG])
def test_a_damaged_left_over_is_thrown_away(server: Server, tmp_path: Path, left_over: bytes) -> None:
    (tmp_path / "file.zip.partial").write_bytes(left_over)
    assert get(tmp_path, server.mirror("plain")) == CONTENT


@pytest.mark.parametrize(("manner", "complaint"), [
    ("nothing", "HTTP 404 Not Found"),
    ("wrong", "its sha256 is "),
    ("stuck", "broke off after 0 of 100000 bytes"),
    ("silent", "timed out"),
    ("endless", "sends more than 100000 bytes"),
])  # fmt: skip
def test_the_next_address_is_asked_and_what_was_wrong_is_said(
    server: Server, tmp_path: Path, manner: str, complaint: str
) -> None:
    with pytest.raises(
        UserError, match=f"none of the download sources works .*/{manner}/file.zip: .*{complaint}"
    ) as error:
        get(tmp_path, server.mirror(manner))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "file.zip").exists()
    assert get(tmp_path, server.mirror(manner), server.mirror("plain")) == CONTENT


def test_an_offer_of_another_size_is_refused_before_anything_is_read(server: Server, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="offers 100000 bytes, expected 99"):
        get(tmp_path, server.mirror("plain", size=99))
    assert not list(tmp_path.glob("*.partial"))


def test_another_part_than_was_asked_for_is_not_appended(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.zip.partial").write_bytes(CONTENT[:70_000])
    with pytest.raises(UserError, match="another part of the file"):
        get(tmp_path, server.mirror("shifted"))


def test_a_server_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none of the download sources works .*refused"):
        get(tmp_path, Mirror("http://127.0.0.1:9/file.zip"))


def test_a_file_put_there_by_hand_is_checked_and_used(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.zip").write_bytes(CONTENT)
    assert get(tmp_path, server.mirror("plain")) == CONTENT
    assert server.requests == []
    (tmp_path / "file.zip").write_bytes(WRONG)
    with pytest.raises(UserError, match=r"file\.zip: its sha256 is .*, expected .*: damaged or another version"):
        get(tmp_path, server.mirror("plain"))
    (tmp_path / "file.zip").write_bytes(CONTENT[:-1])
    with pytest.raises(UserError, match="has 99999 bytes, expected 100000"):
        get(tmp_path, server.mirror("plain"))


def test_a_full_disk_is_foreseen(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000}))
    with pytest.raises(UserError, match="100000 more bytes are needed, but only 1000 are free"):
        get(tmp_path, server.mirror("plain"))
