"""Downloads from a local server with simulated failures, and extraction of damaged and malicious archives."""

from __future__ import annotations

import hashlib
import io
import os
import socket
import tarfile
import threading
import urllib.error
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

from xmodal_cli.data import download
from xmodal_cli.data.archives import extract
from xmodal_cli.data.download import fetch
from xmodal_cli.data.sources import RemoteFile
from xmodal_cli.errors import DownloadError, StorageError
from xmodal_cli.reporter import SILENT

CONTENT = bytes(range(256)) * 4000  # about 1 MB


@dataclass
class Server:
    """Behavior of the server, and the requests it received."""

    url: str = ""
    content: bytes = CONTENT
    breaks: list[int] = field(default_factory=list)  # bytes after which the first responses are cut, one per request
    ranges: bool = True
    status: int = 0  # an error status to respond with; 0 sends the file
    requests: list[str | None] = field(default_factory=list)  # the Range header of each request


class Handler(BaseHTTPRequestHandler):
    def __init__(self, server: Server, *args: object) -> None:
        self.plan = server
        super().__init__(*args)

    def do_GET(self) -> None:
        plan = self.plan
        requested = self.headers.get("Range")
        plan.requests.append(requested)
        if plan.status:
            self.send_error(plan.status)
            return
        start = int(requested.removeprefix("bytes=").rstrip("-")) if requested and plan.ranges else 0
        if start >= len(plan.content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(plan.content)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body = plan.content[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(plan.content) - 1}/{len(plan.content)}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: plan.breaks.pop(0)] if plan.breaks else body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(download, "RETRY_DELAY", 0.0)
    plan = Server()
    http = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, plan))
    plan.url = f"http://127.0.0.1:{http.server_port}/file.zip"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield plan
    http.shutdown()
    thread.join()
    http.server_close()


def test_a_file_is_fetched_once(server: Server, tmp_path: Path) -> None:
    remote = RemoteFile(server.url, len(CONTENT), hashlib.sha256(CONTENT).hexdigest())
    assert fetch(remote, tmp_path, SILENT).read_bytes() == CONTENT
    fetch(remote, tmp_path, SILENT)
    assert server.requests == [None]
    assert [p.name for p in tmp_path.iterdir()] == ["file.zip"]


def test_a_broken_response_is_resumed(server: Server, tmp_path: Path) -> None:
    server.breaks = [300_000, 200_000]
    assert fetch(RemoteFile(server.url), tmp_path, SILENT).read_bytes() == CONTENT
    assert server.requests == [None, "bytes=300000-", "bytes=500000-"]


