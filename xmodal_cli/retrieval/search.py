"""Ranks the pictures of an index by a weighted query. Knows vectors only: neither files nor models.

The score of a picture ``v`` is the weighted mean of its scores for the terms, ``sum(w * s(v)) / sum(|w|)``.
A term's own score is the cosine; only a sentence under order similarity scores ``-||max(0, t - v)||^2`` (Vendrov
et al., arXiv 1511.06361): between 0, everything said is in the picture, and -1. Two pictures are compared
by cosine there too, which runs from 0 to 1, so that a point is worth the same for both.

Scores are found coarsely in float32, then anew in float64 for every picture near enough to the k-th to
matter. Equal scores are ranked by row, that is by path: the hits never depend on rounding, on blocks or on
the order in which pictures were added.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from xmodal_cli.retrieval.vectors import BLOCK, StoredVectors
from xmodal_cli.unit_vectors import unit_vectors

SHARED = 8 * BLOCK  # pictures; fewer are done before a second thread has begun
SLACK = 1e-4  # more than float32 can be wrong about a score between unit vectors


@dataclass(frozen=True)
class TermVector:
    """A term as the model sees it: (dim,) float32; ``weight`` is negative where there should be less of it."""

    vector: np.ndarray
    weight: float = 1.0
    is_text: bool = True


@dataclass(frozen=True)
class SearchParams:
    """When candidates are taken instead of all pictures, and how many.

    Measured: one core scores 100,000 vectors of 1,024 numbers in 0.04 s by cosine and 0.15 s a sentence by
    order; below these sizes a shortcut saves nothing that a person would notice.
    """

    exact_below: int = 20_000  # pictures; smaller hnsw and ivf indexes are scanned whole
    order_exact_below: int = 200_000  # pictures x sentences under order similarity
    per_hit: int = 50  # candidates per hit asked for
    at_least: int = 2_000  # candidates

    def num_candidates(self, num_hits: int) -> int:
        return max(self.per_hit * num_hits, self.at_least)


@dataclass(frozen=True)
class Scorer:
    """A query brought into one form: ``v @ linear - sum_j weights[j] * ||max(0, texts[j] - v)||^2``."""

    linear: np.ndarray  # (dim,) float64
    texts: np.ndarray  # (sentences, dim) float64, empty unless scored by order
    weights: np.ndarray  # (sentences,)

    @classmethod
    def of(cls, terms: Sequence[TermVector], similarity: str) -> Scorer:
        """``similarity`` is ``cosine`` or ``order``; weights are shared out so that their sizes sum to 1."""
        total = sum(abs(t.weight) for t in terms)
        by_order = [t for t in terms if t.is_text and similarity == "order"]
        by_cosine = [t for t in terms if not (t.is_text and similarity == "order")]
        dim = len(terms[0].vector)
        linear = sum((t.weight / total * unit_vectors(t.vector, np.float64) for t in by_cosine), np.zeros(dim))
        texts = np.array([t.vector for t in by_order], np.float64).reshape(-1, dim)
        return cls(linear, texts, np.array([t.weight / total for t in by_order]))

    def coarse(self, vectors: np.ndarray) -> np.ndarray:
        """(rows, dim) float32 -> (rows,) float32, fast."""
        scores: np.ndarray = vectors @ self.linear.astype(np.float32)
        for text, weight in zip(self.texts.astype(np.float32), self.weights, strict=True):
            short = text - vectors
            np.maximum(short, 0.0, out=short)
            scores -= np.float32(weight) * np.einsum("ij,ij->i", short, short)
        return scores

    def fine(self, vectors: np.ndarray) -> np.ndarray:
        """(rows, dim) float32 -> (rows,) float64; equal vectors get equal scores, wherever they stand."""
        wide = vectors.astype(np.float64)
        scores: np.ndarray = (wide * self.linear).sum(axis=1)
        for text, weight in zip(self.texts, self.weights, strict=True):
            scores -= weight * (np.maximum(text - wide, 0.0) ** 2).sum(axis=1)
        return scores

    def direction(self) -> np.ndarray:
        """(dim,): pictures with a large product with it are likely to score high.

        Between unit vectors ``||max(0, t - v)||^2 = 2 - 2 t.v - ||max(0, v - t)||^2``; this leaves out the last part.
        """
        direction: np.ndarray = self.linear + 2.0 * (self.weights @ self.texts)
        return direction


def top_hits(
    vectors: StoredVectors,
    terms: Sequence[TermVector],
    similarity: str,
    num_hits: int,
    effort: SearchParams | None = None,
) -> list[tuple[int, float]]:
    """The ``num_hits`` best (row, score), best first, equals by row; all rows where there are fewer."""
    scorer, effort = Scorer.of(terms, similarity), effort or SearchParams()
    num = effort.num_candidates(num_hits)
    if num < vectors.count and _use_approximate_search(vectors, scorer, effort) and any(t.weight > 0 for t in terms):
        rows = vectors.candidates(scorer.direction(), num)
    else:
        rows = _shortlist(vectors, scorer, num_hits)
    scores = np.concatenate([scorer.fine(vectors.take(part)) for part in _parts(rows)])
    best = np.lexsort((rows, -scores))[:num_hits]
    return [(int(rows[i]), float(scores[i]) + 0.0) for i in best]  # + 0.0: no minus zero


def _use_approximate_search(vectors: StoredVectors, scorer: Scorer, effort: SearchParams) -> bool:
    if vectors.kind != "flat":
        return vectors.count >= effort.exact_below
    return vectors.count * len(scorer.texts) >= effort.order_exact_below


def _shortlist(vectors: StoredVectors, scorer: Scorer, num_hits: int) -> np.ndarray:
    """Every row that can be among the ``num_hits`` best, ascending."""
    if vectors.coarse is not None and not len(scorer.texts) and num_hits < vectors.count:
        scores, bound = vectors.coarse.scores(scorer.linear)
        return _near_the_best(scores, num_hits, 2 * bound)
    scores = _in_float32(vectors, scorer)
    if num_hits >= len(scores):
        return np.arange(len(scores))
    return _near_the_best(scores, num_hits, SLACK)


def _in_float32(vectors: StoredVectors, scorer: Scorer) -> np.ndarray:
    """(rows,) float32 scores of all rows; under order similarity, which computes most, by two threads."""
    scores = np.empty(vectors.count, np.float32)

    def score(start: int, stop: int) -> None:
        for first, block in vectors.blocks(start, stop):
            scores[first : first + len(block)] = scorer.coarse(block)

    if not len(scorer.texts) or vectors.count < SHARED or (os.cpu_count() or 1) < 2:
        score(0, vectors.count)
        return scores
    from concurrent.futures import ThreadPoolExecutor

    middle = vectors.count // (2 * BLOCK) * BLOCK
    with ThreadPoolExecutor(1) as helper:
        other = helper.submit(score, middle, vectors.count)
        score(0, middle)
        other.result()
    return scores


def _near_the_best(scores: np.ndarray, num: int, slack: float) -> np.ndarray:
    """The rows, ascending, that are no more than ``slack`` below the ``num``-th best."""
    worst = np.partition(scores, len(scores) - num)[len(scores) - num]
    return np.flatnonzero(scores >= worst - slack)


def _parts(rows: np.ndarray) -> list[np.ndarray]:
    return np.array_split(rows, max(1, -(-len(rows) // BLOCK)))
