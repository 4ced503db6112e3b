"""An index of eight painted photos, made once, and a client of the application."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.served_photos import NUM_PHOTOS, paint


@pytest.fixture(scope="module")
def served_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home with the index ``trip`` of ``trip/0.jpg`` to ``7.jpg``; ``7.jpg`` is tall."""
    from xmodal_cli.__main__ import main

    folder = tmp_path_factory.mktemp("served")
    (folder / "trip").mkdir()
    for n in range(NUM_PHOTOS):
        paint(folder / "trip" / f"{n}.jpg", n, (150, 400) if n == 7 else (200, 150))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XMODAL_HOME", str(folder / "home"))
        assert main(["index", str(folder / "trip"), "--index", "trip"]) == 0
        yield folder


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
