"""MedR: floor(median of the 0-based best ranks) + 1, as in Kiros' and the VSE++ code."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

ORDER = 20
LABELS = {"median_rank": "MedR"}
WHOLE = True


def build() -> Callable[[np.ndarray], float]:
    """A metric over 1-based ranks (queries,)."""
    return lambda ranks: float(np.floor(np.median(ranks - 1)) + 1)
