"""Similarities over numpy arrays, for ranks, evaluation, the index and search.

A similarity module may have ``arrays() -> ArraySimilarity``, which must not import torch. A module without it is
used through its torch ``build()`` in float64: exact but slower, and search then imports torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Protocol

import numpy as np

from xmodal_cli import catalog

BLOCK_ELEMENTS = 2**24  # size of the largest (images, texts, dim) difference computed at once
PAIRS_PER_BLOCK = 32  # pairs are the diagonal of a square score matrix of this size
FLOAT32 = float(np.finfo(np.float32).eps)
SAMPLE_SIZE = 256  # vectors per side used to estimate the magnitude of scores
ExactMatrix = Callable[[np.ndarray, np.ndarray], np.ndarray]


class QueryScorer(Protocol):
    """Scores the images of an index for a weighted sum of query terms, ``sum(w * score) / sum(|w|)``.

    ``linear`` (dim,) is the part of the score that is an inner product; ``num_comparisons`` counts the terms that are
    not part of it. If it is 0, ``v @ linear`` is the score.
    """

    linear: np.ndarray

    @property
    def num_comparisons(self) -> int: ...

    def coarse(self, vectors: np.ndarray) -> np.ndarray:
        """(rows, dim) float32 -> (rows,) float32, fast."""
        ...

    def fine(self, vectors: np.ndarray) -> np.ndarray:
        """(rows, dim) float32 -> (rows,) float64; equal vectors get equal scores."""
        ...

    def slack(self, score: float) -> float:
        """An upper bound of the error of coarse scores near ``score``."""
        ...

    def direction(self) -> np.ndarray | None:
        """(dim,): images that have a large inner product with it are likely to score high. None: score all images."""
        ...


class ArraySimilarity(Protocol):
    """A similarity over arrays of prepared vectors.

    ``inner_product``: scores are inner products of unit vectors. Vectors in files are then normalized, and a flat index
    is quantized. ``additive``: the score of concatenated vectors is the sum of their scores, so models can be
    ensembled.
    """

    inner_product: bool
    additive: bool

    def score_matrix(self, images: np.ndarray, texts: np.ndarray) -> np.ndarray:
        """(images, dim), (texts, dim) float32 -> (images, texts) float32."""
        ...

    def exact_matrix(self, images: np.ndarray, texts: np.ndarray) -> np.ndarray:
        """(images, dim), (texts, dim) -> (images, texts) float64."""
        ...

    def exact_pairs(self, images: np.ndarray, texts: np.ndarray) -> np.ndarray:
        """(pairs, dim), (pairs, dim) float64 -> (pairs,) float64."""
        ...

    def error_bound(self, images: np.ndarray, texts: np.ndarray) -> float:
        """An upper bound of the error of ``score_matrix``."""
        ...

    def query(self, vectors: Sequence[np.ndarray], weights: Sequence[float], is_text: Sequence[bool]) -> QueryScorer:
        """A scorer for the terms: ``vectors`` (terms, dim), their weights, and which of them are sentences."""
        ...


@cache
def array_similarity(name: str) -> ArraySimilarity:
    """The similarity called ``name``. Raises UnknownName, and TypeError for a similarity with settings or weights."""
    module = catalog.load("similarity", name)
    if hasattr(module, "arrays"):
        arrays: ArraySimilarity = module.arrays()
        return arrays
    return GenericArrays(_torch_scores(name))


class GenericArrays:
    """An ``ArraySimilarity`` from one float64 function: ``exact`` (images, dim), (texts, dim) -> (images, texts).

    ``exact`` is called in blocks. Float32 scores are rounded float64 scores. In a search, query images are scored like
    sentences, and all images of the index are scored.
    """

    inner_product = False

    def __init__(self, exact: ExactMatrix, additive: bool = False) -> None:
        self._exact, self.additive = exact, additive

    def score_matrix(self, images: np.ndarray, texts: np.ndarray) -> np.ndarray:
        """See ``ArraySimilarity``."""
        return self.exact_matrix(images, texts).astype(np.float32)

    def exact_matrix(self, images: np.ndarray, texts: np.ndarray) -> np.ndarray:
        """See ``ArraySimilarity``."""
        images, texts = np.asarray(images, np.float64), np.asarray(texts, np.float64)
        dim = max(1, images.shape[1])
        columns = max(1, min(len(texts), BLOCK_ELEMENTS // dim))
        rows = max(1, BLOCK_ELEMENTS // (columns * dim))
        scores = np.empty((len(images), len(texts)))
        for top in range(0, len(images), rows):
            for left in range(0, len(texts), columns):
                block = slice(top, top + rows), slice(left, left + columns)
                scores[block] = self._exact(images[block[0]], texts[block[1]])
        return scores

    def exact_pairs(self, images: np.ndarray, texts: np.ndarray) -> np.ndarray:
        """See ``ArraySimilarity``."""
        parts = [
            np.diagonal(self.exact_matrix(images[n : n + PAIRS_PER_BLOCK], texts[n : n + PAIRS_PER_BLOCK]))
            for n in range(0, len(images), PAIRS_PER_BLOCK)
        ]
        return np.concatenate(parts) if parts else np.zeros(0)

    def error_bound(self, images: np.ndarray, texts: np.ndarray) -> float:
        """The error of rounding to float32, from the largest score of a sample.

        Rounding keeps the order of scores, so ranks do not depend on this estimate; it decides which scores are ties.
        """
        samples = [part[:: max(1, len(part) // SAMPLE_SIZE)] for part in (images, texts)]
        largest = float(np.abs(self.exact_matrix(*samples)).max())
        return float(2 * np.sqrt(images.shape[1]) * FLOAT32 * largest)

    def query(self, vectors: Sequence[np.ndarray], weights: Sequence[float], is_text: Sequence[bool]) -> QueryScorer:
        """See ``ArraySimilarity``."""
        total = sum(abs(weight) for weight in weights)
        return WeightedScores(self.exact_matrix, np.asarray(vectors, np.float64), np.asarray(weights) / total)


class WeightedScores:
    """The weighted sum of the scores of ``terms`` (terms, dim), computed in float64 for every image."""

    def __init__(self, exact_matrix: ExactMatrix, terms: np.ndarray, weights: np.ndarray) -> None:
        self._exact_matrix, self._terms, self._weights = exact_matrix, terms, weights
        self.linear = np.zeros(terms.shape[1])

    @property
    def num_comparisons(self) -> int:
        """The number of terms."""
        return len(self._terms)

    def coarse(self, vectors: np.ndarray) -> np.ndarray:
        """See ``QueryScorer``."""
        return self._scores(vectors).astype(np.float32)

    def fine(self, vectors: np.ndarray) -> np.ndarray:
        """See ``QueryScorer``."""
        unique_vectors, inverse = np.unique(vectors, axis=0, return_inverse=True)
        return self._scores(unique_vectors)[inverse.reshape(-1)]

    def slack(self, score: float) -> float:
        """See ``QueryScorer``."""
        return 4 * FLOAT32 * abs(score)

    def direction(self) -> np.ndarray | None:
        """See ``QueryScorer``."""
        return None

    def _scores(self, vectors: np.ndarray) -> np.ndarray:
        return np.asarray((self._exact_matrix(vectors, self._terms) * self._weights).sum(axis=1))


def _torch_scores(name: str) -> ExactMatrix:
    """The torch similarity as a function of arrays."""
    similarity: Any = catalog.build("similarity", name, {})
    if any(True for _ in getattr(similarity, "parameters", tuple)()):
        raise TypeError(
            f"the similarity {name!r} has weights, but model files do not store them: move them to the matcher"
        )

    def exact(images: np.ndarray, texts: np.ndarray) -> np.ndarray:
        import torch

        with torch.inference_mode():
            scores = similarity(torch.from_numpy(images.copy()), torch.from_numpy(texts.copy()))
        return np.asarray(scores.double().numpy())

    return exact
