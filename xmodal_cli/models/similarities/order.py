"""Order similarity: the negative order-violation penalty between non-negative unit vectors.

Vendrov, Kiros, Fidler, Urtasun: Order-Embeddings of Images and Language (arXiv 1511.06361), equation 2 with
``score(v, t) = -||max(0, t - v)||^2``; ``prepare`` takes the absolute values of unit-length vectors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from xmodal_cli.models.query_scorer import Scorer, float32_error_bound

if TYPE_CHECKING:
    from torch import Tensor


class Order:
    """Not symmetric: the image is the first argument, the text the second."""

    name = "order"

    def prepare(self, vectors: Tensor) -> Tensor:
        """(items, dim) -> (items, dim), non-negative and of unit length."""
        from torch.nn.functional import normalize

        return normalize(vectors, dim=-1).abs()

    def __call__(self, images: Tensor, texts: Tensor) -> Tensor:
        """(images, dim), (texts, dim) -> (images, texts), 0 where the order holds, negative where it is violated."""
        from xmodal_cli.models.order_gradients import order_similarity

        return order_similarity(images, texts)


class OrderArrays:
    """The negative penalty, compiled by numba: a ``models.array_similarity.ArraySimilarity``."""

    inner_product = False
    additive = True

    def score_matrix(self, images: np.ndarray, texts: np.ndarray) -> np.ndarray:
        """See ``ArraySimilarity``."""
        from xmodal_cli.models.order_kernel import order_scores

        return order_scores(images, texts)

    def exact_matrix(self, images: np.ndarray, texts: np.ndarray) -> np.ndarray:
        """See ``ArraySimilarity``."""
        from xmodal_cli.models.order_kernel import exact_order_scores

        return exact_order_scores(images, texts)

    def exact_pairs(self, images: np.ndarray, texts: np.ndarray) -> np.ndarray:
        """See ``ArraySimilarity``."""
        violation = np.maximum(texts - images, 0.0)
        return np.asarray(-np.einsum("nd,nd->n", violation, violation))

    def error_bound(self, images: np.ndarray, texts: np.ndarray) -> float:
        """See ``ArraySimilarity``."""
        return float32_error_bound(images, texts)

    def query(self, vectors: Sequence[np.ndarray], weights: Sequence[float], is_text: Sequence[bool]) -> Scorer:
        """Sentences are scored by the penalty, query images by cosine, because neither image is more general."""
        return Scorer.of(vectors, weights, is_text)


def build() -> Order:
    """No settings."""
    return Order()


def arrays() -> OrderArrays:
    """The similarity on numpy arrays."""
    return OrderArrays()
