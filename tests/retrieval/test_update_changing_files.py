"""``update_index``: files and indexes that change while it runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from helpers.index_fixtures import change_counts

from xmodal_cli import atomic_folder
from xmodal_cli.data.scan import scan
from xmodal_cli.errors import StorageError
from xmodal_cli.retrieval import file_hashing
from xmodal_cli.retrieval.update import IndexRequest, update_index

if TYPE_CHECKING:
    from helpers.index_fixtures import PhotoIndexFixture


def test_files_deleted_before_hashing_are_skipped(
    photo_index: PhotoIndexFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo_index.fill(3)
    vector = photo_index.embedder.vector

    def delete_next(content: bytes) -> np.ndarray:
        (photo_index.photos / "002.jpg").unlink(missing_ok=True)
        return vector(content)

    monkeypatch.setattr(photo_index.embedder, "vector", delete_next)
    monkeypatch.setattr(file_hashing, "AHEAD", 1)
    changes = photo_index.update()
    assert (changes.metadata.num_items, changes.unreadable) == (2, ())


def test_files_deleted_before_decoding_are_skipped(photo_index: PhotoIndexFixture) -> None:
    photo_index.fill(3)
    photo_index.embedder.before_open = lambda path: path.unlink() if path.name == "001.jpg" else None
    changes = photo_index.update()
    assert (changes.metadata.num_items, changes.unreadable) == (2, ())
    photo_index.check()


def test_a_photo_replaced_during_the_update_is_left_to_the_next_one(photo_index: PhotoIndexFixture) -> None:
    """Its digest is of the old bytes and its vector of the new ones, so the vector must not be stored."""
    photo_index.fill(3)
    photo_index.embedder.before_open = lambda path: path.write_bytes(b"other bytes") if path.name == "001.jpg" else None
    changes = photo_index.update()
    assert [(Path(u.path).name, u.reason) for u in changes.unreadable] == [
        ("001.jpg", "it changed while it was being read; index it again")
    ]
    assert set(photo_index.contents()) == {"000.jpg", "002.jpg"}
    photo_index.embedder.before_open = lambda path: None
    again = photo_index.update()
    assert change_counts(again) == {"added": 1, "unchanged": 2}
    photo_index.check()


def test_a_photo_changed_after_the_scan_is_indexed_as_it_is(photo_index: PhotoIndexFixture) -> None:
    photo_index.fill(2)
    request = IndexRequest(scan([photo_index.photos]), photo_index.model)
    photo_index.add("001.jpg", b"changed since")
    update_index(photo_index.index_folder, request, lambda: photo_index.embedder)
    photo_index.check()
    photo_index.embedder.paths.clear()
    assert change_counts(photo_index.update()) == {"unchanged": 2}
    assert photo_index.embedder.paths == []


def test_a_second_writer_is_rejected(photo_index: PhotoIndexFixture) -> None:
    photo_index.fill(1)
    with (
        atomic_folder.write_lock(photo_index.index_folder),
        pytest.raises(StorageError, match="being written by another"),
    ):
        photo_index.update()
    photo_index.update()
