"""Commits of an index: readers have one snapshot, also if the writer fails or is killed."""

from __future__ import annotations

import errno
import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from xmodal_cli import paths
from xmodal_cli.errors import BadData, MissingData, StorageError
from xmodal_cli.retrieval import database, index, segments, writer
from xmodal_cli.retrieval.database import ITEMS
from xmodal_cli.retrieval.index import open_index
from xmodal_cli.retrieval.segments import SEGMENTS
from xmodal_cli.retrieval.stored_metadata import METADATA, read_metadata

if TYPE_CHECKING:
    from helpers.index_fixtures import PhotoIndexFixture


def _temporary_files(photo_index: PhotoIndexFixture) -> set[str]:
    return {p.name for p in photo_index.index_folder.parent.iterdir()} - {".family.lock", "family"}


def test_readers_get_one_complete_version(photo_index: PhotoIndexFixture) -> None:
    """All photos are rewritten and renamed between two generations; a reader must not mix them."""
    photo_index.fill(8)
    photo_index.update()
    stop, problems, builds = threading.Event(), list[object](), list[str]()

    def read() -> None:
        try:
            while not stop.is_set():
                with photo_index.open() as opened:
                    entries = list(opened.items.all_items())
                    photos, vectors = [e.item for e in entries], opened.vectors.take(opened.vectors.rows_of(entries))
                    expected = np.stack([np.frombuffer(i.digest, np.uint8)[:4] for i in photos])
                    builds.append(opened.metadata.build)
                    if len({Path(i.path).name[:2] for i in photos}) != 1 or not np.array_equal(
                        (vectors[:, :4] * 1000).round(), expected
                    ):
                        problems.append([i.path for i in photos])
        except BaseException as error:
            problems.append(error)

    def embed(paths):
        for path in paths:
            vector = np.zeros(12, np.float32)
            vector[:4] = np.frombuffer(file_digest(str(path)), np.uint8)[:4] / 1000
            yield path, vector

    from xmodal_cli.retrieval.file_hashing import file_digest

    photo_index.model = photo_index.model.__class__(
        **{**vars(photo_index.model), "similarity": "order"}
    )  # vectors are not normalized
    photo_index.embedder = embed
    generation = _Generations(photo_index)
    generation.next()
    photo_index.update(rebuild=True)
    reader = threading.Thread(target=read)
    reader.start()
    end = time.monotonic() + 1.5
    while time.monotonic() < end or len(set(builds)) < 3:
        generation.next()
        photo_index.update()
        if problems or time.monotonic() > end + 20:
            break
    stop.set()
    reader.join()
    assert problems == []
    assert len(set(builds)) >= 3
    assert _temporary_files(photo_index) == set()


class _Generations:
    """New names and new bytes for all photos, so that files of two generations never match."""

    def __init__(self, photo_index: PhotoIndexFixture) -> None:
        self.photo_index, self.count = photo_index, 0

    def next(self) -> None:
        for path in self.photo_index.photos.iterdir():
            path.unlink()
        self.count += 1
        for i in range(5 + self.count % 3):
            self.photo_index.add(f"{self.count % 90 + 10}-{i}.jpg", f"{self.count} {i}".encode())


