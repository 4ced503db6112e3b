"""Ranks the pictures of an index by a weighted query. Knows vectors only: neither files nor models.

The score of a picture ``v`` is the weighted mean of its scores for the terms, ``sum(w * s(v)) / sum(|w|)``.
A term's own score is that of the model's similarity (``models/similarities``): the cosine, or for a sentence under
order similarity ``-||max(0, t - v)||^2`` (Vendrov et al., arXiv 1511.06361): between 0, everything said is in the
picture, and -1. Two pictures are compared by cosine there too, which runs from 0 to 1, so that a point is worth the
same for both.

Scores are found coarsely in float32, then anew in float64 for every picture near enough to the k-th to
matter. Equal scores are ranked by row, that is by path: the hits never depend on rounding, on blocks or on
the order in which pictures were added.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from xmodal_cli.models.array_similarity import QueryScorer, array_similarity
from xmodal_cli.retrieval.vectors import BLOCK, StoredVectors

SHARED = 8 * BLOCK  # pictures; fewer are done before a second thread has begun


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


def top_hits(
    vectors: StoredVectors,
    terms: Sequence[TermVector],
    similarity: str,
    num_hits: int,
    effort: SearchParams | None = None,
) -> list[tuple[int, float]]:
    """The ``num_hits`` best (row, score), best first, equals by row; all rows where there are fewer."""
    effort = effort or SearchParams()
    scorer = array_similarity(similarity).query(
        [t.vector for t in terms], [t.weight for t in terms], [t.is_text for t in terms]
    )
    num = effort.num_candidates(num_hits)
    direction = None
    if num < vectors.count and _use_approximate_search(vectors, scorer, effort) and any(t.weight > 0 for t in terms):
        direction = scorer.direction()
    rows = _shortlist(vectors, scorer, num_hits) if direction is None else vectors.candidates(direction, num)
    scores = np.concatenate([scorer.fine(vectors.take(part)) for part in _parts(rows)])
    best = np.lexsort((rows, -scores))[:num_hits]
    return [(int(rows[i]), float(scores[i]) + 0.0) for i in best]  # + 0.0: no minus zero


def _use_approximate_search(vectors: StoredVectors, scorer: QueryScorer, effort: SearchParams) -> bool:
    if vectors.kind != "flat":
        return vectors.count >= effort.exact_below
    return vectors.count * scorer.num_comparisons >= effort.order_exact_below


def _shortlist(vectors: StoredVectors, scorer: QueryScorer, num_hits: int) -> np.ndarray:
    """Every row that can be among the ``num_hits`` best, ascending."""
    if vectors.coarse is not None and not scorer.num_comparisons and num_hits < vectors.count:
        scores, bound = vectors.coarse.scores(scorer.linear)
        return _near_the_best(scores, num_hits, lambda _: 2 * bound)
    scores = _in_float32(vectors, scorer)
    if num_hits >= len(scores):
        return np.arange(len(scores))
    return _near_the_best(scores, num_hits, scorer.slack)


def _in_float32(vectors: StoredVectors, scorer: QueryScorer) -> np.ndarray:
    """(rows,) float32 scores of all rows; under order similarity, which computes most, by two threads."""
    scores = np.empty(vectors.count, np.float32)

    def score(start: int, stop: int) -> None:
        for first, block in vectors.blocks(start, stop):
            scores[first : first + len(block)] = scorer.coarse(block)

    if not scorer.num_comparisons or vectors.count < SHARED or (os.cpu_count() or 1) < 2:
        score(0, vectors.count)
        return scores
    from concurrent.futures import ThreadPoolExecutor

    middle = vectors.count // (2 * BLOCK) * BLOCK
    with ThreadPoolExecutor(1) as helper:
        other = helper.submit(score, middle, vectors.count)
        score(0, middle)
        other.result()
    return scores


def _near_the_best(scores: np.ndarray, num: int, slack: Callable[[float], float]) -> np.ndarray:
    """The rows, ascending, that are no more than ``slack`` of it below the ``num``-th best."""
    worst = np.partition(scores, len(scores) - num)[len(scores) - num]
    return np.flatnonzero(scores >= worst - slack(float(worst)))


def _parts(rows: np.ndarray) -> list[np.ndarray]:
    return np.array_split(rows, max(1, -(-len(rows) // BLOCK)))
