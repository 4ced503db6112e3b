"""Search the vectors of an index with a weighted query.

The score of an image ``v`` is the weighted mean of its scores for the terms, ``sum(w * s(v)) / sum(|w|)``. The score
for a term is that of the model's similarity (``models/similarities``): the cosine, or, for a sentence under order
similarity, ``-||max(0, t - v)||^2`` (Vendrov et al., arXiv 1511.06361), from 0 (no violation) to -1. Under order
similarity an image term is compared by cosine, from 0 to 1: both ranges have the same width.

Scores are computed in float32, then recomputed in float64 for all images that may be among the k best. All images with
the score of the last hit are returned, so that the caller can sort equal scores by path: the hits do not depend on
rounding, blocks, segments or the order in which images were added. An approximate search does so for the images of the
cells (``cells.py``) that are nearest to the query; the scores of its hits are those of an exact search.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from xmodal_cli.models.array_similarity import QueryScorer, array_similarity
from xmodal_cli.retrieval.cells import rows_in_cells
from xmodal_cli.retrieval.index_vectors import IndexVectors
from xmodal_cli.retrieval.vectors import BLOCK, StoredVectors

MIN_PARALLEL = 64 * BLOCK  # images; a second thread does not help for fewer
COMPARISON = 8  # a comparison under order similarity takes so many times as long as an inner product
ROWS_PER_HIT = 50  # an approximate search scores at least so many images per requested hit

Rows = np.ndarray | range


@dataclass(frozen=True)
class TermVector:
    """The vector of a term, (dim,) float32; a term with a negative ``weight`` lowers the scores of its matches."""

    vector: np.ndarray
    weight: float = 1.0
    is_text: bool = True


def top_hits(
    vectors: IndexVectors,
    terms: Sequence[TermVector],
    similarity: str,
    num_hits: int,
    fraction: float = 1.0,
    allowed: np.ndarray | None = None,
) -> list[tuple[int, float]]:
    """The ``num_hits`` best (row, score) pairs, best first, ties by row; all rows with the last score are included.

    ``fraction``: an approximate search scores the images of this part of the cells; with 1 the search is exact.
    ``allowed`` (rows,) bool are the images that can be hits; without it, all that are not deleted.
    """
    scorer = array_similarity(similarity).query(
        [t.vector for t in terms], [t.weight for t in terms], [t.is_text for t in terms]
    )
    has_positive_term = any(t.weight > 0 for t in terms)  # otherwise the hits are far from the query, in any cell
    select = _RowSelector(vectors, scorer, num_hits, fraction if has_positive_term else 1.0)
    rows, scores = [np.zeros(0, np.int64)], [np.zeros(0)]
    for start, part in zip(vectors.starts, vectors.parts, strict=False):
        chosen = select.rows(part, None if allowed is None else allowed[start : start + part.layout.count])
        rows.append(start + chosen)
        scores += [scorer.fine(part.take(block)) for block in _blocks(chosen) if len(block)]
    return _best(np.concatenate(rows), np.concatenate(scores), num_hits)


def _best(rows: np.ndarray, scores: np.ndarray, num_hits: int) -> list[tuple[int, float]]:
    order = np.lexsort((rows, -scores))
    if num_hits < len(order):
        order = order[: np.searchsorted(-scores[order], -scores[order[num_hits - 1]], "right")]
    return [(int(rows[i]), float(scores[i]) + 0.0) for i in order]  # + 0.0 removes the sign of -0.0


class _RowSelector:
    """Selects the rows of a segment whose scores are computed in float64."""

    def __init__(self, vectors: IndexVectors, scorer: QueryScorer, num_hits: int, fraction: float) -> None:
        self._vectors, self._scorer, self._num_hits, self._fraction = vectors, scorer, num_hits, fraction
        direction = scorer.direction() if fraction < 1 else None
        self._order = {} if direction is None else {key: c.order(direction) for key, c in vectors.cells.items()}

    def rows(self, part: StoredVectors, allowed: np.ndarray | None) -> np.ndarray:
        """All rows that may be among the best, in ascending order; or those of them in the nearest cells."""
        mask = part.live if allowed is None else allowed if part.live is None else allowed & part.live
        rows = self._candidates(part, mask)
        if self._num_hits >= len(rows):
            return np.asarray(rows)
        scores = _score_in_float32(part, rows, self._scorer)
        kth = np.partition(scores, len(scores) - self._num_hits)[len(scores) - self._num_hits]
        best = np.flatnonzero(scores >= kth - self._scorer.slack(float(kth)))
        return best if isinstance(rows, range) else rows[best]

    def _candidates(self, part: StoredVectors, mask: np.ndarray | None) -> Rows:
        count = part.layout.count
        order = self._order.get(part.cells)
        share = 1.0 if mask is None else np.count_nonzero(mask) / count
        num = 0 if order is None else max(1, math.ceil(self._fraction * len(order) / max(share, 1e-9)))
        while order is not None and num < len(order):
            rows = rows_in_cells(part.cell_offsets, np.sort(order[:num]))
            rows = rows if mask is None else rows[mask[rows]]
            if len(rows) >= ROWS_PER_HIT * self._num_hits * count / self._vectors.num_rows:
                return rows
            num *= 2
        return range(count) if mask is None else np.flatnonzero(mask)


def _score_in_float32(part: StoredVectors, rows: Rows, scorer: QueryScorer) -> np.ndarray:
    """(rows,) float32 scores; many rows are split over two threads."""
    scores = np.empty(len(rows), np.float32)
    direction = scorer.linear.astype(np.float32)

    def score(start: int, stop: int) -> None:
        if not scorer.num_comparisons:
            scores[start:stop] = part.inner_products(rows[start:stop], direction)
            return
        for block, vectors in part.blocks(rows[start:stop]):
            scores[start + block.start : start + block.stop] = scorer.coarse(vectors)

    if len(rows) * (1 + COMPARISON * scorer.num_comparisons) < MIN_PARALLEL or (os.cpu_count() or 1) < 2:
        score(0, len(rows))
        return scores
    from concurrent.futures import ThreadPoolExecutor

    middle = len(rows) // (2 * BLOCK) * BLOCK
    with ThreadPoolExecutor(1) as executor:
        second_half = executor.submit(score, middle, len(rows))
        score(0, middle)
        second_half.result()
    return scores


def _blocks(rows: np.ndarray) -> list[np.ndarray]:
    return np.array_split(rows, max(1, -(-len(rows) // BLOCK)))
