"""MedR: floor(median of the 0-based ranks of the best positive) + 1, as in the code of Kiros et al. and of VSE++."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

LOWER_IS_BETTER = True
ORDER = 20
LABELS = {"median_rank": "MedR"}
WHOLE = True


def build() -> Callable[[np.ndarray], float]:
    """A metric over 1-based ranks (queries,)."""
    return lambda ranks: float(np.floor(np.median(ranks - 1)) + 1)