def test_a_part_of_an_earlier_run_is_resumed(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.zip.part").write_bytes(CONTENT[:1000])
    assert fetch(RemoteFile(server.url), tmp_path, SILENT).read_bytes() == CONTENT
    assert server.requests == ["bytes=1000-"]


def test_a_complete_part_is_used(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.zip.part").write_bytes(CONTENT)
    assert fetch(RemoteFile(server.url), tmp_path, SILENT).read_bytes() == CONTENT


def test_a_part_that_is_too_long_is_deleted(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.zip.part").write_bytes(CONTENT + b"more")
    assert fetch(RemoteFile(server.url), tmp_path, SILENT).read_bytes() == CONTENT


def test_a_server_without_ranges_restarts_the_download(server: Server, tmp_path: Path) -> None:
    server.ranges = False
    server.breaks = [300_000]
    assert fetch(RemoteFile(server.url), tmp_path, SILENT).read_bytes() == CONTENT


def test_repeated_failures_raise_and_keep_the_part(server: Server, tmp_path: Path) -> None:
    server.breaks = [300_000] + [0] * 20
    with pytest.raises(DownloadError, match="cannot be fetched") as caught:
        fetch(RemoteFile(server.url), tmp_path, SILENT)
    assert str(tmp_path / "file.zip") in caught.value.hint
    assert (tmp_path / "file.zip.part").read_bytes() == CONTENT[:300_000]
    assert len(server.requests) == 1 + download.MAX_ATTEMPTS


@pytest.mark.parametrize(("status", "num_requests"), [(404, 1), (503, download.MAX_ATTEMPTS)])
def test_error_statuses_raise_and_only_server_errors_are_retried(
    server: Server, tmp_path: Path, status: int, num_requests: int
) -> None:
    server.status = status
    with pytest.raises(DownloadError, match=str(status)):
        fetch(RemoteFile(server.url), tmp_path, SILENT)
    assert len(server.requests) == num_requests


@pytest.mark.parametrize(
    ("expected", "message"),
    [({"size": 7}, "has .* bytes instead of 7"), ({"sha256": "0" * 64}, "does not have the expected sha256")],
    ids=["size", "sha256"],
)
def test_an_unexpected_file_is_an_error_and_deleted(
    server: Server, tmp_path: Path, expected: dict[str, object], message: str
) -> None:
    with pytest.raises(DownloadError, match=message):
        fetch(RemoteFile(server.url, **expected), tmp_path, SILENT)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_raises_and_keeps_the_part(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> Iterator[bytes]:
        yield CONTENT[:10]
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(download, "_chunks", full)
    with pytest.raises(StorageError, match="no space left"):
        fetch(RemoteFile(server.url), tmp_path, SILENT)
    assert (tmp_path / "file.zip.part").read_bytes() == CONTENT[:10]


def test_a_file_larger_than_the_free_space_raises_before_the_download(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file.zip.part").write_bytes(CONTENT[:1000])
    needed = len(CONTENT) - 1000
    monkeypatch.setattr(download.shutil, "disk_usage", lambda path: SimpleNamespace(free=needed - 1))
    with pytest.raises(StorageError, match="needs 1 MB more"):
        fetch(RemoteFile(server.url), tmp_path, SILENT)
    assert (tmp_path / "file.zip.part").read_bytes() == CONTENT[:1000]
    monkeypatch.setattr(download.shutil, "disk_usage", lambda path: SimpleNamespace(free=needed))
    assert fetch(RemoteFile(server.url), tmp_path, SILENT).read_bytes() == CONTENT


def test_without_a_network_it_fails_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*args: object, **kwargs: object) -> None:
        raise urllib.error.URLError(socket.gaierror(-2, "Name or service not known"))

    def never(seconds: float) -> None:
        raise AssertionError("it sleeps")

    monkeypatch.setattr(download.urllib.request, "urlopen", unknown)
    monkeypatch.setattr(download.time, "sleep", never)
    with pytest.raises(DownloadError, match="not known") as caught:
        fetch(RemoteFile("http://nowhere.invalid/file.zip"), tmp_path, SILENT)
    assert str(tmp_path / "file.zip") in caught.value.hint


# ---------------------------------------------------------------------------- archives


def zipped(path: Path, members: dict[str, bytes], link: str = "") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
        if link:
            info = zipfile.ZipInfo(link)
            info.external_attr = 0o120777 << 16
            archive.writestr(info, "/etc/passwd")
    return path


def tarred(path: Path, members: dict[str, bytes], link: str = "") -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        if link:
            info = tarfile.TarInfo(link)
            info.type, info.linkname = tarfile.SYMTYPE, "/etc"
            archive.addfile(info)
    return path


@pytest.mark.parametrize(("make", "name"), [(zipped, "a.zip"), (tarred, "a.tar.gz")])
def test_members_are_extracted_to_the_folder(make: object, name: str, tmp_path: Path) -> None:
    archive = make(tmp_path / name, {"x/one.jpg": b"1", "two.txt": b"22"})  # type: ignore[operator]
    assert extract(archive, tmp_path / "out", (), SILENT) == 2
    assert (tmp_path / "out/x/one.jpg").read_bytes() == b"1"
    assert (tmp_path / "out/two.txt").read_bytes() == b"22"


def test_only_limits_the_members(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "a.zip", {"d/coco.json": b"{}", "d/f8k.json": b"{}"})
    assert extract(archive, tmp_path / "out", ("f8k.json",), SILENT) == 1
    assert sorted(p.name for p in (tmp_path / "out").rglob("*.json")) == ["f8k.json"]


@pytest.mark.parametrize("name", ["../out.txt", "/tmp/out.txt", "a/../../out.txt", "..\\out.txt", "C:\\out.txt"])
@pytest.mark.parametrize(("make", "archive"), [(zipped, "a.zip"), (tarred, "a.tar.gz")])
def test_members_with_paths_outside_the_folder_are_an_error(
    make: object, archive: str, name: str, tmp_path: Path
) -> None:
    unsafe = make(tmp_path / archive, {name: b"harm"})  # type: ignore[operator]
    with pytest.raises(DownloadError, match=r"is not safe to extract: .* has a path outside the folder"):
        extract(unsafe, tmp_path / "in", (), SILENT)
    assert not (tmp_path / "out.txt").exists()


@pytest.mark.parametrize(("make", "archive"), [(zipped, "a.zip"), (tarred, "a.tar.gz")])
def test_links_are_an_error(make: object, archive: str, tmp_path: Path) -> None:
    unsafe = make(tmp_path / archive, {}, link="innocent")  # type: ignore[operator]
    with pytest.raises(DownloadError, match="link"):
        extract(unsafe, tmp_path / "in", (), SILENT)


def test_members_are_not_written_through_a_linked_folder(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "in").mkdir()
    (tmp_path / "in/d").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DownloadError, match="link"):
        extract(zipped(tmp_path / "a.zip", {"d/x": b"harm"}), tmp_path / "in", (), SILENT)
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize("keep", [0, 10, 120])
def test_a_damaged_archive_raises_and_is_deleted(keep: int, tmp_path: Path) -> None:
    archive = zipped(tmp_path / "a.zip", {"x.bin": os.urandom(2000)})
    archive.write_bytes(archive.read_bytes()[:keep])
    with pytest.raises(DownloadError, match="damaged"):
        extract(archive, tmp_path / "out", (), SILENT)
    assert not archive.exists()


def test_a_member_with_a_wrong_checksum_is_not_written(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "a.zip", {"x.bin": os.urandom(2000)})
    content = bytearray(archive.read_bytes())
    content[500] ^= 0xFF
    archive.write_bytes(bytes(content))
    with pytest.raises(DownloadError, match="damaged"):
        extract(archive, tmp_path / "out", (), SILENT)
    assert [p for p in (tmp_path / "out").rglob("*") if p.is_file()] == []


def test_a_damaged_archive_from_a_server_raises_and_a_good_one_is_read(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from xmodal_cli.data.sources import Source
    from xmodal_cli.recipes import data

    source = Source("test", (RemoteFile(server.url),), "none")
    monkeypatch.setattr(data, "SOURCES", {"f8k": source})
    with pytest.raises(DownloadError, match="damaged"):
        data.get_dataset("f8k", tmp_path / "f8k")
    image = b"not opened here"
    server.content = zipped(
        tmp_path / "good.zip", {"captions.txt": b"image,caption\na.jpg,a dog\n", "a.jpg": image}
    ).read_bytes()
    summary = data.get_dataset("f8k", tmp_path / "f8k")
    assert summary.format == "kaggle" and summary.captions == 1
