"""What a power loss can undo: data are flushed before the rename that makes them visible, and the folder after it.

The moments of commands are recorded in order; see ``helpers.faulty_runs``.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from helpers.error_checks import SET

from xmodal_cli import atomic_folder, paths
from xmodal_cli.retrieval import database

if TYPE_CHECKING:
    from helpers.index_fixtures import PhotoIndexFixture

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="finds the names of open files in /proc")


class Recorder:
    """The flushes and renames of this process, in order, as ("fsync", path) and ("rename", old, new)."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.calls: list[tuple[str, ...]] = []
        fsync, replace, rename = os.fsync, os.replace, os.rename

        def recorded_fsync(descriptor: int) -> None:
            self.calls.append(("fsync", str(Path(f"/proc/self/fd/{descriptor}").readlink())))
            fsync(descriptor)

        def recorded(function: Any) -> Any:
            def call(old: Any, new: Any) -> None:
                self.calls.append(("rename", os.fspath(old), os.fspath(new)))
                function(old, new)

            return call

        patch.setattr(os, "fsync", recorded_fsync)
        patch.setattr(os, "replace", recorded(replace))
        patch.setattr(os, "rename", recorded(rename))

    def check(self, target: Path) -> None:
        """The last rename to ``target`` has a flush of the file before it, and one of the folder after it."""
        position, call = next((n, c) for n, c in reversed(list(enumerate(self.calls))) if c[-1] == str(target))
        assert call[0] == "rename", call
        assert ("fsync", call[1]) in self.calls[:position], target
        assert ("fsync", str(target.parent)) in self.calls[position:], target


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    return Recorder(monkeypatch)


def test_files(tmp_path: Path, recorder: Recorder) -> None:
    paths.write_text(tmp_path / "a.txt", "text")
    recorder.check(tmp_path / "a.txt")


def test_the_registry_of_datasets(tmp_path: Path, home: Path, recorder: Recorder, xmodal: Any) -> None:
    (tmp_path / "a.csv").write_text("image,caption\na.jpg,a dog\n")
    assert xmodal("data", "add", "mine", tmp_path / "a.csv").code == 0
    recorder.check(home / "data" / "registry.json")


def test_a_run(
    tmp_path: Path, vector_data: Path, recorder: Recorder, xmodal: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xmodal_cli.recipes.train.draw_curves", lambda run: None)  # it takes longer than the training
    assert xmodal("train", "--model", "vse", "--data", vector_data, *SET, "--out", tmp_path / "run").code == 0
    for name in ("config.toml", "model.safetensors", "metrics.json", "last/state.safetensors"):
        recorder.check(tmp_path / "run" / name)


def test_features(tmp_path: Path, image_data: Path, mean_color_backbone: None, recorder: Recorder, xmodal: Any) -> None:
    assert xmodal("features", image_data, "--out", tmp_path / "features").code == 0
    shards = list((tmp_path / "features").glob("*.safetensors"))
    assert shards
    for file in (*shards, tmp_path / "features" / "features.json"):
        recorder.check(file)
    summary = next(n for n, call in enumerate(recorder.calls) if call[-1].endswith("features.json"))
    assert all(n < summary for n, c in enumerate(recorder.calls) if c[0] == "rename" and c[-1] in map(str, shards))


def test_an_exported_network(tmp_path: Path, recorder: Recorder) -> None:
    with atomic_folder.draft_path(tmp_path / "export") as draft:
        (draft / "a.bin").write_bytes(b"a")
        atomic_folder.replace_folder(draft, tmp_path / "export")
    names = [Path(call[-1]).name for call in recorder.calls]
    assert names[0] == "a.bin" and names[1].startswith(".export.build-"), names
    assert recorder.calls[-1] == ("fsync", str(tmp_path))


def test_the_vectors_of_an_index_are_on_disk_before_the_commit_that_names_them(
    photo_index: PhotoIndexFixture, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = sqlite3.connect
    levels = set[int]()

    def traced(*args: Any, **options: Any) -> sqlite3.Connection:
        connection = connect(*args, **options)

        def trace(statement: str) -> None:
            if statement == "COMMIT":
                recorder.calls.append(("commit", str(args[0])))

        connection.set_trace_callback(trace)
        return connection

    begin = database.transaction

    def checked(connection: sqlite3.Connection, file: Path) -> Any:
        levels.add(connection.execute("PRAGMA synchronous").fetchone()[0])
        return begin(connection, file)

    monkeypatch.setattr(sqlite3, "connect", traced)
    monkeypatch.setattr("xmodal_cli.retrieval.writer.transaction", checked)
    photo_index.fill(5)
    photo_index.update()
    (segment,) = (photo_index.index_folder / "segments").iterdir()
    recorder.check(segment)
    recorder.check(photo_index.index_folder / "items.sqlite")
    names = [call[0] if call[0] == "commit" else call[-1] for call in recorder.calls]
    commit = len(names) - 1 - names[::-1].index("commit")
    assert names.index(str(segment)) < names.index(str(segment.parent), names.index(str(segment))) < commit
    assert levels == {2}  # FULL: a commit is flushed to disk
