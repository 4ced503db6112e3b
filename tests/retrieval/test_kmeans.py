"""Spherical k-means."""

from __future__ import annotations

import numpy as np
import pytest

from xmodal_cli.retrieval.kmeans import spherical_kmeans
from xmodal_cli.unit_vectors import unit_vectors


def test_distant_groups_have_one_centroid_each() -> None:
    rng = np.random.default_rng(1)
    directions = np.eye(12, 20, dtype=np.float32)
    group = rng.permutation(np.repeat(np.arange(12), 50))
    vectors = unit_vectors(directions[group] + 0.05 * rng.standard_normal((600, 20))).astype(np.float32)
    centroids = spherical_kmeans(vectors, 12)
    means = unit_vectors(np.stack([vectors[group == number].sum(axis=0) for number in range(12)]))
    scores = means @ centroids.T
    assert sorted(scores.argmax(axis=1)) == list(range(12))
    np.testing.assert_allclose(scores.max(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("num", [1, 3, 7])
def test_equal_vectors_and_one_centroid_per_vector(num: int) -> None:
    vectors = unit_vectors(np.random.default_rng(0).standard_normal((7, 5))).astype(np.float32)
    for given in (vectors, np.repeat(vectors[:1], 7, axis=0)):
        centroids = spherical_kmeans(given, num)
        assert (centroids.shape, centroids.dtype) == ((num, 5), np.float32)
        np.testing.assert_allclose(np.linalg.norm(centroids, axis=1), 1, rtol=1e-5)
    assert num < 7 or np.allclose((vectors @ spherical_kmeans(vectors, num).T).max(axis=1), 1, atol=1e-5)
