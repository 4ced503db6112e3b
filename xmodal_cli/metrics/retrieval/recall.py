"""R@K: the percentage of queries with a positive among the first K results (a hit rate, called recall in papers)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

ORDER = 10
K = (1, 5, 10)  # as the papers print them; rsum is their sum over both directions


def recalls(top_k: Sequence[int]) -> dict[str, dict[str, int]]:
    """The scores of these cut-offs, as ``SCORES``."""
    return {f"R@{k}": {"k": k} for k in top_k}


SCORES = recalls(K)


def build(k: int = 10) -> Callable[[np.ndarray], float]:
    """A metric over 1-based ranks (queries,). Raises ValueError if ``k`` is below 1."""
    if k < 1:
        raise ValueError(f"k must be at least 1, not {k}")
    return lambda ranks: 100.0 * int(np.count_nonzero(ranks <= k)) / len(ranks)


def per_query(ranks: np.ndarray, k: int = 10) -> np.ndarray:
    """(queries,) 100 if a positive is among the first ``k`` results, else 0."""
    return 100.0 * (ranks <= k)
