"""Spherical k-means (Dhillon, Modha, Machine Learning 2001, doi 10.1023/A:1007612920971)."""

from __future__ import annotations

import numpy as np

from xmodal_cli.unit_vectors import unit_vectors

ITERATIONS = 10


def spherical_kmeans(vectors: np.ndarray, num: int) -> np.ndarray:
    """(rows, dim) float32 -> (num, dim) float32 centroids of unit length; ``num`` is at most the number of rows.

    A vector belongs to the centroid with the largest inner product. It starts from random vectors.
    """
    start = np.random.default_rng(0).choice(len(vectors), num, replace=False)
    centroids = unit_vectors(vectors[start])
    for _ in range(ITERATIONS):
        scores = vectors @ centroids.T
        nearest = scores.argmax(axis=1)
        centroids = unit_vectors(_sums(vectors, nearest, scores.max(axis=1), num))
    return centroids


def _sums(vectors: np.ndarray, nearest: np.ndarray, scores: np.ndarray, num: int) -> np.ndarray:
    """(num, dim) the sums of the vectors of each centroid.

    A centroid without vectors is replaced by one of the vectors with the lowest score (as in scikit-learn).
    """
    is_member = nearest == np.arange(num)[:, None]
    sums: np.ndarray = is_member.astype(np.float32) @ vectors  # faster than a sum of selected rows
    empty = np.flatnonzero(~is_member.any(axis=1))
    sums[empty] = vectors[np.argsort(scores, kind="stable")[: len(empty)]]
    return sums
