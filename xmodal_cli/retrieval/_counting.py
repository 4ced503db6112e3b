"""Counting rivals in a block of scores, compiled by numba: one pass over the block serves both directions."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import numpy as np
from numba import njit, prange

STRIPE = 256  # captions per task


def _compiled(function: Callable[..., int]) -> Callable[..., int]:
    return cast(Callable[..., int], njit(parallel=True, cache=True)(function))


@_compiled
def count_rivals(
    scores: np.ndarray,
    owner: np.ndarray,
    first_image: int,
    bars: tuple[np.ndarray, np.ndarray],
    band: float,
    above_image: np.ndarray,
    above_caption: np.ndarray,
) -> int:
    """Count, in a block (images, captions), the scores of wrong pairs that are surely above the right one's.

    ``bars`` holds the best right score of each image of the block, (images,), and of each caption, (captions,).
    Adds to ``above_image`` (stripes, images) and ``above_caption`` (captions,). Returns how many scores lie within
    ``band`` of a bar and so are not decided here.
    """
    of_image, of_caption = bars
    num_images, num_captions = scores.shape
    undecided = 0
    for stripe in prange((num_captions + STRIPE - 1) // STRIPE):
        close = 0
        for i in range(num_images):
            low, high = of_image[i] - band, of_image[i] + band
            count = 0
            for j in range(stripe * STRIPE, min(num_captions, stripe * STRIPE + STRIPE)):
                score = scores[i, j]
                wrong = owner[j] != first_image + i
                count += wrong and score > high
                above_caption[j] += wrong and score > of_caption[j] + band
                close += wrong and low <= score <= high
                close += wrong and of_caption[j] - band <= score <= of_caption[j] + band
            above_image[stripe, i] += count
        undecided += close
    return undecided
