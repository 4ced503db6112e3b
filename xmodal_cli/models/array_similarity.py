"""Similarities over numpy arrays, as ranks, evaluation, the index and search use them.

A similarity module may have ``arrays() -> ArraySimilarity``, which must not import torch. A module without it is
used through its torch ``build()`` in float64: exact, slower, and search then imports torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Protocol

import numpy as np

from xmodal_cli import catalog

BLOCK_NUMBERS = 2**24  # numbers of an (images, texts, dim) difference computed at once
PAIRS = 32  # pairs taken from the diagonal of one matrix
FLOAT32 = float(np.finfo(np.float32).eps)
SAMPLE = 256  # vectors of each side from which the size of scores is estimated
ExactMatrix = Callable[[np.ndarray, np.ndarray], np.ndarray]


class QueryScorer(Protocol):
    """Scores the images of an index for a weighted sum of query terms, ``sum(w * score) / sum(|w|)``.

    ``linear`` (dim,) is the part of the score that is an inner product; ``num_comparisons`` counts the terms that are
    not in it. With 0 of them ``v @ linear`` is the whole score.
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
        """(dim,): images with a large inner product with it are likely to score high; None: all must be scored."""
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
        """A scorer of the terms: ``vectors`` (terms, dim), their weights, and which are sentences, not images."""
        ...


@cache
def array_similarity(name: str) -> ArraySimilarity:
    """The similarity called ``name``. Raises UnknownName, and TypeError for a similarity with settings or weights."""
    module = catalog.load("similarity", name)
    if hasattr(module, "arrays"):
        arrays: ArraySimilarity = module.arrays()
        return arrays
    return GenericArrays(_through_torch(name))


class GenericArrays:
    """Everything from one float64 function: ``exact`` (images, dim), (texts, dim) float64 -> (images, texts) float64.

    Large inputs are given to ``exact`` in blocks. Float32 scores are rounded float64 scores. In a search, images of a
    query are compared as sentences are, and all images of the index are scored.
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
        columns = max(1, min(len(texts), BLOCK_NUMBERS // dim))
        rows = max(1, BLOCK_NUMBERS // (columns * dim))
        scores = np.empty((len(images), len(texts)))
        for top in range(0, len(images), rows):
            for left in range(0, len(texts), columns):
                block = slice(top, top + rows), slice(left, left + columns)
                scores[block] = self._exact(images[block[0]], texts[block[1]])
        return scores

    def exact_pairs(self, images: np.ndarray, texts: np.ndarray) -> np.ndarray:
        """See ``ArraySimilarity``."""
        parts = [
            np.diagonal(self.exact_matrix(images[n : n + PAIRS], texts[n : n + PAIRS]))
            for n in range(0, len(images), PAIRS)
        ]
        return np.concatenate(parts) if parts else np.zeros(0)

    def error_bound(self, images: np.ndarray, texts: np.ndarray) -> float:
        """The error of rounding to float32, from the largest score of a sample.

        Rounding keeps the order of scores, so ranks do not depend on this estimate; it sets which scores are equal.
        """
        some = [part[:: max(1, len(part) // SAMPLE)] for part in (images, texts)]
        largest = float(np.abs(self.exact_matrix(*some)).max())
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
        different, place = np.unique(vectors, axis=0, return_inverse=True)
        return self._scores(different)[place.reshape(-1)]

    def slack(self, score: float) -> float:
        """See ``QueryScorer``."""
        return 4 * FLOAT32 * abs(score)

    def direction(self) -> np.ndarray | None:
        """See ``QueryScorer``."""
        return None

    def _scores(self, vectors: np.ndarray) -> np.ndarray:
        return np.asarray((self._exact_matrix(vectors, self._terms) * self._weights).sum(axis=1))


def _through_torch(name: str) -> ExactMatrix:
    """The torch similarity as a function of arrays."""
    similarity: Any = catalog.build("similarity", name, {})
    if any(True for _ in getattr(similarity, "parameters", tuple)()):
        raise TypeError(f"the similarity {name!r} has weights, and a model file keeps none: give them to the matcher")

    def exact(images: np.ndarray, texts: np.ndarray) -> np.ndarray:
        import torch

        with torch.inference_mode():
            scores = similarity(torch.from_numpy(images.copy()), torch.from_numpy(texts.copy()))
        return np.asarray(scores.double().numpy())

    return exact
