"""Scores images for a query of inner products and order-violation penalties, in float32 and float64."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from xmodal_cli.unit_vectors import unit_vectors

SLACK = 1e-4  # above the float32 error of a score of unit vectors


@dataclass(frozen=True)
class Scorer:
    """A query in one form: ``v @ linear - sum_j weights[j] * ||max(0, texts[j] - v)||^2``."""

    linear: np.ndarray  # (dim,) float64
    texts: np.ndarray  # (sentences, dim) float64, empty unless the similarity is order
    weights: np.ndarray  # (sentences,)

    @classmethod
    def of(cls, vectors: Sequence[np.ndarray], weights: Sequence[float], by_order: Sequence[bool]) -> Scorer:
        """Terms are scored by the penalty if ``by_order``, else by cosine; absolute weights are scaled to sum to 1."""
        total = sum(abs(weight) for weight in weights)
        terms = list(zip(vectors, weights, by_order, strict=True))
        dim = len(vectors[0])
        linear = sum(
            (weight / total * unit_vectors(vector, np.float64) for vector, weight, order in terms if not order),
            np.zeros(dim),
        )
        texts = np.array([vector for vector, _, order in terms if order], np.float64).reshape(-1, dim)
        return cls(linear, texts, np.array([weight / total for _, weight, order in terms if order]))

    @property
    def num_comparisons(self) -> int:
        """The number of sentences that are scored by order."""
        return len(self.texts)

    def coarse(self, vectors: np.ndarray) -> np.ndarray:
        """(rows, dim) float32 -> (rows,) float32, fast."""
        scores: np.ndarray = vectors @ self.linear.astype(np.float32)
        for text, weight in zip(self.texts.astype(np.float32), self.weights, strict=True):
            violation = text - vectors
            np.maximum(violation, 0.0, out=violation)
            scores -= np.float32(weight) * np.einsum("ij,ij->i", violation, violation)
        return scores

    def fine(self, vectors: np.ndarray) -> np.ndarray:
        """(rows, dim) float32 -> (rows,) float64; equal vectors get equal scores, in any row."""
        exact = vectors.astype(np.float64)
        scores: np.ndarray = (exact * self.linear).sum(axis=1)
        for text, weight in zip(self.texts, self.weights, strict=True):
            scores -= weight * (np.maximum(text - exact, 0.0) ** 2).sum(axis=1)
        return scores

    def slack(self, score: float) -> float:
        """The same for all scores, because the vectors are of unit length."""
        return SLACK

    def direction(self) -> np.ndarray | None:
        """(dim,): images that have a large inner product with it are likely to score high.

        Between unit vectors ``||max(0, t - v)||^2 = 2 - 2 t.v - ||max(0, v - t)||^2``; the last term is ignored.
        """
        direction: np.ndarray = self.linear + 2.0 * (self.weights @ self.texts)
        return direction


def float32_error_bound(images: np.ndarray, texts: np.ndarray) -> float:
    """An upper bound of the float32 error: 4 * sqrt(dim) rounding errors of the largest possible score.

    Errors of a long sum grow with the square root of its length (Higham and Mary, 2019, "A new approach to
    probabilistic rounding error analysis"); the factor is a safety margin.
    """
    of_images, of_texts = (float(np.einsum("nd,nd->n", x, x).max()) for x in (images, texts))  # squared norms
    largest = max(np.sqrt(of_images) * np.sqrt(of_texts), of_texts)
    return float(4 * np.sqrt(images.shape[1]) * np.finfo(np.float32).eps / 2 * largest)
