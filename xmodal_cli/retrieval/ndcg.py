"""Normalised discounted cumulative gain: how good a ranking is where answers are more or less relevant.

As in TERN (Messina et al., arXiv 2004.09144): ``DCG@p = sum over i to p of (2^rel_i - 1) / log2(i + 1)``, divided by
the same of the best ranking there can be; they take p = 25. Knows arrays of relevances only.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np


def dcg(relevances: np.ndarray) -> np.ndarray:
    """(queries, depth) relevances of the answers, best answer first -> (queries,) float64."""
    discounts = np.log2(np.arange(relevances.shape[1]) + 2)
    return np.asarray((np.exp2(relevances) - 1) @ (1 / discounts))


def ideal_dcg(relevances: np.ndarray, depth: int) -> np.ndarray:
    """(queries, items) relevances of all items -> (queries,): the best DCG that ``depth`` answers can have."""
    return dcg(_largest(relevances, depth))


def ideal_dcg_of_columns(blocks: Iterable[np.ndarray], depth: int) -> np.ndarray:
    """The same where every column is a query and its items come in blocks (items of the block, queries)."""
    best: np.ndarray | None = None
    for block in blocks:
        seen = block.T if best is None else np.hstack((best, block.T))
        best = _largest(seen, depth)
    return dcg(best) if best is not None else np.zeros(0)


def ndcg(reached: np.ndarray, ideal: np.ndarray) -> np.ndarray:
    """(queries,) DCG and its ideal -> (queries,) from 0 to 1; NaN for a query to which nothing is relevant."""
    with np.errstate(invalid="ignore"):
        return np.where(ideal > 0, reached / np.where(ideal > 0, ideal, 1), np.nan)


def _largest(rows: np.ndarray, depth: int) -> np.ndarray:
    """(rows, items) -> (rows, depth) or all there are: the largest of each row, falling."""
    kept = min(depth, rows.shape[1])
    return -np.sort(np.partition(-rows, kept - 1, axis=1)[:, :kept], axis=1)
