"""Synthetic vectors with the structure of an image-text model: clustered images, and sentences at an offset."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

BLOCK = 20_000


def image_blocks(count: int, dim: int, seed: int = 0) -> Iterator[np.ndarray]:
    """Yield (rows, dim) float32 unit vectors in clusters, whose spread falls off over the dimensions."""
    rng = np.random.default_rng(seed)
    spread = _spread(dim)
    centers = _centers(dim)
    for start in range(0, count, BLOCK):
        rows = min(BLOCK, count - start)
        vectors = centers[rng.integers(len(centers), size=rows)]
        yield _unit(vectors + 0.7 * spread * rng.standard_normal((rows, dim), dtype=np.float32))


def sentences(count: int, dim: int, seed: int = 1) -> np.ndarray:
    """(count, dim) float32 unit vectors near the same clusters, with a common offset, the modality gap."""
    rng = np.random.default_rng(seed)
    centers = _centers(dim)
    vectors = centers[rng.integers(len(centers), size=count)]
    vectors = vectors + 0.9 * _spread(dim) * rng.standard_normal((count, dim), dtype=np.float32)
    offset = np.random.default_rng(7).standard_normal(dim, dtype=np.float32)
    return _unit(_unit(vectors) + 0.8 * offset / np.linalg.norm(offset))


def _spread(dim: int) -> np.ndarray:
    return (1.0 / np.sqrt(1.0 + np.arange(dim) / 16)).astype(np.float32)


def _centers(dim: int) -> np.ndarray:
    return _spread(dim) * np.random.default_rng(3).standard_normal((4000, dim), dtype=np.float32)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)
