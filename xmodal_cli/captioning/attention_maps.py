"""Attention maps of generated captions as square arrays."""

from __future__ import annotations

import math

import numpy as np

MAPPED_VIEWS = (1, 2)  # the image; the image and its mirror image


def is_square(num_cells: int, views: int) -> bool:
    """Whether ``num_cells`` cells form ``views`` square grids."""
    return num_cells == views * math.isqrt(num_cells // views) ** 2


def square_maps(attention: np.ndarray, views: int = 1) -> np.ndarray:
    """(tokens, views * cells) weights -> (tokens, side, side) float32 over the image, each scaled to a maximum of 1.

    The second view is the mirror image: its map is flipped back and added.
    """
    side = math.isqrt(attention.shape[1] // views)
    maps = attention.reshape(len(attention), views, side, side).copy()
    maps[:, 1:] = maps[:, 1:, :, ::-1]
    summed = maps.sum(1)
    scaled: np.ndarray = summed / np.maximum(summed.max(axis=(1, 2), keepdims=True), 1e-12)
    return scaled
