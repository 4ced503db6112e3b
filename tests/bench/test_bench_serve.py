"""``xmodal serve`` with an index of 100,000 photos: the first response, the time per keystroke, and memory.

The peer is the same search in this process: the server adds HTTP, JSON and the facts of 60 photos.
"""

from __future__ import annotations

import http.client
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
from helpers.large_index import write_large_index
from helpers.modality_gap import image_blocks
from helpers.served_photos import free_port

from xmodal_cli.data.scan import FoundFile
from xmodal_cli.inference.index_models import describe_matcher, to_index_model
from xmodal_cli.recipes.search import open_searcher
from xmodal_cli.retrieval import registry
from xmodal_cli.retrieval.search_options import SearchOptions

COUNT, HITS = int(os.environ.get("XMODAL_BENCH_PHOTOS", "100000")), 60
LOAD = int(os.environ.get("XMODAL_BENCH_REQUESTS", "5000"))
SENTENCES = ("two dogs run in the snow", "a child on a red swing", "people at the beach at night", "a white car")
KEYSTROKES = [text[:n] for text in SENTENCES for n in range(1, len(text) + 1) if text[n - 1] != " "]
OVERHEAD, GROWTH = 3.0, 1.15  # times the search itself; memory after the load, times that before

pytestmark = [pytest.mark.bench, pytest.mark.slow]


@pytest.fixture(scope="module")
def large_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home with the index ``big`` of photos that exist, as empty files."""
    folder = tmp_path_factory.mktemp("serve")
    (folder / "photos").mkdir()
    files = [folder / "photos" / f"{n:06}.jpg" for n in range(COUNT)]
    for file in files:
        file.touch()
    model = to_index_model(describe_matcher("starter"))
    vectors = np.concatenate(list(image_blocks(COUNT, model.embed_dim)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XMODAL_HOME", str(folder / "home"))
        target = registry.resolve_folder("big")
        found = [FoundFile(str(file), 0, n * 10**9) for n, file in enumerate(files)]
        write_large_index(target, folder / "photos", found, vectors, model)
        registry.set_default(target)
        yield folder


@pytest.fixture(autouse=True)
def default_home(home: Path, large_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XMODAL_HOME", str(large_home / "home"))


@pytest.fixture(scope="module")
def server(large_home: Path) -> Iterator[tuple[int, int, float]]:
    """The port and the process id of a server, and the seconds from its start to the first response of a search."""
    port = free_port()
    started = time.perf_counter()
    command = [sys.executable, "-m", "xmodal_cli", "serve", "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with closing(http.client.HTTPConnection("127.0.0.1", port)) as connection:
            get(connection, "dogs")
        yield port, process.pid, time.perf_counter() - started
        process.terminate()


def get(connection: http.client.HTTPConnection, line: str) -> None:
    connection.request("GET", f"/api/search?k={HITS}&q={quote(line)}")
    response = connection.getresponse()
    assert response.status == 200 and response.read().count(b'"rank"') == HITS


def resident(pid: int) -> float:
    """MB of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def test_keystrokes(server: tuple[int, int, float], report: Callable[[str, str], None]) -> None:
    port, _, first = server
    report(f"{COUNT:,} photos, start to the first response", f"{first:.2f} s")
    connection = http.client.HTTPConnection("127.0.0.1", port)
    with closing(connection), open_searcher() as searcher:
        options, times, peer, newest = SearchOptions(HITS), list[float](), list[float](), list[float]()
        for _ in range(5):  # what is loaded later
            get(connection, "a warm-up")
            searcher.search(["a warm-up"], options)
        for line in KEYSTROKES:
            for found, call in ((times, lambda t=line: get(connection, t)), (newest, lambda: get(connection, ""))):
                started = time.perf_counter()
                call()
                found.append(1000 * (time.perf_counter() - started))
            started = time.perf_counter()
            searcher.search([line], options)
            peer.append(1000 * (time.perf_counter() - started))
    for name, values in (("a keystroke", times), ("the same without the server", peer), ("without a query", newest)):
        p50, p95 = np.percentile(values, [50, 95])
        report(f"{COUNT:,} photos, {name}, p50 and p95", f"{p50:.1f} and {p95:.1f} ms")
    assert np.median(times) < OVERHEAD * np.median(peer)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_under_load(server: tuple[int, int, float], report: Callable[[str, str], None]) -> None:
    port, pid, _ = server
    sizes = []
    with closing(http.client.HTTPConnection("127.0.0.1", port)) as connection:
        for n in range(LOAD + 500):
            get(connection, f"{KEYSTROKES[n % len(KEYSTROKES)]} {n}")
            if n in (499, LOAD + 499):
                sizes.append(resident(pid))
    report(f"{COUNT:,} photos, memory after 500 and {LOAD + 500:,} searches", f"{sizes[0]:.0f} and {sizes[1]:.0f} MB")
    assert sizes[1] < GROWTH * sizes[0]
