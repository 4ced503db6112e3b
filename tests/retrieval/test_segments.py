"""Segments: searched as one list, deleted vectors, files that are left over."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from helpers.index_fixtures import HALF, sort_small_segments

from xmodal_cli.errors import BadData, ConfigError
from xmodal_cli.retrieval.index_vectors import IndexVectors
from xmodal_cli.retrieval.search import TermVector, top_hits
from xmodal_cli.retrieval.segments import SEGMENTS, write_segment
from xmodal_cli.retrieval.vectors import UNSORTED, Layout

if TYPE_CHECKING:
    from helpers.index_fixtures import PhotoIndexFixture


def _random(count: int, order: bool = False) -> np.ndarray:
    vectors = np.random.default_rng(count).standard_normal((count, 16))
    vectors = np.abs(vectors) if order else vectors
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def _segments(folder: Path, parts: list[np.ndarray], live: np.ndarray | None = None) -> IndexVectors:
    found, start = [], 0
    for part in parts:
        segment = write_segment(folder, Layout("fp32", *part.shape), part.__getitem__).segment
        if live is not None and not (alive := live[start : start + len(part)]).all():
            bits = np.packbits(~alive, bitorder="little").tobytes()
            segment = replace(segment, num_deleted=int((~alive).sum()), deleted=bits)
        found.append(segment)
        start += len(part)
    return IndexVectors(folder, found, parts[0].shape[1])


@pytest.mark.parametrize("similarity", ["cosine", "order"])
def test_several_segments_have_the_hits_of_one(tmp_path: Path, similarity: str) -> None:
    vectors = _random(900, similarity == "order")
    live = np.random.default_rng(0).random(900) < 0.7
    terms = [TermVector(_random(1, similarity == "order")[0]), TermVector(vectors[5], -0.3, is_text=False)]
    split = _segments(tmp_path / "a", np.split(vectors, [1, 40, 500]), live)
    whole = _segments(tmp_path / "b", [vectors[live]])
    rows = np.flatnonzero(live)
    for k in (1, 7, 400, 1000):
        expected = [(int(rows[row]), score) for row, score in top_hits(whole, terms, similarity, k)]
        assert top_hits(split, terms, similarity, k) == expected


def test_rows_and_positions(tmp_path: Path) -> None:
    parts = np.split(_random(30), [4, 5])
    index = _segments(tmp_path, parts)
    np.testing.assert_array_equal(index.take(np.array([29, 0, 4, 5])), np.concatenate(parts)[[29, 0, 4, 5]])
    assert index.by_segment([0, 4, 29]) == {index.ids[0]: [0], index.ids[1]: [0], index.ids[2]: [24]}


def test_files_of_interrupted_updates_are_deleted(photo_index: PhotoIndexFixture) -> None:
    photo_index.fill(3)
    photo_index.update()
    folder = photo_index.index_folder
    left = [
        folder / SEGMENTS / "0123456789ab.faiss",
        folder / SEGMENTS / ".0123456789ab.faiss.0a1b2c3d.tmp",
        folder / ".items.sqlite.0a1b2c3d.tmp",
        folder / "rebuild.sqlite",
    ]
    users = [folder / SEGMENTS / "notes.txt", folder / "mine.faiss"]
    for path in left + users:
        path.write_bytes(b"x")
    photo_index.update()
    assert [path for path in left + users if path.exists()] == users
    photo_index.check()


def test_a_deleted_photo_costs_no_vectors(photo_index: PhotoIndexFixture) -> None:
    photo_index.fill(20)
    photo_index.update()
    (file,) = photo_index.segments()
    content, times = file.read_bytes(), file.stat().st_mtime_ns
    for i in range(10):
        (photo_index.photos / f"{i:03}.jpg").unlink()
        photo_index.update()
    assert photo_index.segments() == [file]
    assert (file.read_bytes(), file.stat().st_mtime_ns) == (content, times)
    photo_index.check()
    (photo_index.photos / "010.jpg").unlink()  # most of them are deleted now
    photo_index.update()
    assert photo_index.segments() != [file]
    photo_index.check()
    with photo_index.open() as index:
        assert (index.vectors.num_live, index.vectors.starts[-1]) == (9, 9)


def test_copies_share_a_vector(photo_index: PhotoIndexFixture) -> None:
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        photo_index.add(name, b"the same")
    photo_index.update()
    photo_index.add("d.jpg", b"the same")
    photo_index.update()
    with photo_index.open() as index:
        assert (len(index), index.vectors.num_live) == (4, 1)
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        (photo_index.photos / name).unlink()
        photo_index.update()
        photo_index.check()
    photo_index.add("d.jpg", b"other")
    photo_index.update()
    with photo_index.open() as index:
        assert index.vectors.num_live == index.vectors.starts[-1] == 1


def test_half_and_full_precision(photo_index: PhotoIndexFixture) -> None:
    photo_index.fill(5)
    photo_index.update()
    exact = {f"{i:03}.jpg": photo_index.embedder.vector(f"{i:03}.jpg".encode()) for i in range(5)}
    errors = {name: np.abs(vector - exact[name]).max() for name, vector in photo_index.contents().items()}
    assert 0 < max(errors.values()) < HALF
    with pytest.raises(ConfigError, match="half precision") as error:
        photo_index.update(store="fp32")
    assert "--store fp32 --rebuild" in error.value.hint
    assert photo_index.update(store="fp32", rebuild=True).metadata.store == "fp32"
    photo_index.add("new.jpg")
    assert photo_index.update().metadata.store == "fp32"  # is stored
    contents = photo_index.contents()
    assert all(np.allclose(contents[name], vector, rtol=0, atol=1e-7) for name, vector in exact.items())
    changes = photo_index.update(store="fp16")
    assert (changes.metadata.store, changes.num_computed) == ("fp16", 0)
    with photo_index.open() as index:
        assert {part.layout.dtype for part in index.vectors.parts} == {"fp16"}
    photo_index.check()


def test_numbers_without_half_precision_are_stored_in_full(photo_index: PhotoIndexFixture) -> None:
    photo_index.model = photo_index.model.__class__(**{**vars(photo_index.model), "similarity": "order"})
    vector = photo_index.embedder.vector
    photo_index.embedder.vector = lambda content: vector(content) * np.float32(1e6)
    photo_index.fill(2)
    photo_index.update()
    contents = photo_index.contents()
    assert np.array_equal(contents["000.jpg"], vector(b"000.jpg") * np.float32(1e6))


def test_large_indexes_are_sorted_by_cell(photo_index: PhotoIndexFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also the segments that were written before the index had cells; new ones get the same cells."""
    photo_index.fill(30)
    photo_index.update()
    with photo_index.open() as index:
        assert (index.vectors.cells, [part.cells for part in index.vectors.parts]) == ({}, [UNSORTED])
    sort_small_segments(monkeypatch)
    photo_index.add("one more.jpg")
    photo_index.update()
    with photo_index.open() as index:
        (key,) = index.vectors.cells
        assert sorted(part.cells for part in index.vectors.parts) == [UNSORTED, key]
    photo_index.check()
    for i in range(60):
        photo_index.add(f"new {i}.jpg")
    photo_index.update()
    with photo_index.open() as index:
        assert list(index.vectors.cells) == [key]
        assert [part.cells for part in index.vectors.parts if part.layout.count >= 4] == [key] * 2
    photo_index.check()


def test_cells_are_trained_again_after_growth(photo_index: PhotoIndexFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cells that no segment is sorted by are removed."""
    sort_small_segments(monkeypatch)
    photo_index.fill(10)
    photo_index.update()
    with photo_index.open() as index:
        (first,) = index.vectors.cells
    photo_index.fill(100)
    photo_index.update()
    photo_index.check()
    with photo_index.open() as index:
        assert len(index.vectors.cells) == 2
        assert max(cells.num_trained for cells in index.vectors.cells.values()) == 100
    for path in photo_index.photos.iterdir():
        path.unlink()
    for i in range(1000):
        photo_index.add(f"new {i}.jpg")
    photo_index.update()
    photo_index.check()
    with photo_index.open() as index:
        assert first not in index.vectors.cells


def test_a_segment_that_has_changed_is_not_merged(photo_index: PhotoIndexFixture) -> None:
    for i in range(3):
        photo_index.add(f"{i}.jpg")
        photo_index.update()
    file = photo_index.segments()[0]
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.unlink()
    file.write_bytes(content)
    photo_index.add("3.jpg")
    with pytest.raises(BadData, match=r"faiss is damaged: its checksum is wrong") as error:
        photo_index.update()
    assert "--rebuild" in error.value.hint
