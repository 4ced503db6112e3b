"""Triplet ranking loss with in-batch negatives, both directions.

For every positive pair (i, c): ``max(0, margin - s(i, c) + s(i, c'))`` over captions c' of other images, and the
same over other images i' for caption c. All negatives summed: Kiros et al. (arXiv 1411.2539) and Vendrov et al.
(arXiv 1511.06361); the hardest one only: VSE++ (arXiv 1707.05612); ``ncon`` drawn at random: Kiros' code.
"""

from __future__ import annotations

import torch
from torch import Tensor


class Triplet:
    """(images, captions) scores and positives -> scalar, summed over pairs and both directions."""

    def __init__(self, margin: float, hardest_negative: bool, ncon: int) -> None:
        self.margin, self.hardest_negative, self.ncon = margin, hardest_negative, ncon

    def __call__(self, scores: Tensor, positives: Tensor) -> Tensor:
        image, caption = positives.nonzero(as_tuple=True)  # the positive pairs
        of_pair = scores[image, caption][:, None]
        captions = self._reduce(self.margin - of_pair + scores[image], ~positives[image])
        images = self._reduce(self.margin - of_pair + scores.T[caption], ~positives.T[caption])
        return captions + images

    def _reduce(self, costs: Tensor, negative: Tensor) -> Tensor:
        """(pairs, rivals) costs, and which rivals are negatives -> scalar."""
        costs = costs.clamp(min=0) * negative
        if self.hardest_negative:
            return costs.amax(1).sum()
        if self.ncon:
            return costs.gather(1, _draw(negative, self.ncon)).sum()
        return costs.sum()


def _draw(negative: Tensor, count: int) -> Tensor:
    """(pairs, count): positions of negatives drawn with replacement; a pair without any draws zero costs."""
    weights = negative.float() + 1e-12 * (~negative.any(1, keepdim=True))
    return torch.multinomial(weights, count, replacement=True)


def build(margin: float = 0.2, hardest_negative: bool = False, ncon: int = 0) -> Triplet:
    """``ncon``: number of sampled negatives per pair and direction, 0 for all of them.

    Raises ValueError for a margin that is not positive, a negative ``ncon``, or both kinds of selection at once.
    """
    if margin <= 0:
        raise ValueError(f"margin must be above 0, not {margin}")
    if ncon < 0:
        raise ValueError(f"ncon must be at least 0, not {ncon}")
    if hardest_negative and ncon:
        raise ValueError("hardest_negative and ncon exclude each other")
    return Triplet(margin, hardest_negative, ncon)
