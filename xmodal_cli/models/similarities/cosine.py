"""Cosine similarity: unit-length vectors, compared by their inner product."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import normalize


class Cosine:
    """Symmetric; 1 for the same direction, -1 for the opposite one."""

    name = "cosine"

    def prepare(self, vectors: Tensor) -> Tensor:
        """(items, dim) -> (items, dim) of unit length."""
        return normalize(vectors, dim=-1)

    def __call__(self, images: Tensor, texts: Tensor) -> Tensor:
        """(images, dim), (texts, dim) -> (images, texts)."""
        return images @ texts.T


def build() -> Cosine:
    """No settings."""
    return Cosine()
