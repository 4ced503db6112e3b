"""Count higher-scoring negatives in a block of scores, compiled by numba: one pass for both directions."""

from __future__ import annotations

import numpy as np
from numba import prange

from xmodal_cli.numba_kernel import compiled

STRIPE = 256  # captions per task
GROUP = 8  # images per row of ``close``


def allocate_counts(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Work arrays of ``count_higher_scoring_negatives``: (stripes, images) int64, (groups of images, captions) bool."""
    num_images, num_captions = scores.shape
    striped = np.zeros((num_captions // STRIPE + 1, num_images), np.int64)
    return striped, np.zeros((num_images // GROUP + 1, num_captions), np.bool_)


@compiled(parallel=True)
def count_higher_scoring_negatives(
    scores: np.ndarray,
    image_of_caption: np.ndarray,
    first_image: int,
    of_image: tuple[np.ndarray, np.ndarray],
    of_caption: tuple[np.ndarray, np.ndarray],
    counts: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    """Count the negatives in a block (images, captions) that certainly score above the positive.

    ``of_image`` and ``of_caption`` are the (low, high) ends of the window around the best positive score of each image
    of the block, (images,), and of each caption, (captions,). All are float32, for SIMD comparisons. ``counts`` are
    updated in place: ``above_image`` (stripes, images) and ``above_caption`` (captions,) are incremented, and ``close``
    (groups of images, captions) is set where a score lies within a window and is not counted here.
    """
    (image_low, image_high), (caption_low, caption_high) = of_image, of_caption
    above_image, above_caption, close = counts
    num_images, num_captions = scores.shape
    for stripe in prange((num_captions + STRIPE - 1) // STRIPE):
        first, last = stripe * STRIPE, min(num_captions, stripe * STRIPE + STRIPE)
        for i in range(num_images):
            low, high = image_low[i], image_high[i]
            count, undecided = 0, 0
            for j in range(first, last):
                score = scores[i, j]
                negative = image_of_caption[j] != first_image + i
                count += negative and score > high
                above_caption[j] += negative and score > caption_high[j]
                undecided += negative and low <= score <= high
                undecided += negative and caption_low[j] <= score <= caption_high[j]
            above_image[stripe, i] += count
            if undecided:  # rare, so these writes are kept out of the loop above
                for j in range(first, last):
                    near = low <= scores[i, j] <= high
                    near |= caption_low[j] <= scores[i, j] <= caption_high[j]
                    close[i // GROUP, j] |= near and image_of_caption[j] != first_image + i
