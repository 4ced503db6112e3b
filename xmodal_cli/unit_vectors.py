"""L2 normalization of numpy vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import DTypeLike

SHORTEST = 1e-12  # a shorter vector is divided by this; a zero vector stays zero


def unit_vectors(vectors: np.ndarray, dtype: DTypeLike | None = None) -> np.ndarray:
    """(..., dim) -> the same with an L2 norm of 1 along the last axis; ``dtype`` None is that of ``vectors``."""
    import numpy as np

    given = np.asarray(vectors, dtype)
    return np.asarray(given / np.maximum(np.linalg.norm(given, axis=-1, keepdims=True), SHORTEST))
