"""The top k results per query, in the order that ``ranks`` assigns ranks.

Candidates are selected block by block in float32 and sorted in float64. As in ``ranks``, ties count against the model:
among results with equal scores, those with a higher ``relevance`` come later.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from xmodal_cli.models.array_similarity import array_similarity
from xmodal_cli.retrieval.ranks import TIE, exact_matrix, exact_scores, score_matrix

BLOCK = 2**22  # scores per block
DENSE = 0.1  # with more candidates than this fraction of a block, the whole block is computed in float64
Relevance = Callable[[np.ndarray, np.ndarray], np.ndarray]  # (pairs,) image rows, (pairs,) text rows -> (pairs,)


@dataclass(frozen=True)
class Vectors:
    """``images`` (images, dim), ``texts`` (texts, dim) and the name of their similarity."""

    images: np.ndarray
    texts: np.ndarray
    similarity: str


def top_texts(vectors: Vectors, k: int, relevance: Relevance) -> np.ndarray:
    """The rows of the ``k`` best texts per image, best first: (images, min(k, texts))."""
    return _top_k(vectors, k, relevance, by_text=False)


def top_images(vectors: Vectors, k: int, relevance: Relevance) -> np.ndarray:
    """The rows of the ``k`` best images per text, best first: (texts, min(k, images))."""
    return _top_k(vectors, k, relevance, by_text=True)


def _top_k(vectors: Vectors, k: int, relevance: Relevance, by_text: bool) -> np.ndarray:
    images, texts = (np.ascontiguousarray(v, np.float32) for v in (vectors.images, vectors.texts))
    num_queries, num_items = (len(texts), len(images)) if by_text else (len(images), len(texts))
    error = array_similarity(vectors.similarity).error_bound(images, texts)
    best = np.zeros((num_queries, min(k, num_items)), np.int64)
    rows = max(1, BLOCK // num_items)
    for start in range(0, num_queries, rows):
        block = slice(start, min(num_queries, start + rows))
        part = (images, texts[block]) if by_text else (images[block], texts)
        scores = score_matrix(*part, vectors.similarity)
        queries, items = _candidates(np.ascontiguousarray(scores.T) if by_text else scores, best.shape[1], error)
        pairs = (items, queries) if by_text else (queries, items)
        exact = _exact(part, pairs, vectors.similarity)
        relevances = relevance(items, start + queries) if by_text else relevance(start + queries, items)
        order = _worst_case_order(queries, exact, relevances, error * TIE)
        firsts = np.flatnonzero(np.diff(queries, prepend=-1))
        best[block] = items[order][firsts[:, None] + np.arange(best.shape[1])]
    return best


def _candidates(scores: np.ndarray, k: int, error: float) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns, in row-major order, of the scores that may be among the ``k`` best of their row.

    ``error`` is the bound of the float32 error of a score.
    """
    kth_best = np.partition(scores, scores.shape[1] - k, axis=1)[:, scores.shape[1] - k]
    rows, columns = np.nonzero(scores >= (kth_best - 2 * error)[:, None])
    return rows, columns


def _exact(part: tuple[np.ndarray, np.ndarray], pairs: tuple[np.ndarray, np.ndarray], similarity: str) -> np.ndarray:
    """The float64 scores of the pairs: (pairs,)."""
    if len(pairs[0]) > DENSE * len(part[0]) * len(part[1]):
        return np.asarray(exact_matrix(*part, similarity)[pairs])
    return exact_scores(*part, *pairs, similarity)


def _worst_case_order(queries: np.ndarray, scores: np.ndarray, relevances: np.ndarray, tie: float) -> np.ndarray:
    """The order by query, then by descending score, then, among tied scores, by ascending relevance."""
    order = np.lexsort((-scores, queries))
    is_lower = (np.diff(scores[order]) < -tie) | (np.diff(queries[order]) != 0)
    group = np.concatenate(([0], np.cumsum(is_lower)))
    return np.asarray(order[np.lexsort((relevances[order], group))])
