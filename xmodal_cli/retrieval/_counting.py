"""Count higher-scoring negatives in a block of scores, compiled by numba: one pass for both directions."""

from __future__ import annotations

import numpy as np
from numba import int32, prange

from xmodal_cli.numba_kernel import compiled

STRIPE = 512  # captions per task
GROUP = 8  # images per row of ``close``


def allocate_counts(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Work arrays of ``count_higher_scoring_negatives``: (stripes, images) int64, (groups of images, captions) bool."""
    num_images, num_captions = scores.shape
    striped = np.zeros((num_captions // STRIPE + 1, num_images), np.int64)
    return striped, np.zeros((num_images // GROUP + 1, num_captions), np.bool_)


@compiled()
def _count_row(
    scores: np.ndarray,
    image_of_caption: np.ndarray,
    image: int,
    of_image: tuple[float, float],
    of_caption: tuple[np.ndarray, np.ndarray],
    above_caption: np.ndarray,
) -> tuple[int, int]:
    """One image: its negatives above the window, and whether one lies within a window. Increments ``above_caption``.

    All values have 32 bits and no condition is a branch, so that the loop compiles to SIMD instructions.
    """
    (low, high), (caption_low, caption_high) = of_image, of_caption
    count, undecided = int32(0), int32(0)
    for j in range(scores.shape[0]):
        score = scores[j]
        negative = int32(image_of_caption[j] != image)
        count = int32(count + (negative & int32(score > high)))
        above_caption[j] += negative & int32(score > caption_high[j])
        near_image = int32(low <= score) & int32(score <= high)
        near_caption = int32(caption_low[j] <= score) & int32(score <= caption_high[j])
        undecided = int32(undecided | (negative & (near_image | near_caption)))
    return count, undecided


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

    ``image_of_caption`` (captions,) is int32. ``of_image`` and ``of_caption`` are the (low, high) ends of the window
    around the best positive score of each image of the block, (images,), and of each caption, (captions,), float32.
    ``counts`` are updated in place: ``above_image`` (stripes, images) and ``above_caption`` (captions,) are
    incremented, and ``close`` (groups of images, captions) is set where a score lies within a window and is not counted
    here.
    """
    (image_low, image_high), (caption_low, caption_high) = of_image, of_caption
    above_image, above_caption, close = counts
    num_images, num_captions = scores.shape
    for stripe in prange((num_captions + STRIPE - 1) // STRIPE):
        first, last = stripe * STRIPE, min(num_captions, stripe * STRIPE + STRIPE)
        images_of, low_of, high_of = image_of_caption[first:last], caption_low[first:last], caption_high[first:last]
        above = np.zeros(last - first, np.int32)
        for i in range(num_images):
            low, high, image = image_low[i], image_high[i], int32(first_image + i)
            row = scores[i, first:last]
            count, undecided = _count_row(row, images_of, image, (low, high), (low_of, high_of), above)
            above_image[stripe, i] += count
            if undecided:  # rare, so these writes are kept out of the loop above
                for j in range(first, last):
                    near = low <= scores[i, j] <= high
                    near |= caption_low[j] <= scores[i, j] <= caption_high[j]
                    close[i // GROUP, j] |= near and image_of_caption[j] != image
        above_caption[first:last] += above
