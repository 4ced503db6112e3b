"""Search against slow formulas; ties; approximate search and its recall."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from xmodal_cli.retrieval import search
from xmodal_cli.retrieval.cells import train_cells
from xmodal_cli.retrieval.index_vectors import IndexVectors
from xmodal_cli.retrieval.search import TermVector, top_hits
from xmodal_cli.retrieval.segments import write_segment
from xmodal_cli.retrieval.vectors import Layout


def _stored(folder: Path, vectors: np.ndarray, num_segments: int = 1) -> IndexVectors:
    """The vectors in segments of exact float32 numbers, in order."""
    segments = []
    for part in np.array_split(np.arange(len(vectors)), num_segments):
        layout = Layout("fp32", len(part), vectors.shape[1])
        segments.append(write_segment(folder, layout, lambda rows, part=part: vectors[part[rows]]).segment)
    return IndexVectors(folder, segments, vectors.shape[1])


def _sorted(folder: Path, vectors: np.ndarray, num_segments: int = 1) -> tuple[IndexVectors, np.ndarray]:
    """The vectors in segments sorted by cell, and in the order of rows."""
    cells, segments = train_cells(vectors, len(vectors)), []
    for part in np.array_split(np.arange(len(vectors)), num_segments):
        layout, cell_of = Layout("fp32", len(part), vectors.shape[1]), cells.assign(vectors[part])
        take = vectors[part].__getitem__
        segments.append(write_segment(folder, layout, take, 7, cell_of, len(cells)).segment)
    stored = IndexVectors(folder, segments, vectors.shape[1], {7: cells})
    return stored, stored.take(np.arange(len(vectors)))


def _unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def _random(num: int, dim: int, order: bool, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).standard_normal((num, dim))
    return _unit(np.abs(vectors) if order else vectors)


def _clustered(num: int, dim: int, order: bool, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Clustered images, and texts of the same clusters with an offset, like the modality gap of real models."""
    rng = np.random.default_rng(seed)
    centers = rng.standard_normal((40, dim))
    images = centers[rng.integers(40, size=num)] + 0.7 * rng.standard_normal((num, dim))
    texts = centers[rng.integers(40, size=50)] + 0.7 * rng.standard_normal((50, dim)) + 0.6 * rng.standard_normal(dim)
    return (_unit(np.abs(images)), _unit(np.abs(texts))) if order else (_unit(images), _unit(texts))


def _slow_score(image: list[float], terms: list[TermVector], similarity: str) -> float:
    """The formula of docs/search.md, element by element."""
    total = 0.0
    for term in terms:
        vector = [float(x) for x in term.vector]
        if similarity == "order" and term.is_text:
            score = -sum(max(0.0, t - v) ** 2 for t, v in zip(vector, image, strict=True))
        else:
            norm = math.sqrt(sum(t * t for t in vector))
            score = sum(t * v for t, v in zip(vector, image, strict=True)) / norm
        total += term.weight * score
    return total / sum(abs(t.weight) for t in terms)


def _slow_hits(images: np.ndarray, terms: list[TermVector], similarity: str) -> list[tuple[int, float]]:
    scored = [(row, _slow_score([float(x) for x in v], terms, similarity)) for row, v in enumerate(images)]
    return sorted(scored, key=lambda hit: (-round(hit[1], 12), hit[0]))


def _check(hits: list[tuple[int, float]], expected: list[tuple[int, float]]) -> None:
    assert [row for row, _ in hits] == [row for row, _ in expected]
    assert np.allclose([s for _, s in hits], [s for _, s in expected], rtol=0, atol=1e-12)


@pytest.mark.parametrize("similarity", ["cosine", "order"])
def test_one_sentence_equals_brute_force_for_every_k(tmp_path: Path, similarity: str) -> None:
    images = _random(150, 9, similarity == "order")
    terms = [TermVector(_random(1, 9, similarity == "order", seed=1)[0])]
    stored, expected = _stored(tmp_path, images), _slow_hits(images, terms, similarity)
    for k in (1, 2, 3, 10, 149, 150, 151, 1000):
        _check(top_hits(stored, terms, similarity, k), expected[:k])


@pytest.mark.parametrize("similarity", ["cosine", "order"])
@pytest.mark.parametrize("weights", [(1.0, 1.0), (1.0, -1.0), (0.5, 2.0, -0.25), (-1.0,), (-1.0, -3.0)])
def test_weighted_terms_equal_the_formula(tmp_path: Path, similarity: str, weights: tuple[float, ...]) -> None:
    images = _random(80, 7, similarity == "order")
    texts = 3.0 * _random(len(weights), 7, similarity == "order", seed=2)  # the norm of a query does not matter...
    if similarity == "order":
        texts /= 3.0  # ...for the cosine; under order similarity sentences have unit norm
    for is_text in (True, False):
        terms = [TermVector(t, w, is_text or i == 0) for i, (t, w) in enumerate(zip(texts, weights, strict=True))]
        _check(top_hits(_stored(tmp_path, images), terms, similarity, 12), _slow_hits(images, terms, similarity)[:12])


