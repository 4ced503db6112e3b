"""Atomic replacement of an index: readers get one complete version, also if the writer fails or is killed."""

from __future__ import annotations

import errno
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from xmodal_cli import atomic_folder
from xmodal_cli.errors import BadData, MissingData, StorageError
from xmodal_cli.retrieval import index, items, update, write
from xmodal_cli.retrieval.index import ITEMS, METADATA, VECTORS, open_index, read_metadata

if TYPE_CHECKING:
    from helpers.index_fixtures import PhotoIndexFixture


def _temporary_files(photo_index: PhotoIndexFixture) -> set[str]:
    return {p.name for p in photo_index.index_folder.parent.iterdir()} - {".family.lock", "family"}


@pytest.mark.parametrize("exchange", [True, False], ids=["exchanged", "renamed-twice"])
def test_readers_get_one_complete_version(
    photo_index: PhotoIndexFixture, exchange: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All photos are rewritten and renamed between two generations; a reader must not mix them."""
    if not exchange:
        monkeypatch.setattr(atomic_folder, "_exchange", lambda first, second: False)
    photo_index.fill(8)
    photo_index.update()
    stop, problems, builds = threading.Event(), list[object](), list[str]()

    def read() -> None:
        try:
            while not stop.is_set():
                with photo_index.open() as opened:
                    photos = list(opened.items.all_items())
                    vectors = opened.vectors.take(np.arange(len(opened)))
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

    from xmodal_cli.retrieval.file_embedding import file_digest

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


@pytest.mark.parametrize("exchange", [True, False], ids=["exchanged", "renamed-twice"])
@pytest.mark.parametrize("part", ["ItemStore", "StoredVectors"])
def test_an_index_replaced_while_it_is_opened(
    photo_index: PhotoIndexFixture, part: str, exchange: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The index is replaced between the opening of two of its files; the new one has as many photos."""
    if not exchange:
        monkeypatch.setattr(atomic_folder, "_exchange", lambda first, second: False)
    generation = _Generations(photo_index)
    generation.next()
    photo_index.update()
    open_part, pending = getattr(index, part), [True]

    def interrupted(*args: Any) -> Any:
        if pending:
            pending.clear()
            for _ in range(3):  # the number of photos has period three
                generation.next()
            monkeypatch.setattr(index, part, open_part)
            photo_index.update(rebuild=True)
        return open_part(*args)

    monkeypatch.setattr(index, part, interrupted)
    interrupted_contents = photo_index.contents()
    assert not pending
    photo_index.check()
    contents = photo_index.contents()
    assert list(interrupted_contents) == list(contents)
    assert all(np.array_equal(interrupted_contents[name], vector) for name, vector in contents.items())


def test_an_open_index_stays_readable_after_it_is_replaced(photo_index: PhotoIndexFixture) -> None:
    photo_index.fill(30)
    photo_index.update()
    with photo_index.open() as opened:
        before = opened.vectors.take(np.arange(30)).copy()
        (photo_index.photos / "000.jpg").unlink()
        photo_index.update()
        assert np.array_equal(opened.vectors.take(np.arange(30)), before)
        assert len(opened.items.rows(range(30))) == 30
    assert len(photo_index.contents()) == 29


def test_an_index_left_at_the_backup_path_is_read_and_restored(photo_index: PhotoIndexFixture) -> None:
    photo_index.fill(3)
    photo_index.update()
    photo_index.index_folder.rename(
        atomic_folder.backup_path(photo_index.index_folder)
    )  # a writer was killed between its two renames
    draft = photo_index.index_folder.with_name(".family.build-12345678")
    draft.mkdir()
    assert len(photo_index.contents()) == 3
    assert photo_index.update().unchanged == 3
    assert photo_index.index_folder.is_dir()
    assert _temporary_files(photo_index) == set()


def test_a_failed_second_rename_is_undone(photo_index: PhotoIndexFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    photo_index.fill(2)
    photo_index.update()
    photo_index.fill(4)
    rename = Path.rename

    def fail(path: Path, target: Path) -> Path:
        if ".build-" in path.name:
            raise OSError(errno.EIO, "broken")
        return rename(path, target)

    monkeypatch.setattr(atomic_folder, "_exchange", lambda first, second: False)
    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(OSError, match="broken"):
        photo_index.update()
    assert len(photo_index.contents()) == 2
    assert _temporary_files(photo_index) == {".family.journal"}


@pytest.mark.skipif(sys.platform != "linux", reason="renameat2 exists on Linux only")
def test_linux_exchanges_two_folders_in_one_call(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "name.txt").write_text(name)
    assert atomic_folder._exchange(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "a" / "name.txt").read_text() == "b"
    assert not atomic_folder._exchange(tmp_path / "a", tmp_path / "missing")


def _raise_disk_full(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("step", ["vectors", "metadata", "items", "journal", "sync"])
def test_a_full_disk_keeps_the_old_index(
    photo_index: PhotoIndexFixture, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo_index.fill(3)
    photo_index.update()
    before = read_metadata(photo_index.index_folder)
    photo_index.fill(5)
    with monkeypatch.context() as patch:
        if step == "vectors":
            patch.setattr(write, "write_vectors", _raise_disk_full)
        elif step == "items":
            patch.setattr(items, "_SCHEMA", "PRAGMA max_page_count=3;" + items._SCHEMA)
        elif step == "metadata":
            patch.setattr(update.IndexMetadata, "to_json", _raise_disk_full)
        elif step == "journal":
            patch.setattr("xmodal_cli.retrieval.journal.Journal._write", _raise_disk_full)
        else:
            patch.setattr(atomic_folder, "_sync", _raise_disk_full)
        with pytest.raises(StorageError, match="no space left") as full:
            photo_index.update()
    assert full.value.hint
    assert read_metadata(photo_index.index_folder) == before
    assert len(photo_index.contents()) == 3
    assert _temporary_files(photo_index) <= {".family.journal"}
    assert photo_index.update().added == 2
    photo_index.check()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full does not exist")
def test_faiss_and_sqlite_report_a_full_disk(tmp_path: Path) -> None:
    from xmodal_cli.retrieval.vectors import write_vectors

    with pytest.raises(OSError) as full:
        write_vectors(Path("/dev/full"), "flat", (4000, 8), lambda rows: np.zeros((len(rows), 8), np.float32))
    assert full.value.errno == errno.ENOSPC
    with pytest.raises(StorageError, match="unable to open"):
        items.write_items(tmp_path / "missing folder" / "items.sqlite", [], [])


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
from xmodal_cli.retrieval.index import IndexModel
from xmodal_cli.data.scan import scan
from xmodal_cli.retrieval.update import IndexRequest, update_index
from xmodal_cli.types import FeatureMeta

def embed():
    def vectors(paths):
        for i, path in enumerate(paths):
            if i == 5:
                print("five", flush=True)
                time.sleep(60)
            yield path, np.ones(12, np.float32)
    return vectors

model = IndexModel("toy", "toy", "a" * 64, "cosine", 12, FeatureMeta("b", "f", "global", 3))
update_index(Path(sys.argv[2]), IndexRequest(scan([Path(sys.argv[1])]), model), embed)
"""


def test_a_killed_writer_releases_the_lock_and_keeps_its_vectors(photo_index: PhotoIndexFixture) -> None:
    photo_index.fill(8)
    command = [sys.executable, "-c", _WRITER, str(photo_index.photos), str(photo_index.index_folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"five\n"
        with pytest.raises(StorageError, match="another xmodal process"):
            photo_index.update()
        writer.send_signal(signal.SIGKILL)
    changes = photo_index.update()
    assert (changes.added, changes.num_computed) == (8, 3)


@pytest.mark.parametrize("name", [METADATA, ITEMS, VECTORS])
@pytest.mark.parametrize("damage", ["truncated", "foreign", "missing"])
def test_errors_name_damaged_files(photo_index: PhotoIndexFixture, name: str, damage: str) -> None:
    photo_index.fill(40)
    photo_index.update()
    path = photo_index.index_folder / name
    content = path.read_bytes()
    path.unlink()
    if damage == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "foreign":
        path.write_bytes(b"\x00PK" * 5000)
    with pytest.raises((BadData, MissingData)) as error, photo_index.open() as opened:
        opened.items.rows(range(40))
        opened.items.unreadable()
    assert "xmodal index" in error.value.hint
    assert str(photo_index.index_folder) in error.value.message
    photo_index.update(rebuild=True)
    photo_index.check()


def test_metadata_that_does_not_match_the_files(photo_index: PhotoIndexFixture) -> None:
    photo_index.fill(4)
    photo_index.update()
    path = photo_index.index_folder / METADATA
    text = path.read_text()
    path.write_text(text.replace('"num_items": 4', '"num_items": 5'))
    with pytest.raises(BadData, match=r"items\.sqlite is damaged: it does not have the photos of the vectors"):
        photo_index.open()
    path.write_text(text.replace('"embed_dim": 12', '"embed_dim": 13'))
    with pytest.raises(BadData, match="does not hold the 4 flat vectors"):
        photo_index.open()
    path.write_text(text.replace('"format": 1', '"format": 2'))
    with pytest.raises(BadData, match="newer xmodal"):
        photo_index.open()


def test_no_index(tmp_path: Path) -> None:
    with pytest.raises(MissingData, match="there is no index"):
        open_index(tmp_path / "missing")
