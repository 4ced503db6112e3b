"""A reader sees a whole index or the one before it, whatever the writer does, and however it dies."""

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
from xmodal_cli.retrieval import index, items, update
from xmodal_cli.retrieval.index import CARD, ITEMS, VECTORS, open_index, read_metadata

if TYPE_CHECKING:
    from helpers.index_fixtures import Shelf


def _litter(shelf: Shelf) -> set[str]:
    return {p.name for p in shelf.index_folder.parent.iterdir()} - {".shelf.lock", "shelf"}


@pytest.mark.parametrize("exchange", [True, False], ids=["exchanged", "renamed-twice"])
def test_readers_never_see_half(shelf: Shelf, exchange: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every reading must be one generation: all files are rewritten, and renamed, from one to the next."""
    if not exchange:
        monkeypatch.setattr(atomic_folder, "_exchange", lambda one, other: False)
    shelf.fill(8)
    shelf.update()
    stop, problems, readings = threading.Event(), list[object](), list[str]()

    def read() -> None:
        try:
            while not stop.is_set():
                with shelf.open() as opened:
                    found = list(opened.items.all_items())
                    vectors = opened.vectors.take(np.arange(len(opened)))
                    expected = np.stack([np.frombuffer(i.digest, np.uint8)[:4] for i in found])
                    readings.append(opened.card.build)
                    if len({Path(i.path).name[:2] for i in found}) != 1 or not np.array_equal(
                        (vectors[:, :4] * 1000).round(), expected
                    ):
                        problems.append([i.path for i in found])
        except BaseException as error:
            problems.append(error)

    def embed(paths):
        for path in paths:
            vector = np.zeros(12, np.float32)
            vector[:4] = np.frombuffer(update_digest(str(path)), np.uint8)[:4] / 1000
            yield path, vector

    from xmodal_cli.retrieval.resolve import digest_of as update_digest

    shelf.model = shelf.model.__class__(**{**vars(shelf.model), "similarity": "order"})  # vectors are kept as they are
    shelf.embedder = embed
    generation = _Generations(shelf)
    generation.next()
    shelf.update(rebuild=True)
    reader = threading.Thread(target=read)
    reader.start()
    end = time.monotonic() + 1.5
    while time.monotonic() < end or len(set(readings)) < 3:
        generation.next()
        shelf.update()
        if problems or time.monotonic() > end + 20:
            break
    stop.set()
    reader.join()
    assert problems == []
    assert len(set(readings)) >= 3
    assert _litter(shelf) == set()


class _Generations:
    """All photos get new names and new bytes, so that no file of two generations goes with another."""

    def __init__(self, shelf: Shelf) -> None:
        self.shelf, self.number = shelf, 0

    def next(self) -> None:
        for path in self.shelf.photos.iterdir():
            path.unlink()
        self.number += 1
        for i in range(5 + self.number % 3):
            self.shelf.add(f"{self.number % 90 + 10}-{i}.jpg", f"{self.number} {i}".encode())


@pytest.mark.parametrize("exchange", [True, False], ids=["exchanged", "renamed-twice"])
@pytest.mark.parametrize("part", ["ItemStore", "StoredVectors"])
def test_an_index_replaced_while_it_is_opened(
    shelf: Shelf, part: str, exchange: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The writer comes between the opening of two files; there are as many photos as before, but others."""
    if not exchange:
        monkeypatch.setattr(atomic_folder, "_exchange", lambda one, other: False)
    generation = _Generations(shelf)
    generation.next()
    shelf.update()
    whole, pending = getattr(index, part), [True]

    def interrupted(*args: Any) -> Any:
        if pending:
            pending.clear()
            for _ in range(3):  # three generations on, the number of photos is the same
                generation.next()
            monkeypatch.setattr(index, part, whole)
            shelf.update(rebuild=True)
        return whole(*args)

    monkeypatch.setattr(index, part, interrupted)
    read = shelf.contents()
    assert not pending
    shelf.check()
    clean = shelf.contents()
    assert {name: vector.tolist() for name, vector in read.items()} == {n: v.tolist() for n, v in clean.items()}


def test_an_open_index_stays_readable_after_it_is_replaced(shelf: Shelf) -> None:
    shelf.fill(30)
    shelf.update()
    with shelf.open() as opened:
        before = opened.vectors.take(np.arange(30)).copy()
        (shelf.photos / "000.jpg").unlink()
        shelf.update()
        assert np.array_equal(opened.vectors.take(np.arange(30)), before)
        assert len(opened.items.rows(range(30))) == 30
    assert len(shelf.contents()) == 29


def test_a_folder_stuck_aside_is_found_and_put_back(shelf: Shelf) -> None:
    shelf.fill(3)
    shelf.update()
    shelf.index_folder.rename(atomic_folder.aside(shelf.index_folder))  # a writer died between its two renames
    half = shelf.index_folder.with_name(".shelf.build-12345678")
    half.mkdir()
    assert len(shelf.contents()) == 3
    assert shelf.update().unchanged == 3
    assert shelf.index_folder.is_dir()
    assert _litter(shelf) == set()


def test_a_failed_second_rename_is_undone(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf.fill(2)
    shelf.update()
    shelf.fill(4)
    rename = Path.rename

    def fail(path: Path, target: Path) -> Path:
        if ".build-" in path.name:
            raise OSError(errno.EIO, "broken")
        return rename(path, target)

    monkeypatch.setattr(atomic_folder, "_exchange", lambda one, other: False)
    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(OSError, match="broken"):
        shelf.update()
    assert len(shelf.contents()) == 2
    assert _litter(shelf) == {".shelf.journal"}


@pytest.mark.skipif(sys.platform != "linux", reason="renameat2 is Linux's")
def test_linux_exchanges_in_one_step(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "who").write_text(name)
    assert atomic_folder._exchange(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "a" / "who").read_text() == "b"
    assert not atomic_folder._exchange(tmp_path / "a", tmp_path / "nothing")


def _full(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("place", ["vectors", "card", "items", "journal", "sync"])
def test_a_full_disk_keeps_the_old_index(shelf: Shelf, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf.fill(3)
    shelf.update()
    before = read_metadata(shelf.index_folder)
    shelf.fill(5)
    with monkeypatch.context() as patch:
        if place == "vectors":
            patch.setattr(update, "write_vectors", _full)
        elif place == "items":
            patch.setattr(items, "_SCHEMA", "PRAGMA max_page_count=3;" + items._SCHEMA)
        elif place == "card":
            patch.setattr(update.IndexMetadata, "to_json", _full)
        elif place == "journal":
            patch.setattr("xmodal_cli.retrieval.journal.Journal._write", _full)
        else:
            patch.setattr(atomic_folder, "_sync", _full)
        with pytest.raises(StorageError, match="no space left") as full:
            shelf.update()
    assert full.value.hint
    assert read_metadata(shelf.index_folder) == before
    assert len(shelf.contents()) == 3
    assert _litter(shelf) <= {".shelf.journal"}
    assert shelf.update().added == 2
    shelf.check()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_the_words_of_faiss_and_sqlite_about_a_full_disk_are_understood(tmp_path: Path) -> None:
    from xmodal_cli.retrieval.vectors import write_vectors

    with pytest.raises(OSError) as full:
        write_vectors(Path("/dev/full"), "flat", (4000, 8), lambda rows: np.zeros((len(rows), 8), np.float32))
    assert full.value.errno == errno.ENOSPC
    with pytest.raises(StorageError, match="unable to open"):
        items.write_items(tmp_path / "missing folder" / "items.sqlite", [], [])


def test_an_unwritable_place_is_a_sentence(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    shelf.fill(1)
    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(StorageError, match="cannot be written: Permission denied"):
        shelf.update()


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
        for number, path in enumerate(paths):
            if number == 5:
                print("five", flush=True)
                time.sleep(60)
            yield path, np.ones(12, np.float32)
    return vectors

model = IndexModel("toy", "toy", "a" * 64, "cosine", 12, FeatureMeta("b", "f", "global", 3))
update_index(Path(sys.argv[2]), IndexRequest(scan([Path(sys.argv[1])]), model), embed)
"""


def test_sigkill_frees_the_lock_and_loses_no_vector(shelf: Shelf) -> None:
    shelf.fill(8)
    command = [sys.executable, "-c", _WRITER, str(shelf.photos), str(shelf.index_folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"five\n"
        with pytest.raises(StorageError, match="another xmodal process"):
            shelf.update()
        writer.send_signal(signal.SIGKILL)
    changes = shelf.update()
    assert (changes.added, changes.num_computed) == (8, 3)


@pytest.mark.parametrize("name", [CARD, ITEMS, VECTORS])
@pytest.mark.parametrize("damage", ["truncated", "foreign", "gone"])
def test_damaged_files_are_named(shelf: Shelf, name: str, damage: str) -> None:
    shelf.fill(40)
    shelf.update()
    path = shelf.index_folder / name
    content = path.read_bytes()
    path.unlink()
    if damage == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "foreign":
        path.write_bytes(b"\x00PK" * 5000)
    with pytest.raises((BadData, MissingData)) as error, shelf.open() as opened:
        opened.items.rows(range(40))
        opened.items.unreadable()
    assert "xmodal index" in error.value.hint
    assert str(shelf.index_folder) in error.value.message
    shelf.update(rebuild=True)
    shelf.check()


def test_a_card_that_does_not_fit_its_files(shelf: Shelf) -> None:
    shelf.fill(4)
    shelf.update()
    card = shelf.index_folder / CARD
    text = card.read_text()
    card.write_text(text.replace('"num_items": 4', '"num_items": 5'))
    with pytest.raises(BadData, match="does not hold the 5 flat vectors"):
        shelf.open()
    card.write_text(text.replace('"format": 1', '"format": 2'))
    with pytest.raises(BadData, match="newer xmodal"):
        shelf.open()


def test_no_index(tmp_path: Path) -> None:
    with pytest.raises(MissingData, match="there is no index"):
        open_index(tmp_path / "nothing")
