"""Normalized discounted cumulative gain (NDCG) of a ranking with graded relevances.

As in TERN (Messina et al., arXiv 2004.09144): ``DCG@p = sum over i to p of (2^rel_i - 1) / log2(i + 1)``, divided by
the DCG of the ideal ranking; the paper uses p = 25.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np


def dcg(relevances: np.ndarray) -> np.ndarray:
    """(queries, depth) relevances of the results, best first -> (queries,) float64."""
    discounts = np.log2(np.arange(relevances.shape[1]) + 2)
    return np.asarray((np.exp2(relevances) - 1) @ (1 / discounts))


def ideal_dcg(relevances: np.ndarray, depth: int) -> np.ndarray:
    """(queries, items) relevances of all items -> (queries,): the DCG of the ideal ranking to ``depth``."""
    return dcg(_largest(relevances, depth))


def ideal_dcg_of_columns(blocks: Iterable[np.ndarray], depth: int) -> np.ndarray:
    """``ideal_dcg`` of relevances with one column per query, given in blocks (items of the block, queries)."""
    best: np.ndarray | None = None
    for block in blocks:
        relevances = block.T if best is None else np.hstack((best, block.T))
        best = _largest(relevances, depth)
    return dcg(best) if best is not None else np.zeros(0)


def ndcg(gain: np.ndarray, ideal: np.ndarray) -> np.ndarray:
    """(queries,) DCG and ideal DCG -> (queries,) from 0 to 1; NaN for a query without relevant items."""
    with np.errstate(invalid="ignore"):
        return np.where(ideal > 0, gain / np.where(ideal > 0, ideal, 1), np.nan)


def _largest(rows: np.ndarray, depth: int) -> np.ndarray:
    """(rows, items) -> (rows, min(depth, items)): the largest values of each row, in descending order."""
    depth = min(depth, rows.shape[1])
    return -np.sort(np.partition(-rows, depth - 1, axis=1)[:, :depth], axis=1)
