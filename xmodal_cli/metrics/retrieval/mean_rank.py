"""MeanR: the mean rank of the best positive, 1-based."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

LOWER_IS_BETTER = True
ORDER = 30
LABELS = {"mean_rank": "MeanR"}


def build() -> Callable[[np.ndarray], float]:
    """A metric over 1-based ranks (queries,)."""
    return lambda ranks: float(np.mean(ranks))


def per_query(ranks: np.ndarray) -> np.ndarray:
    """(queries,) the ranks themselves."""
    return ranks.astype(np.float64)
