"""``update_index``: photos and folders that cannot be read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from helpers.index_fixtures import change_counts

from xmodal_cli.errors import BadData, IncompatibleFeatures

if TYPE_CHECKING:
    from helpers.index_fixtures import PhotoIndexFixture


def test_unreadable_photos_are_listed_and_not_tried_again(photo_index: PhotoIndexFixture) -> None:
    photo_index.fill(2)
    bad = photo_index.add("bad.jpg", b"bad bytes")
    photo_index.add("worse.jpg", b"bad bytes")
    changes = photo_index.update()
    assert [(Path(u.path).name, u.reason) for u in changes.unreadable] == [
        ("bad.jpg", "it is not an image"),
        ("worse.jpg", "it is not an image"),
    ]
    assert len(photo_index.embedder.paths) == 3  # identical bytes are tried once
    again = photo_index.update()
    assert (photo_index.num_loads, again.metadata.num_unreadable, len(again.unreadable)) == (1, 2, 2)
    bad.write_bytes(b"repaired")
    assert change_counts(photo_index.update()) == {"added": 1, "unchanged": 2}
    photo_index.check()


def test_a_photo_that_becomes_unreadable_is_removed(photo_index: PhotoIndexFixture) -> None:
    photo_index.fill(3)
    photo_index.update()
    photo_index.add("001.jpg", b"bad now")
    changes = photo_index.update()
    assert change_counts(changes) == {"removed": 1, "unchanged": 2}
    assert len(changes.unreadable) == 1
    photo_index.check()


def test_photos_with_a_zero_or_non_finite_vector_are_unreadable(
    photo_index: PhotoIndexFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo_index.fill(3)
    vector = photo_index.embedder.vector
    values = {b"001.jpg": np.nan, b"002.jpg": 0.0}
    monkeypatch.setattr(photo_index.embedder, "vector", lambda c: vector(c) * np.float32(values.get(c, 1.0)))
    changes = photo_index.update()
    assert (changes.metadata.num_items, len(changes.unreadable)) == (1, 2)
    assert "not finite" in changes.unreadable[0].reason


def test_a_vector_of_the_wrong_dimension(photo_index: PhotoIndexFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    photo_index.fill(1)
    monkeypatch.setattr(photo_index.embedder, "vector", lambda c: np.ones(5, np.float32))
    with pytest.raises(IncompatibleFeatures, match=r"shape \(5,\)"):
        photo_index.update()


def test_no_index_is_written_without_readable_photos(photo_index: PhotoIndexFixture) -> None:
    photo_index.add("a.jpg", b"bad")
    with pytest.raises(BadData, match="none of the 1 photos"):
        photo_index.update()
    assert not photo_index.index_folder.exists()


def test_photos_in_unreadable_folders_are_kept(photo_index: PhotoIndexFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    photo_index.fill(2)
    photo_index.add("locked/x.jpg")
    photo_index.update()
    listing = os.scandir

    def scandir(path):
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied", str(path))
        return listing(path)

    monkeypatch.setattr("xmodal_cli.data.scan.os.scandir", scandir)
    changes = photo_index.update()
    assert changes.kept == {str(photo_index.photos / "locked"): ("Permission denied", 1)}
    assert "locked/x.jpg" in photo_index.contents()
