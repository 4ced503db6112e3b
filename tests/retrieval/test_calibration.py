"""The measured recall against searches, and when it is measured."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from helpers.index_fixtures import sort_small_segments

from xmodal_cli.retrieval import calibration, search
from xmodal_cli.retrieval.calibration import calibrate, calibrate_index, exact_top_rows
from xmodal_cli.retrieval.cells import train_cells
from xmodal_cli.retrieval.index_vectors import IndexVectors
from xmodal_cli.retrieval.sample_sentences import sample_sentences
from xmodal_cli.retrieval.search import TermVector, top_hits
from xmodal_cli.retrieval.segments import write_segment
from xmodal_cli.retrieval.vectors import Layout

if TYPE_CHECKING:
    from helpers.index_fixtures import PhotoIndexFixture

DIM = 24


def _unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def _images_and_texts(order: bool) -> tuple[np.ndarray, np.ndarray]:
    """Clusters, and texts of the same clusters at an offset."""
    rng = np.random.default_rng(0)
    centers = rng.standard_normal((50, DIM))
    images = centers[rng.integers(50, size=4000)] + 0.7 * rng.standard_normal((4000, DIM))
    texts = centers[rng.integers(50, size=256)] + 0.7 * rng.standard_normal((256, DIM)) + rng.standard_normal(DIM)
    return (_unit(np.abs(images)), _unit(np.abs(texts))) if order else (_unit(images), _unit(texts))


def _index(folder: Path, images: np.ndarray) -> IndexVectors:
    """Three sorted segments, one of them with deleted vectors, and an unsorted one."""
    cells, segments = train_cells(images, len(images)), []
    for i, part in enumerate(np.array_split(images, 4)):
        layout, known = Layout("fp32", len(part), DIM), (5, cells.assign(part), len(cells)) if i < 3 else ()
        segment = write_segment(folder, layout, part.__getitem__, *known).segment
        bits = np.random.default_rng(i).integers(0, 2, len(part), dtype=np.uint8) if i == 1 else None
        deleted = {} if bits is None else {"deleted": np.packbits(bits, bitorder="little").tobytes()}
        segments.append(replace(segment, num_deleted=0 if bits is None else int(bits.sum()), **deleted))
    return IndexVectors(folder, segments, DIM, {5: cells})


@pytest.mark.parametrize("similarity", ["cosine", "order"])
@pytest.mark.parametrize("target", [0.7, 0.95])
def test_searches_have_the_measured_recall(
    tmp_path: Path, similarity: str, target: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "ROWS_PER_HIT", 1)
    images, texts = _images_and_texts(similarity == "order")
    index = _index(tmp_path, images)
    found = calibrate(index, similarity, target, lambda sentences: texts[: len(sentences)])
    assert (found.queries, found.num_queries, found.num_vectors) == ("sentences", 256, index.num_live)
    assert target <= found.recall_at_10 <= target + 0.05
    num_found = 0
    for text in texts:
        best = {row for row, _ in top_hits(index, [TermVector(text)], similarity, 10)}
        num_found += len(best & {row for row, _ in top_hits(index, [TermVector(text)], similarity, 10, found.fraction)})
    measured = num_found / (10 * len(texts))
    assert measured >= found.recall_at_10 - 0.02  # a segment with deleted vectors is searched in more cells
    assert calibrate(index, similarity, 1.0, lambda _: texts).recall_at_10 == 1.0


def test_without_a_text_encoder_queries_are_photos_of_the_index(tmp_path: Path) -> None:
    images, _ = _images_and_texts(order=False)
    index = _index(tmp_path, images)
    found = calibrate(index, "cosine", 0.9)
    assert (found.queries, found.num_queries) == ("photos", 256)
    assert 0.9 <= found.recall_at_10 <= 1.0
    rows = np.array([3, 50])
    best = exact_top_rows(index, index.take(rows), "cosine", 10, rows)
    assert not any(row in found for row, found in zip(rows, best, strict=True))  # the photo itself is left out


def test_exact_rows_are_those_of_brute_force(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "_ROWS", 100)
    images, texts = _images_and_texts(order=False)
    index = _index(tmp_path, images)
    rows, live = index.take(np.arange(index.num_rows)), index.live_rows()
    for text, found in zip(texts[:20], exact_top_rows(index, texts[:20], "cosine", 10), strict=True):
        assert sorted(found) == sorted(live[np.argsort(-(rows[live] @ text))[:10]])


def test_sentences_are_different_and_always_the_same() -> None:
    sentences = sample_sentences(256)
    assert len(set(sentences)) == 256
    assert sentences == sample_sentences(256)
    assert sentences[:100] == sample_sentences(100)
    lengths = [len(sentence.split()) for sentence in sentences]
    assert min(lengths) <= 2 < 8 <= max(lengths)


def test_the_recall_is_measured_when_the_index_has_changed(
    photo_index: PhotoIndexFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def encode(sentences: list[str]) -> np.ndarray:
        asked.append(len(sentences))
        return np.stack([photo_index.embedder.vector(sentence.encode()) for sentence in sentences])

    photo_index.fill(20)
    photo_index.update()
    calibrate_index(photo_index.index_folder, encode)
    assert asked == []  # small indexes are searched exactly
    with photo_index.open() as index:
        assert (index.metadata.calibration, index.vectors.cells) == (None, {})
    sort_small_segments(monkeypatch)
    steps = [(21, {}, 1), (22, {}, 1), (40, {}, 2), (40, {"recall": 0.5}, 3), (40, {"recall": 1.0}, 3), (40, {}, 3)]
    for num_photos, settings, num_measured in steps:
        photo_index.fill(num_photos)
        photo_index.update(**settings)
        calibrate_index(photo_index.index_folder, encode)
        assert len(asked) == num_measured
        photo_index.check()
    with photo_index.open() as index:
        found = index.metadata.calibration
        assert found is not None
        assert (found.target, found.num_vectors, found.queries) == (0.5, 40, "sentences")
        assert index.metadata.fraction == 1.0


@pytest.mark.parametrize("num_left", [0, 1, 10, 11])
def test_an_index_that_has_lost_most_photos(
    photo_index: PhotoIndexFixture, num_left: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    sort_small_segments(monkeypatch)
    photo_index.fill(30)
    photo_index.update()
    calibrate_index(photo_index.index_folder, None)
    for path in sorted(photo_index.photos.iterdir())[num_left:]:
        path.unlink()
    photo_index.update(remove_missing=True)
    calibrate_index(photo_index.index_folder, None)
    with photo_index.open() as index:
        assert index.metadata.calibration is not None
        assert index.metadata.calibration.num_vectors == num_left
        terms = [TermVector(photo_index.embedder.vector(b"query"))]
        assert len(top_hits(index.vectors, terms, "cosine", 20, index.metadata.fraction)) == num_left
