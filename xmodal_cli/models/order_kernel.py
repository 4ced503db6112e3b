"""The order-violation penalty on numpy arrays, compiled by numba for the CPU. Tens of times faster than array
operations, because the (images, texts, dim) difference is not stored.

For image vectors ``v`` and text vectors ``t``, both non-negative, ``score = -sum(max(0, t - v)^2)``: a caption is more
general than its image, so the coordinates of the image should be larger (arXiv 1511.06361).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numba import prange

from xmodal_cli.numba_kernel import compiled

ZERO = np.float32(0.0)
Kernel = Callable[..., None]
BLOCK = 32  # texts that stay in the cache of a thread while it loops over all images


def order_scores(images: np.ndarray, texts: np.ndarray) -> np.ndarray:
    """(images, dim), (texts, dim) float32 -> (images, texts) float32, all at most 0."""
    scores = np.empty((len(images), len(texts)), dtype=np.float32)
    _forward(np.ascontiguousarray(images, np.float32), np.ascontiguousarray(texts, np.float32), scores)
    return scores


def exact_order_scores(images: np.ndarray, texts: np.ndarray) -> np.ndarray:
    """The same in float64, on one thread, for small inputs."""
    scores = np.empty((len(images), len(texts)), dtype=np.float64)
    _exact_forward(np.ascontiguousarray(images, np.float64), np.ascontiguousarray(texts, np.float64), scores)
    return scores


def order_gradients(images: np.ndarray, texts: np.ndarray, upstream: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The gradients (images, dim) and (texts, dim) of ``sum(upstream * order_scores(images, texts))``."""
    image_gradient, text_gradient = np.zeros_like(images), np.zeros_like(texts)
    _backward_images(images, texts, upstream, image_gradient)
    _backward_texts(images, texts, upstream, text_gradient)
    return image_gradient, text_gradient


def _forward_loops(images: np.ndarray, texts: np.ndarray, scores: np.ndarray) -> None:
    num_texts, dim = texts.shape
    for block in prange((num_texts + BLOCK - 1) // BLOCK):
        first, last = block * BLOCK, min(num_texts, block * BLOCK + BLOCK)
        unrolled_end = first + (last - first) // 4 * 4
        for i in range(images.shape[0]):
            for j in range(first, unrolled_end, 4):  # four sums at once reuse each load of the image
                sum_a, sum_b, sum_c, sum_d = ZERO, ZERO, ZERO, ZERO
                for k in range(dim):
                    value = images[i, k]
                    a = max(texts[j, k] - value, ZERO)
                    b = max(texts[j + 1, k] - value, ZERO)
                    c = max(texts[j + 2, k] - value, ZERO)
                    d = max(texts[j + 3, k] - value, ZERO)
                    sum_a += a * a
                    sum_b += b * b
                    sum_c += c * c
                    sum_d += d * d
                scores[i, j], scores[i, j + 1] = -sum_a, -sum_b
                scores[i, j + 2], scores[i, j + 3] = -sum_c, -sum_d
            for j in range(unrolled_end, last):
                total = ZERO
                for k in range(dim):
                    a = max(texts[j, k] - images[i, k], ZERO)
                    total += a * a
                scores[i, j] = -total


_forward = compiled(parallel=True, fastmath=True)(_forward_loops)
_exact_forward = compiled(fastmath=True)(_forward_loops)


@compiled(parallel=True, fastmath=True)
def _backward_images(images: np.ndarray, texts: np.ndarray, upstream: np.ndarray, gradient: np.ndarray) -> None:
    for i in prange(images.shape[0]):
        for j in range(texts.shape[0]):
            weight = 2 * upstream[i, j]
            if weight != ZERO:  # most pairs are outside the margin and have no gradient
                for k in range(images.shape[1]):
                    gradient[i, k] += weight * max(texts[j, k] - images[i, k], ZERO)


@compiled(parallel=True, fastmath=True)
def _backward_texts(images: np.ndarray, texts: np.ndarray, upstream: np.ndarray, gradient: np.ndarray) -> None:
    for j in prange(texts.shape[0]):
        for i in range(images.shape[0]):
            weight = 2 * upstream[i, j]
            if weight != ZERO:
                for k in range(images.shape[1]):
                    gradient[j, k] -= weight * max(texts[j, k] - images[i, k], ZERO)