def test_more_than_one_block(tmp_path: Path) -> None:
    images = _random(2500, 4, order=True)
    terms = [TermVector(_random(1, 4, order=True, seed=3)[0]), TermVector(images[7], -0.5, is_text=False)]
    _check(top_hits(_stored(tmp_path, images), terms, "order", 20), _slow_hits(images, terms, "order")[:20])


@pytest.mark.parametrize("similarity", ["cosine", "order"])
def test_equal_scores_are_sorted_by_row(tmp_path: Path, similarity: str) -> None:
    distinct = _random(5, 33, similarity == "order")
    images = distinct[np.random.default_rng(4).integers(5, size=1500)]
    terms = [TermVector(_random(1, 33, similarity == "order", seed=5)[0])]
    stored = _stored(tmp_path, images)
    best = top_hits(stored, terms, similarity, 1500)
    assert len({score for _, score in best}) == 5  # equal vectors have equal scores in every row
    for k in (1, 10, 299, 700):
        hits = top_hits(stored, terms, similarity, k)
        assert hits == best[: len(hits)]
        assert {score for _, score in hits[k:]} <= {
            hits[k - 1][1]
        }  # all that are equal to the last one, for the caller
        assert best[len(hits)][1] < hits[-1][1]
    scores = np.array([s for _, s in best])
    rows = np.array([r for r, _ in best])
    assert all(np.all(np.diff(rows[scores == score]) > 0) for score in set(scores))


def test_a_sentence_without_order_violations_scores_zero(tmp_path: Path) -> None:
    images = np.array([[0.6, 0.8], [1.0, 0.0]], np.float32)
    text = TermVector(np.array([0.6, 0.0], np.float32))
    stored = _stored(tmp_path, images)
    assert top_hits(stored, [text], "order", 2) == [(0, 0.0), (1, 0.0)]
    assert math.copysign(1, top_hits(stored, [text], "order", 1)[0][1]) == 1  # not -0.0


