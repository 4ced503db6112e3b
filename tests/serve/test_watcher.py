"""``xmodal serve --watch``: changes of photos update the index; errors are kept and do not end it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.served_photos import NUM_PHOTOS, paint
from starlette.testclient import TestClient

from xmodal_cli.__main__ import main
from xmodal_cli.errors import StorageError
from xmodal_cli.reporter import SILENT
from xmodal_cli.retrieval import registry
from xmodal_cli.retrieval.stored_metadata import read_metadata
from xmodal_cli.serve.application import create_app
from xmodal_cli.serve.settings import ServeSettings
from xmodal_cli.serve.watcher import Watcher, index_updater, is_relevant


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_new_photo_is_found_and_a_deleted_one_is_not(photos):
    with TestClient(create_app(ServeSettings(watch=True)), base_url="http://127.0.0.1:7878") as client:

        def num_photos() -> int:
            return int(client.get("/api/search").json()["items"])

        def updates() -> int:
            state = client.get("/api/updates").json()
            assert state["watching"] and not state["watch"]["error"]
            return int(state["watch"]["updates"])

        paint(photos / "new.jpg", 90)
        try:
            wait_until(lambda: num_photos() == NUM_PHOTOS + 1)
            wait_until(lambda: updates() == 1)
        finally:
            (photos / "new.jpg").unlink()
        wait_until(lambda: num_photos() == NUM_PHOTOS)
        wait_until(lambda: updates() == 2)


def test_an_update_changes_neither_the_default_index_nor_imports_torch(
    served_home: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paint(tmp_path / "0.jpg", 91)
    other, trip = (registry.resolve_folder(name) for name in ("other", "trip"))
    assert main(["index", str(tmp_path), "--index", "other"]) == 0
    monkeypatch.setattr("xmodal_cli.inference.runtime.MIN_TORCH_IMAGES", 1)  # torch is considered for any photo
    monkeypatch.setattr("xmodal_cli.device.Compute.resolve", None)  # imports torch
    try:
        paint(photos / "new.jpg", 92)
        assert index_updater(trip, "auto")(SILENT)
        assert read_metadata(trip).num_items == NUM_PHOTOS + 1
        assert registry.find_default() == other
    finally:
        (photos / "new.jpg").unlink()
        assert main(["index", "--delete", "other"]) == 0
        assert main(["index", str(photos)]) == 0
    assert registry.find_default() == trip


def test_an_error_is_kept_until_an_update_succeeds(served_home, photos):
    errors = [StorageError("the disk is full", "delete something"), ValueError("a bug")]
    calls = []

    def update(reporter) -> bool:
        with reporter.task("embedding", 3) as task:
            task.advance()
        calls.append(1)
        if errors:
            raise errors.pop(0)
        return True

    watcher = Watcher(served_home / "home" / "indexes" / "trip", update)
    watcher.start()
    try:
        wait_until(lambda: watcher.state.error == "the disk is full")
        assert (watcher.state.hint, watcher.state.task, watcher.state.total) == ("delete something", "", 3)
        paint(photos / "x.jpg", 1)
        wait_until(lambda: "a bug" in watcher.state.error)
        (photos / "x.jpg").unlink()
        wait_until(lambda: watcher.state.updates == 1)
        assert watcher.state.error == ""
    finally:
        (photos / "x.jpg").unlink(missing_ok=True)
        watcher.close()


def test_the_end_of_the_server_ends_an_update(served_home):
    started = threading.Event()

    def update(reporter) -> bool:
        with reporter.task("embedding", None) as task:
            while True:
                started.set()
                task.advance()
                time.sleep(0.01)

    watcher = Watcher(served_home / "home" / "indexes" / "trip", update)
    watcher.start()
    assert started.wait(60)
    watcher.close()
    assert "watch" not in {thread.name for thread in threading.enumerate()}
    assert watcher.state.error == ""


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("a.jpg", True),
        ("A.HEIC", True),
        ("folder", True),
        (".xmodalignore", True),
        (".hidden.jpg", False),
        ("notes.txt", False),
        ("home/cache/a.jpg", False),
    ],
)
def test_relevant_changes(tmp_path, monkeypatch, path, expected):
    from watchfiles import Change

    monkeypatch.setenv("XMODAL_HOME", str(tmp_path / "home"))
    (tmp_path / "notes.txt").write_text("")
    assert is_relevant(Change.added, str(tmp_path / path)) == expected


def test_without_an_index_there_is_nothing_to_watch(home: Path, monkeypatch, xmodal):
    monkeypatch.setenv("XMODAL_HOME", str(home))
    outcome = xmodal("serve", "--watch")
    assert outcome.code == 1 and "xmodal index" in outcome.err
