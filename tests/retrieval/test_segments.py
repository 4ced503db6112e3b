"""Segments: searched as one list, deleted vectors, files that are left over."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from helpers.index_fixtures import HALF

from xmodal_cli.errors import BadData, ConfigError
from xmodal_cli.retrieval import segments
from xmodal_cli.retrieval.search import SearchParams, TermVector, top_hits
from xmodal_cli.retrieval.segments import SEGMENTS, IndexVectors, Segment, write_segment
from xmodal_cli.retrieval.vectors import KINDS, Layout

if TYPE_CHECKING:
    from helpers.index_fixtures import PhotoIndexFixture


def _random(count: int, order: bool = False) -> np.ndarray:
    vectors = np.random.default_rng(count).standard_normal((count, 16))
    vectors = np.abs(vectors) if order else vectors
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def _segments(
    folder: Path, parts: list[np.ndarray], live: np.ndarray | None = None, kind: str = "flat"
) -> IndexVectors:
    found, start = [], 0
    for part in parts:
        segment = write_segment(folder, Layout(kind, "fp32", *part.shape), part.__getitem__, quantize=True)
        if live is not None and not (alive := live[start : start + len(part)]).all():
            bits = np.packbits(~alive, bitorder="little").tobytes()
            segment = Segment(segment.id, segment.layout, segment.sha256, int((~alive).sum()), bits)
        found.append(segment)
        start += len(part)
    return IndexVectors(folder, found, parts[0].shape[1])


@pytest.mark.parametrize("similarity", ["cosine", "order"])
@pytest.mark.parametrize("with_int8", [True, False])
def test_several_segments_have_the_hits_of_one(
    tmp_path: Path, similarity: str, with_int8: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if with_int8:
        monkeypatch.setattr("xmodal_cli.retrieval.quantized.MIN_ELEMENTS", 1)
    vectors = _random(900, similarity == "order")
    live = np.random.default_rng(0).random(900) < 0.7
    terms = [TermVector(_random(1, similarity == "order")[0]), TermVector(vectors[5], -0.3, is_text=False)]
    split = _segments(tmp_path / "a", np.split(vectors, [1, 40, 500]), live)
    whole = _segments(tmp_path / "b", [vectors[live]])
    rows = np.flatnonzero(live)
    for k in (1, 7, 400, 1000):
        expected = [(int(rows[row]), score) for row, score in top_hits(whole, terms, similarity, k)]
        assert top_hits(split, terms, similarity, k) == expected


@pytest.mark.parametrize("kind", KINDS)
def test_approximate_search_leaves_out_deleted_vectors(tmp_path: Path, kind: str) -> None:
    vectors = _random(3000)
    live = np.random.default_rng(0).random(3000) < 0.5
    index = _segments(tmp_path, np.split(vectors, [2000]), live, kind)
    params = SearchParams(order_exact_below=0, at_least=200, per_hit=1)
    hits = top_hits(index, [TermVector(vectors[7])], "cosine", 10, params)
    assert len(hits) == 10 and live[[row for row, _ in hits]].all()
    best = np.flatnonzero(live)[np.argsort(-(vectors[live] @ vectors[7]))[:10]]
    assert len(set(best) & {row for row, _ in hits}) >= 9


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
        folder / SEGMENTS / "0123456789ab.int8",
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


@pytest.mark.parametrize("kind", ["hnsw", "ivf"])
def test_large_segments_have_the_kind_of_the_index(
    photo_index: PhotoIndexFixture, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segments, "MIN_STRUCTURED", 40)
    photo_index.fill(45)
    photo_index.update(kind=kind)
    photo_index.add("new.jpg")
    photo_index.update()
    with photo_index.open() as index:
        assert sorted(part.layout.kind for part in index.vectors.parts) == sorted(["flat", kind])
    photo_index.check()
    assert photo_index.update(kind="flat").num_computed == 0
    with photo_index.open() as index:
        assert {part.layout.kind for part in index.vectors.parts} == {"flat"}
    photo_index.check()


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
