"""Batches for the tests of losses: images with different numbers of captions, and a loop over their pairs."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

# the image of each caption
BATCHES = {
    "one caption per image": [0, 1, 2, 3, 4, 5, 6],
    "several captions per image": [0, 0, 1, 2, 2, 2, 3],
    "one or three, unsorted": [2, 0, 1, 0, 3, 0, 4, 3, 3],
    "one image": [0, 0, 0],
    "one pair": [0],
}
WITH_NEGATIVES = {name: images for name, images in BATCHES.items() if len(set(images)) > 1}


def batch(image_of_caption: list[int], seed: int = 0, spread: float = 0.3) -> tuple[Tensor, Tensor]:
    """(images, captions) float64 scores with ``requires_grad``, and (images, captions) bool positives."""
    generator = torch.Generator().manual_seed(seed)
    num_images = max(image_of_caption) + 1
    positives = torch.tensor(image_of_caption)[None, :] == torch.arange(num_images)[:, None]
    noise = spread * torch.randn(num_images, len(image_of_caption), generator=generator, dtype=torch.float64)
    return (noise + 0.2 * positives).requires_grad_(), positives


def terms(scores: Tensor, positives: Tensor) -> Iterator[tuple[float, list[float]]]:
    """For every positive pair, in both directions: its score, and the scores of the negatives of its anchor."""
    rows, is_positive = scores.tolist(), positives.tolist()
    num_images, num_captions = positives.shape
    for i in range(num_images):
        for c in range(num_captions):
            if is_positive[i][c]:
                yield rows[i][c], [rows[i][d] for d in range(num_captions) if not is_positive[i][d]]
                yield rows[i][c], [rows[j][c] for j in range(num_images) if not is_positive[j][c]]
