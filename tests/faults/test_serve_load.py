"""``xmodal serve`` under load: 50 connections during updates of the index, beside clients that are slow or go away.

Each search has the photos and the scores of one commit, as a search of the command has them.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from helpers.served_photos import free_port, paint
from PIL import Image

CONNECTIONS, SLOW = 50, 6
SENTENCES = ("a red sky", "two dogs", "green and blue")
MOST = 1000  # hits
PEAK_MB = 600
Hits = tuple[tuple[str, float], ...]


@pytest.fixture
def photos(home: Path, tmp_path: Path) -> Path:
    """A folder of 12 photos that the index ``trip`` has."""
    folder = tmp_path / "trip"
    folder.mkdir()
    for n in range(12):
        paint(folder / f"{n:02}.jpg", n)
    xmodal_json("index", str(folder), "--index", "trip")
    return folder


@pytest.fixture
def server(photos: Path) -> Iterator[tuple[int, int]]:
    """The port and the process id."""
    port = free_port()
    command = [sys.executable, "-m", "xmodal_cli", "serve", "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            yield port, process.pid
        finally:
            process.terminate()


def xmodal_json(*arguments: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "xmodal_cli", *arguments, "--json"], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def hits_of(found: Any) -> Hits:
    return tuple((Path(hit["path"]).name, round(hit["score"], 4)) for hit in found["hits"])


def state() -> dict[str, Hits]:
    """The hits of each sentence, by the command."""
    return {text: hits_of(xmodal_json("search", text, "-k", str(MOST), "--index", "trip")) for text in SENTENCES}


class Load:
    """Requests of ``CONNECTIONS`` threads, ``count`` in all; ``responses`` are (sentence, hits)."""

    def __init__(self, port: int, count: int) -> None:
        self._port, self._left, self._lock = port, count, threading.Lock()
        self.responses, self.errors, self.num_busy = list[tuple[str, Hits]](), list[str](), 0
        self._threads = [threading.Thread(target=self._guarded) for _ in range(CONNECTIONS)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    @property
    def is_running(self) -> bool:
        return any(thread.is_alive() for thread in self._threads)

    def _guarded(self) -> None:
        try:
            self._run()
        except Exception as error:
            self.errors.append(repr(error))

    def _run(self) -> None:
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self._port, timeout=120)) as connection:
            while (number := self._next()) >= 0:
                text = SENTENCES[number % len(SENTENCES)]
                found = self._get(connection, f"/api/search?k={MOST}&q={quote(text)}")
                self.responses.append((text, hits_of(json.loads(found))))
                if number % 7 == 0:
                    hit = json.loads(found)["hits"][number % 5]
                    view = self._get(connection, f"/api/photos/{hit['id']}/thumbnail", missing=Path(hit["path"]).name)
                    if view:
                        Image.open(io.BytesIO(view), formats=["WEBP"]).load()  # complete

    def _get(self, connection: http.client.HTTPConnection, address: str, missing: str = "") -> bytes:
        """The body; a busy server is asked again. A photo that was deleted meanwhile, ``missing``, has none."""
        while True:
            connection.request("GET", address)
            response = connection.getresponse()
            body = response.read()
            if response.status == 503:
                assert response.headers["Retry-After"]
                self.num_busy += 1
                time.sleep(0.02)
                continue
            if response.status == 404 and missing.startswith("new"):
                return b""
            assert response.status == 200, (address, body)
            return body

    def _next(self) -> int:
        with self._lock:
            self._left -= 1
            return self._left


@contextlib.contextmanager
def slow_clients(port: int) -> Iterator[None]:
    """Connections that send a part of a request and wait, that read nothing of a response, and that go away."""
    with contextlib.ExitStack() as stack:
        for n in range(SLOW):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            request = f"GET /api/search?k={MOST}&q=dogs HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode()
            client.sendall(request[:20] if n % 3 == 0 else request)
            if n % 3 == 2:
                client.close()
        yield


def check(photos: Path, server: tuple[int, int], count: int, num_updates: int) -> None:
    port, process = server
    states, load = [state()], Load(port, count)
    with slow_clients(port):
        load.start()
        step = 0
        while load.is_running and step < num_updates:
            step += 1
            deleted = change(photos, step)
            states.append({text: tuple(hit for hit in hits if hit[0] != deleted) for text, hits in states[-1].items()})
            xmodal_json("index", str(photos), "--index", "trip")
            states.append(state())
        while load.is_running:
            time.sleep(0.05)
    assert load.errors == [] and len(load.responses) == count
    found = {text: {hits for sentence, hits in load.responses if sentence == text} for text in SENTENCES}
    for text, seen in found.items():
        assert seen <= {known[text] for known in states}  # no mixture of two states
    assert len(found[SENTENCES[0]]) > 1  # the updates were seen
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port)) as connection:
        for text in SENTENCES:
            connection.request("GET", f"/api/search?k={MOST}&q={quote(text)}")
            assert hits_of(json.loads(connection.getresponse().read())) == states[-1][text]
    if sys.platform == "linux":
        peak = next(line for line in Path(f"/proc/{process}/status").read_text().splitlines() if "VmHWM" in line)
        assert int(peak.split()[1]) / 1024 < PEAK_MB
        print(f"{count:,} searches, {step} updates, {load.num_busy} refused, peak {int(peak.split()[1]) / 1024:.0f} MB")


def change(photos: Path, step: int) -> str:
    """Add a photo, change one, delete one of an earlier step, which is not found from then on; returns its name."""
    paint(photos / f"new{step}.jpg", 100 + step)
    paint(photos / "00.jpg", 200 + step)
    deleted = photos / f"new{step - 2}.jpg"
    deleted.unlink(missing_ok=True)
    return deleted.name


def test_searches_during_updates_have_one_state(photos: Path, server: tuple[int, int]) -> None:
    check(photos, server, 400, 2)


@pytest.mark.faults
def test_ten_thousand_searches_during_updates(photos: Path, server: tuple[int, int]) -> None:
    check(photos, server, 10_000, 1000)