def test_an_index_updated_while_it_is_opened(photo_index: PhotoIndexFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """The segments of the snapshot are deleted before they are opened; the index is opened again."""
    generation = _Generations(photo_index)
    generation.next()
    photo_index.update()
    open_part, pending = index.IndexVectors, [True]

    def interrupted(*args: Any) -> Any:
        if pending:
            pending.clear()
            monkeypatch.setattr(index, "IndexVectors", open_part)
            generation.next()
            photo_index.update()
        return open_part(*args)

    monkeypatch.setattr(index, "IndexVectors", interrupted)
    assert photo_index.contents() and not pending
    photo_index.check()


def test_an_open_index_stays_readable_after_an_update(photo_index: PhotoIndexFixture) -> None:
    photo_index.fill(30)
    photo_index.update()
    with photo_index.open() as opened:
        before = opened.vectors.take(np.arange(30)).copy()
        segments = photo_index.segments()
        for path in photo_index.photos.iterdir():
            path.unlink()
        photo_index.fill(2)
        photo_index.add("000.jpg", b"changed")
        photo_index.update()
        assert not set(segments) & set(photo_index.segments())
        assert np.array_equal(opened.vectors.take(np.arange(30)), before)
        assert len(opened) == len(opened.items_of_rows(range(30))) == len(list(opened.items.all_items())) == 30
    photo_index.check()


def _raise_disk_full(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("step", ["vectors", "database", "sync"])
def test_a_full_disk_keeps_the_old_index(
    photo_index: PhotoIndexFixture, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo_index.fill(3)
    photo_index.update()
    before = read_metadata(photo_index.index_folder)
    photo_index.fill(400)
    with monkeypatch.context() as patch:
        if step == "vectors":
            patch.setattr(segments, "write_vectors", _raise_disk_full)
        elif step == "database":
            prepare = database._prepare_writing

            def limited(*args: Any) -> Any:
                connection = prepare(*args)
                connection.execute("PRAGMA max_page_count=12")
                return connection

            patch.setattr(database, "_prepare_writing", limited)
        else:
            patch.setattr(paths.os, "fsync", _raise_disk_full)
        with pytest.raises(StorageError, match="no space left") as full:
            photo_index.update()
    assert full.value.hint
    assert read_metadata(photo_index.index_folder) == before
    assert len(photo_index.contents()) == 3
    assert _temporary_files(photo_index) == set()
    assert photo_index.update().added == 397
    photo_index.check()
    assert len(photo_index.segments()) == 2


def test_a_full_disk_after_the_commit(photo_index: PhotoIndexFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """The summary cannot be written; it is written by the next update."""
    photo_index.fill(3)
    with monkeypatch.context() as patch:
        patch.setattr(writer, "write_text", _raise_disk_full)
        with pytest.raises(OSError, match="No space left"):
            photo_index.update()
    photo_index.check()
    assert photo_index.update().unchanged == 3
    assert json.loads((photo_index.index_folder / METADATA).read_text())["num_items"] == 3


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full does not exist")
@pytest.mark.parametrize("is_sorted", [False, True])
def test_a_full_disk_is_reported_for_vectors(is_sorted: bool) -> None:
    from xmodal_cli.retrieval.vectors import Layout, write_vectors

    positions = np.arange(4000)[::-1] if is_sorted else None
    with pytest.raises(OSError) as full:
        write_vectors(
            Path("/dev/full"), Layout("fp16", 4000, 8), lambda rows: np.zeros((len(rows), 8), np.float32), positions
        )
    assert full.value.errno == errno.ENOSPC


def test_a_folder_without_write_permission(photo_index: PhotoIndexFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    def raise_denied(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    photo_index.fill(1)
    monkeypatch.setattr(Path, "mkdir", raise_denied)
    with pytest.raises(StorageError, match="cannot be written: Permission denied"):
        photo_index.update()


_WRITER = """
import sys, time
from pathlib import Path
import numpy as np
from xmodal_cli.retrieval.metadata import IndexModel
from xmodal_cli.data.scan import scan
from xmodal_cli.retrieval import file_embedding
from xmodal_cli.retrieval.update import IndexRequest, update_index
from xmodal_cli.types import FeatureMeta

def embed():
    def vectors(paths):
        for i, path in enumerate(paths):
            if i == 7:
                print("seven", flush=True)
                time.sleep(60)
            yield path, np.ones(12, np.float32)
    return vectors

model = IndexModel("toy", "toy", "a" * 64, "cosine", 12, FeatureMeta("b", "f", "global", 3))
file_embedding.COMMIT_VECTORS = 3
update_index(Path(sys.argv[2]), IndexRequest(scan([Path(sys.argv[1])]), model), embed)
"""


def test_a_killed_writer_releases_the_lock_and_has_committed_its_vectors(photo_index: PhotoIndexFixture) -> None:
    photo_index.fill(10)
    command = [sys.executable, "-c", _WRITER, str(photo_index.photos), str(photo_index.index_folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"seven\n"
        with pytest.raises(StorageError, match="another xmodal process"):
            photo_index.update()
        writer.send_signal(signal.SIGKILL)
    assert len(photo_index.contents()) == 6
    changes = photo_index.update()
    assert (changes.added, changes.unchanged, changes.num_computed) == (4, 6, 4)


@pytest.mark.parametrize("name", [ITEMS, SEGMENTS])
@pytest.mark.parametrize("damage", ["truncated", "foreign", "missing"])
def test_errors_name_damaged_files(photo_index: PhotoIndexFixture, name: str, damage: str) -> None:
    photo_index.fill(40)
    photo_index.update()
    path = photo_index.segments()[0] if name == SEGMENTS else photo_index.index_folder / name
    content = path.read_bytes()
    path.unlink()
    if damage == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "foreign":
        path.write_bytes(b"\x00PK" * 5000)
    with pytest.raises((BadData, MissingData)) as error, photo_index.open() as opened:
        list(opened.items.all_items())
        opened.items.unreadable()
    assert "xmodal index" in error.value.hint
    assert str(photo_index.index_folder) in error.value.message
    photo_index.update(rebuild=True)
    photo_index.check()


def test_no_index(tmp_path: Path) -> None:
    with pytest.raises(MissingData, match="there is no index"):
        open_index(tmp_path / "missing")
