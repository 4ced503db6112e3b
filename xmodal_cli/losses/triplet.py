"""Triplet ranking loss with in-batch negatives, both directions.

For every positive pair (i, c): ``max(0, margin - s(i, c) + s(i, c'))`` over captions c' of other images, and the
same over other images i' for caption c. All negatives summed: Kiros et al. (arXiv 1411.2539) and Vendrov et al.
(arXiv 1511.06361); the hardest one only: VSE++ (arXiv 1707.05612); ``ncon`` sampled at random: Kiros' code; one
semi-hard negative: FaceNet (arXiv 1503.03832).
"""

from __future__ import annotations

import torch
from torch import Tensor


class Triplet:
    """(images, captions) scores and positives -> scalar, summed over pairs and both directions."""

    def __init__(self, margin: float, hardest_negative: bool, ncon: int, semi_hard: bool) -> None:
        self.margin, self.hardest_negative, self.ncon, self.semi_hard = margin, hardest_negative, ncon, semi_hard

    def __call__(self, scores: Tensor, positives: Tensor) -> Tensor:
        return self.of_anchors(scores, positives) + self.of_anchors(scores.T, positives.T)

    def of_anchors(self, scores: Tensor, positives: Tensor) -> Tensor:
        """See ``types.AnchorLoss``."""
        anchor, candidate = positives.nonzero(as_tuple=True)  # the positive pairs
        return self._reduce(scores[anchor, candidate][:, None], scores[anchor], ~positives[anchor])

    def num_terms(self, num_captions: int) -> int:
        """The loss is a sum."""
        return 1

    def _reduce(self, of_pair: Tensor, scores: Tensor, negative: Tensor) -> Tensor:
        """(pairs, 1) scores of the pairs, (pairs, candidates) scores, and which are negatives -> scalar."""
        costs = (self.margin - of_pair + scores).clamp(min=0) * negative
        if self.hardest_negative:
            return costs.amax(1).sum()
        if self.semi_hard:
            return costs.gather(1, _semi_hard(of_pair, scores, negative)).sum()
        if self.ncon:
            return costs.gather(1, _sample(negative, self.ncon)).sum()
        return costs.sum()


def _semi_hard(of_pair: Tensor, scores: Tensor, negative: Tensor) -> Tensor:
    """(pairs, 1): index of the highest-scoring negative below the pair, else of the lowest-scoring negative.

    Its cost is 0 beyond the margin. If no negative scores below the pair, FaceNet does not define the choice; the
    lowest-scoring one is the choice of TensorFlow's ``triplet_semihard_loss``.
    """
    below = negative & (scores < of_pair)
    best_below = scores.masked_fill(~below, float("-inf")).argmax(1, keepdim=True)
    worst = scores.masked_fill(~negative, float("inf")).argmin(1, keepdim=True)
    return torch.where(below.any(1, keepdim=True), best_below, worst)


def _sample(negative: Tensor, count: int) -> Tensor:
    """(pairs, count): indices of negatives, sampled with replacement; the costs are zero for a pair without any."""
    weights = negative.float() + 1e-12 * (~negative.any(1, keepdim=True))
    return torch.multinomial(weights, count, replacement=True)


def build(margin: float = 0.2, hardest_negative: bool = False, ncon: int = 0, semi_hard: bool = False) -> Triplet:
    """All negatives by default. ``hardest_negative`` selects one negative per pair and direction, ``semi_hard`` the
    highest-scoring one below the pair, ``ncon`` the given number of random ones.

    Raises ValueError for a margin that is not positive, a negative ``ncon``, or more than one selection.
    """
    if margin <= 0:
        raise ValueError(f"margin must be above 0, not {margin}")
    if ncon < 0:
        raise ValueError(f"ncon must be at least 0, not {ncon}")
    options = {"hardest_negative": hardest_negative, "ncon": ncon > 0, "semi_hard": semi_hard}
    selected = [name for name, is_selected in options.items() if is_selected]
    if len(selected) > 1:
        raise ValueError(f"{' and '.join(selected)} exclude each other")
    return Triplet(margin, hardest_negative, ncon, semi_hard)