@pytest.mark.parametrize("similarity", ["cosine", "order"])
@pytest.mark.parametrize("num_segments", [1, 3])
def test_recall_of_approximate_search(
    tmp_path: Path, similarity: str, num_segments: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Recall@10 for queries with an offset; it grows with the number of cells up to exact search."""
    monkeypatch.setattr(search, "ROWS_PER_HIT", 1)
    images, texts = _clustered(6000, 48, similarity == "order", seed=6)
    stored, rows = _sorted(tmp_path, images, num_segments)
    recalls = [_recall(stored, rows, texts, similarity, fraction) for fraction in (1e-9, 0.25, 1.0)]
    assert 0.05 < recalls[0] < 0.9
    assert recalls[1] >= 0.95
    assert recalls[2] == 1.0


def _recall(
    stored: IndexVectors, images: np.ndarray, texts: np.ndarray, similarity: str, fraction: float, k: int = 10
) -> float:
    num_found = 0
    for text in texts:
        by_order = -(np.maximum(text[None] - images, 0) ** 2).sum(1)
        scores = by_order if similarity == "order" else images @ text
        best = set(np.argsort(-scores)[:k])
        num_found += len(best & {row for row, _ in top_hits(stored, [TermVector(text)], similarity, k, fraction)})
    return num_found / (k * len(texts))


def test_approximate_search_returns_exact_scores_and_num_hits(tmp_path: Path) -> None:
    images, texts = _clustered(3000, 16, True, seed=8)
    stored, _ = _sorted(tmp_path, images)
    terms = [TermVector(texts[0]), TermVector(texts[1], -0.5)]
    scores = dict(top_hits(stored, terms, "order", 3000))
    hits = top_hits(stored, terms, "order", 5, 0.01)
    assert len(hits) == 5
    assert all(scores[row] == score for row, score in hits)
    assert len(top_hits(stored, terms, "order", 2999, 0.01)) == 2999  # the number of cells does not limit the hits


def test_a_query_of_negative_terms_is_exact(tmp_path: Path) -> None:
    images, texts = _clustered(2000, 16, False, seed=9)
    stored, rows = _sorted(tmp_path, images)
    hits = top_hits(stored, [TermVector(texts[0], -1.0)], "cosine", 10, 0.01)
    assert [row for row, _ in hits] == [int(r) for r in np.argsort(rows @ texts[0], kind="stable")[:10]]


@pytest.mark.parametrize("share", [0.5, 0.01, 0.0])
@pytest.mark.parametrize("num_segments", [1, 3])
def test_only_allowed_rows_are_hits(tmp_path: Path, share: float, num_segments: int) -> None:
    """Fewer allowed rows are in more cells: an approximate search scores these."""
    images, texts = _clustered(4000, 32, False, seed=10)
    stored, rows = _sorted(tmp_path, images, num_segments)
    allowed, num_found = np.random.default_rng(0).random(4000) < share, 0
    for text in texts:
        expected = [row for row in np.argsort(-(rows @ text), kind="stable") if allowed[row]][:10]
        exact = [row for row, _ in top_hits(stored, [TermVector(text)], "cosine", 10, allowed=allowed)]
        assert exact == expected
        found = [row for row, _ in top_hits(stored, [TermVector(text)], "cosine", 10, 0.1, allowed)]
        assert allowed[found].all()
        assert len(found) == len(expected)
        num_found += len({*found} & {*expected})
    assert num_found >= 0.9 * len(texts) * len(expected)


@pytest.mark.parametrize("fraction", [1.0, 0.2])
def test_deleted_vectors_are_no_hits(tmp_path: Path, fraction: float) -> None:
    images, texts = _clustered(3000, 16, False, seed=11)
    stored, rows = _sorted(tmp_path, images)
    live = np.random.default_rng(1).random(3000) < 0.6
    stored.parts[0].live = live
    for text in texts[:10]:
        best = top_hits(stored, [TermVector(text)], "cosine", 10, fraction)
        assert live[[row for row, _ in best]].all()
        if fraction == 1.0:
            expected = [row for row in np.argsort(-(rows @ text), kind="stable") if live[row]][:10]
            assert [row for row, _ in best] == expected


def test_vectors_are_exact_in_every_order(tmp_path: Path) -> None:
    images = _random(1300, 6, order=False)
    stored = _stored(tmp_path, images)
    rows = np.array([1299, 0, 700, 700])
    assert np.array_equal(stored.take(rows), images[rows])
    (part,) = stored.parts
    assert np.array_equal(np.concatenate([b for _, b in part.blocks(range(1300))]), images)
    assert [(s.start, s.stop) for s, _ in part.blocks(range(1300))] == [(0, 1024), (1024, 1300)]
    assert np.array_equal(np.concatenate([b for _, b in part.blocks(rows)]), images[rows])


def test_an_index_of_one_vector(tmp_path: Path) -> None:
    images = _random(1, 6, order=False)
    ((row, score),) = top_hits(_stored(tmp_path, images), [TermVector(images[0])], "cosine", 10)
    assert row == 0
    assert score == pytest.approx(1.0)


@pytest.mark.parametrize("similarity", ["cosine", "order"])
@pytest.mark.parametrize("dim", [1, 3, 9, 17])
def test_odd_sizes_copies_and_empty_cells(tmp_path: Path, similarity: str, dim: int) -> None:
    """Exact hits are those of brute force, and approximate ones exist, however many cells have vectors."""
    rng = np.random.default_rng(dim)
    images = _random(6, dim, similarity == "order", seed=13)[rng.integers(6, size=500)]
    images = np.concatenate([images, _random(40, dim, similarity == "order", seed=14)])
    if similarity == "order":
        images[17] = 0.0
    stored, rows = _sorted(tmp_path, images, 3)
    live = rng.random(len(images)) < 0.3
    for start, part in zip(stored.starts, stored.parts, strict=False):
        part.live = live[start : start + part.layout.count]
    allowed = rng.random(len(images)) < 0.5
    terms = [TermVector(t, w) for t, w in zip(_random(2, dim, similarity == "order", 15), (1.0, -0.5), strict=True)]
    selected = np.flatnonzero(live & allowed)
    expected = [(int(selected[row]), score) for row, score in _slow_hits(rows[selected], terms, similarity)]
    for k in (1, 10, len(selected), len(selected) + 5):
        hits = top_hits(stored, terms, similarity, k, 1.0, allowed)
        np.testing.assert_allclose([s for _, s in hits[:k]], [s for _, s in expected[:k]], atol=1e-12)
        assert {row for row, _ in expected[:k]} <= {row for row, _ in hits}
        for fraction in (0.0, 0.01, 0.5):  # 0 is measured if the best photos are in segments that are not sorted
            found = top_hits(stored, terms, similarity, k, fraction, allowed)
            assert len(found) >= min(k, len(selected))
            assert all(dict(expected)[row] == pytest.approx(score, abs=1e-12) for row, score in found)


def test_two_threads_give_the_same_scores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images, texts = _clustered(5000, 16, True, seed=12)
    stored, terms = _stored(tmp_path, images), [TermVector(texts[0]), TermVector(texts[1], -0.5)]
    expected = top_hits(stored, terms, "order", 40)
    monkeypatch.setattr(search, "MIN_PARALLEL", 1)
    monkeypatch.setattr(search.os, "cpu_count", lambda: 2)
    assert top_hits(stored, terms, "order", 40) == expected
