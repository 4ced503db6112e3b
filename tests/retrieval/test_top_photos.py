"""The hits of a search exist, whatever has vanished, and copies of a photo are one hit."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from helpers.index_fixtures import sort_small_segments

from xmodal_cli.retrieval import top_photos
from xmodal_cli.retrieval.search import TermVector
from xmodal_cli.retrieval.search_options import SearchOptions
from xmodal_cli.retrieval.top_photos import TopPhotos

if TYPE_CHECKING:
    from helpers.index_fixtures import PhotoIndexFixture


def _search(photo_index: PhotoIndexFixture, like: str, k: int, fold: bool = True) -> tuple[list[tuple[str, int]], int]:
    """(name, copies) of the hits for a photo, and the number of vanished ones."""
    with photo_index.open() as index:
        term = TermVector(photo_index.embedder.vector(like.encode()), is_text=False)
        top = TopPhotos(index, [term], SearchOptions(k, fold))
        names = [(os.path.relpath(p.item.path, photo_index.photos), p.duplicates) for p in top.photos]
        assert [p.score for p in top.photos] == sorted((p.score for p in top.photos), reverse=True)
        return names, top.num_vanished


@pytest.mark.parametrize("is_sorted", [False, True])
@pytest.mark.parametrize("num_left", [0, 1, 7, 300])
def test_k_hits_however_many_photos_have_vanished(
    photo_index: PhotoIndexFixture, num_left: int, is_sorted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if is_sorted:
        sort_small_segments(monkeypatch)
    photo_index.fill(300)
    photo_index.update()
    order = [name for name, _ in _search(photo_index, "000.jpg", 300)[0]]
    assert len(order) == 300
    for name in order[: 300 - num_left]:
        (photo_index.photos / name).unlink()
    for k in (1, 5, 1000):
        found, vanished = _search(photo_index, "000.jpg", k)
        assert [name for name, _ in found] == order[300 - num_left :][:k]
        assert vanished == 300 - num_left


def test_only_better_photos_count_as_vanished(photo_index: PhotoIndexFixture) -> None:
    photo_index.fill(30)
    photo_index.update()
    order = [name for name, _ in _search(photo_index, "000.jpg", 30)[0]]
    for name in (order[1], order[5]):
        (photo_index.photos / name).unlink()
    assert _search(photo_index, "000.jpg", 3) == ([(order[0], 0), (order[2], 0), (order[3], 0)], 1)


def test_files_with_the_same_bytes_are_one_hit(photo_index: PhotoIndexFixture) -> None:
    photo_index.fill(40)
    for i in range(60):  # more than the first candidates of a search
        photo_index.add(f"copies/{i:02}.jpg", b"000.jpg")
    photo_index.update()
    for k in (1, 2, 40):
        found, _ = _search(photo_index, "000.jpg", k)
        assert found[0] == ("000.jpg", 60)
        assert len(found) == len({name for name, _ in found}) == k
        assert all(count == 0 for _, count in found[1:])
    found, _ = _search(photo_index, "000.jpg", 50, fold=False)
    assert [name for name, _ in found] == ["000.jpg", *(f"copies/{i:02}.jpg" for i in range(49))]
    shutil.rmtree(photo_index.photos / "copies")
    (photo_index.photos / "000.jpg").unlink()
    photo_index.add("copies/07.jpg", b"000.jpg")
    assert _search(photo_index, "000.jpg", 1)[0] == [("copies/07.jpg", 0)]


def test_nearly_equal_vectors_are_one_hit(photo_index: PhotoIndexFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    photo_index.fill(10)
    for suffix in ("smaller", "edited"):
        photo_index.add(f"000 {suffix}.jpg", f"000.jpg {suffix}".encode())
    vector = photo_index.embedder.vector
    angles = {b"smaller": 0.05, b"edited": 0.3}  # cosines 0.99875 and 0.955

    def near(content: bytes) -> np.ndarray:
        base, _, suffix = content.partition(b" ")
        first, other = vector(base), vector(b"another")
        other = other - (other @ first) * first
        angle = angles.get(suffix, 0.0)
        return np.float32(np.cos(angle)) * first + np.float32(np.sin(angle)) * other / np.linalg.norm(other)

    monkeypatch.setattr(photo_index.embedder, "vector", near)
    photo_index.update()
    found, _ = _search(photo_index, "000.jpg", 3)
    assert found[:2] == [("000.jpg", 1), ("000 edited.jpg", 0)]
    assert [name for name, _ in _search(photo_index, "000.jpg", 3, fold=False)[0]] == [
        "000.jpg",
        "000 smaller.jpg",
        "000 edited.jpg",
    ]


def test_photos_that_permissions_hide_are_shown(
    photo_index: PhotoIndexFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo_index.fill(3)
    photo_index.update()
    codes = {"001.jpg": errno.EACCES, "002.jpg": errno.EIO}

    def stat(path: str) -> None:
        if code := codes.get(Path(path).name):
            raise OSError(code, os.strerror(code))

    monkeypatch.setattr(top_photos, "os", SimpleNamespace(stat=stat, fsencode=os.fsencode))
    found = [Path(name).name for name, _ in _search(photo_index, "000.jpg", 3)[0]]
    assert sorted(found) == ["000.jpg", "001.jpg"]


def test_an_empty_index_has_no_hits(photo_index: PhotoIndexFixture) -> None:
    photo_index.fill(2)
    photo_index.update()
    for path in photo_index.photos.iterdir():
        path.unlink()
    photo_index.update(remove_missing=True)
    assert _search(photo_index, "000.jpg", 5) == ([], 0)
