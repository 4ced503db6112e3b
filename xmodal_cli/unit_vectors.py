"""L2 normalization of numpy vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import DTypeLike

SHORTEST = 1e-12  # lower bound of the norm: a zero vector stays zero


def unit_vectors(vectors: np.ndarray, dtype: DTypeLike | None = None) -> np.ndarray:
    """(..., dim) -> (..., dim) with an L2 norm of 1 along the last axis; ``dtype`` None keeps that of ``vectors``."""
    import numpy as np

    vectors = np.asarray(vectors, dtype)
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), SHORTEST))
