"""An index of eight painted photos, made once, a client of the application, and its page in a browser."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.browser import wait_for_photos
from helpers.served_datasets import write_features, write_tricky
from helpers.served_photos import NUM_PHOTOS, free_port, paint
from helpers.written_runs import write_run

from xmodal_cli.data import registry

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def served_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home with the index ``trip`` of ``trip/0.jpg`` to ``7.jpg``, also as the dataset f8k; ``7.jpg`` is tall."""
    from xmodal_cli.__main__ import main

    folder = tmp_path_factory.mktemp("served")
    (folder / "trip").mkdir()
    write_run(folder / "home" / "runs" / "vse-f8k", epochs=4, best_epoch=4)
    for n in range(NUM_PHOTOS):
        paint(folder / "trip" / f"{n}.jpg", n, (150, 400) if n == 7 else (200, 150))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XMODAL_HOME", str(folder / "home"))
        assert main(["index", str(folder / "trip"), "--index", "trip"]) == 0
        registry.add("f8k", folder / "trip")  # the name in the examples of the API
        yield folder


@pytest.fixture(scope="module")
def served_datasets(served_home: Path) -> Path:
    """The folder of the registered datasets ``tricky`` and ``features``, see ``helpers.served_datasets``."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XMODAL_HOME", str(served_home / "home"))
        registry.add("tricky", write_tricky(served_home / "tricky"))
        registry.add("features", write_features(served_home / "features"))
    return served_home


@pytest.fixture(autouse=True)
def default_home(home: Path, served_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The home of the index, instead of an empty one."""
    monkeypatch.setenv("XMODAL_HOME", str(served_home / "home"))


@pytest.fixture
def photos(served_home: Path) -> Path:
    return served_home / "trip"


@pytest.fixture
def client() -> Iterator[object]:
    """``client.get("/api/status")``, as a browser on this machine."""
    from starlette.testclient import TestClient

    from xmodal_cli.serve.application import create_app
    from xmodal_cli.serve.settings import ServeSettings

    app = create_app(ServeSettings(max_upload=200_000, max_photos=3))
    with TestClient(app, base_url="http://127.0.0.1:7878", raise_server_exceptions=False) as found:
        yield found


@pytest.fixture(scope="module")
def address(served_home: Path, browser: Any) -> Iterator[str]:
    """The address of a server, for tests in the browser."""
    port = free_port()
    command = [sys.executable, "-m", "xmodal_cli", "serve", "--port", str(port)]
    environment = {**os.environ, "XMODAL_HOME": str(served_home / "home")}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield f"http://127.0.0.1:{port}/"
        process.terminate()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium. Skips where it or Playwright is not installed."""
    playwright = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    with playwright.sync_playwright() as started:
        found = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    """The page with all photos; the test fails for any error in its console."""
    found = browser.new_page(viewport={"width": 1200, "height": 800})
    errors: list[str] = []
    found.on("pageerror", lambda error: errors.append(str(error)))
    found.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    found.goto(address)
    wait_for_photos(found)
    yield found
    found.close()
    assert errors == []
