"""Cosine similarity: the inner product of unit-length vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from xmodal_cli.models.query_scorer import Scorer, float32_error_bound

if TYPE_CHECKING:
    from torch import Tensor


class Cosine:
    """Symmetric; 1 for the same direction, -1 for the opposite one."""

    name = "cosine"

    def prepare(self, vectors: Tensor) -> Tensor:
        """(items, dim) -> (items, dim) of unit length."""
        from torch.nn.functional import normalize

        return normalize(vectors, dim=-1)

    def __call__(self, images: Tensor, texts: Tensor) -> Tensor:
        """(images, dim), (texts, dim) -> (images, texts)."""
        return images @ texts.T


class CosineArrays:
    """The inner product of unit vectors: a ``models.array_similarity.ArraySimilarity``."""

    inner_product = True
    additive = True

    def score_matrix(self, images: np.ndarray, texts: np.ndarray) -> np.ndarray:
        """See ``ArraySimilarity``."""
        return np.asarray(images @ texts.T)

    def exact_matrix(self, images: np.ndarray, texts: np.ndarray) -> np.ndarray:
        """See ``ArraySimilarity``."""
        return np.asarray(images.astype(np.float64) @ texts.astype(np.float64).T)

    def exact_pairs(self, images: np.ndarray, texts: np.ndarray) -> np.ndarray:
        """See ``ArraySimilarity``."""
        return np.asarray(np.einsum("nd,nd->n", images, texts))

    def error_bound(self, images: np.ndarray, texts: np.ndarray) -> float:
        """See ``ArraySimilarity``."""
        return float32_error_bound(images, texts)

    def query(self, vectors: Sequence[np.ndarray], weights: Sequence[float], is_text: Sequence[bool]) -> Scorer:
        """The weighted sum of all terms is one inner product."""
        return Scorer.of(vectors, weights, [False] * len(vectors))


def build() -> Cosine:
    """No settings."""
    return Cosine()


def arrays() -> CosineArrays:
    """The similarity on numpy arrays."""
    return CosineArrays()
