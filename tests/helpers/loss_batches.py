"""Batches for the tests of the losses: images with uneven numbers of captions, and their pairs one by one."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

# the image of each caption
BATCHES = {
    "one caption each": [0, 1, 2, 3, 4, 5, 6],
    "images that come twice": [0, 0, 1, 2, 2, 2, 3],
    "one or three, mixed": [2, 0, 1, 0, 3, 0, 4, 3, 3],
    "one image": [0, 0, 0],
    "one pair": [0],
}
MANY = {name: owner for name, owner in BATCHES.items() if len(set(owner)) > 1}


def batch(owner: list[int], seed: int = 0, spread: float = 0.3) -> tuple[Tensor, Tensor]:
    """Scores in float64 that ask for gradients, and positives, of captions whose images are ``owner``."""
    generator = torch.Generator().manual_seed(seed)
    num_images = max(owner) + 1
    positives = torch.tensor(owner)[None, :] == torch.arange(num_images)[:, None]
    noise = spread * torch.randn(num_images, len(owner), generator=generator, dtype=torch.float64)
    return (noise + 0.2 * positives).requires_grad_(), positives


def terms(scores: Tensor, positives: Tensor) -> Iterator[tuple[float, list[float]]]:
    """For every positive pair and both directions: the pair's score, and those of the anchor's negatives."""
    rows, right = scores.tolist(), positives.tolist()
    num_images, num_captions = positives.shape
    for i in range(num_images):
        for c in range(num_captions):
            if right[i][c]:
                yield rows[i][c], [rows[i][d] for d in range(num_captions) if not right[i][d]]
                yield rows[i][c], [rows[j][c] for j in range(num_images) if not right[j][c]]
