"""The best answers to every query, in the order that the ranks speak of. Knows arrays only.

Candidates are found block by block in float32 and put in order in float64. Answers that tie are ordered the way that is
worst for the model, as in ``ranks``: the caller says by ``merit`` which answers are worth more, and those come later.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from xmodal_cli.models.array_similarity import array_similarity
from xmodal_cli.retrieval.ranks import TIE, exact_matrix, exact_scores, score_matrix

BLOCK = 2**22  # scores held at once
DENSE = 0.1  # where more of a block than this has to be made again in float64, all of it is
Relevance = Callable[[np.ndarray, np.ndarray], np.ndarray]  # (pairs,) rows of images and of texts -> (pairs,)


@dataclass(frozen=True)
class Vectors:
    """``images`` (images, dim), ``texts`` (captions, dim) and the name of what compares them."""

    images: np.ndarray
    texts: np.ndarray
    similarity: str


def best_texts(vectors: Vectors, k: int, merit: Relevance) -> np.ndarray:
    """The rows of the ``k`` best texts for every image, best first: (images, k) or fewer where there are fewer."""
    return _best(vectors, k, merit, by_text=False)


def best_images(vectors: Vectors, k: int, merit: Relevance) -> np.ndarray:
    """The rows of the ``k`` best images for every text, best first: (texts, k) or fewer where there are fewer."""
    return _best(vectors, k, merit, by_text=True)


def _best(vectors: Vectors, k: int, merit: Relevance, by_text: bool) -> np.ndarray:
    images, texts = (np.ascontiguousarray(v, np.float32) for v in (vectors.images, vectors.texts))
    num_queries, num_items = (len(texts), len(images)) if by_text else (len(images), len(texts))
    band = array_similarity(vectors.similarity).error_bound(images, texts)
    best = np.zeros((num_queries, min(k, num_items)), np.int64)
    rows = max(1, BLOCK // num_items)
    for start in range(0, num_queries, rows):
        block = slice(start, min(num_queries, start + rows))
        part = (images, texts[block]) if by_text else (images[block], texts)
        queries, items = _candidates(_turned(score_matrix(*part, vectors.similarity), by_text), best.shape[1], band)
        pairs = (items, queries) if by_text else (queries, items)
        scores = _exact(part, pairs, vectors.similarity)
        merits = merit(items, start + queries) if by_text else merit(start + queries, items)
        order = _worst_case_order(queries, scores, merits, band * TIE)
        firsts = np.flatnonzero(np.diff(queries, prepend=-1))
        best[block] = items[order][firsts[:, None] + np.arange(best.shape[1])]
    return best


def _turned(scores: np.ndarray, by_text: bool) -> np.ndarray:
    return np.ascontiguousarray(scores.T) if by_text else scores


def _candidates(scores: np.ndarray, k: int, band: float) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns, row by row, of what may be among a row's ``k`` best, given float32's error ``band``."""
    bar = np.partition(scores, scores.shape[1] - k, axis=1)[:, scores.shape[1] - k]
    found = np.nonzero(scores >= (bar - 2 * band)[:, None])
    return found[0], found[1]


def _exact(part: tuple[np.ndarray, np.ndarray], pairs: tuple[np.ndarray, np.ndarray], similarity: str) -> np.ndarray:
    """The pairs' scores in float64."""
    if len(pairs[0]) > DENSE * len(part[0]) * len(part[1]):
        return np.asarray(exact_matrix(*part, similarity)[pairs])
    return exact_scores(*part, *pairs, similarity)


def _worst_case_order(queries: np.ndarray, scores: np.ndarray, merits: np.ndarray, tie: float) -> np.ndarray:
    """The order by query, then by falling score, then, among scores that tie, by rising merit."""
    order = np.lexsort((-scores, queries))
    falls = (np.diff(scores[order]) < -tie) | (np.diff(queries[order]) != 0)
    group = np.concatenate(([0], np.cumsum(falls)))
    return np.asarray(order[np.lexsort((merits[order], group))])
