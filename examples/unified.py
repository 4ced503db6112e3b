"""A custom loss: save this file as ``xmodal_cli/losses/unified.py`` and train with ``--set loss.name=unified``.

The unified loss of pair similarity (arXiv 2209.13869): a triplet loss with a soft maximum over the negatives. A large
``scale`` approaches the loss of VSE++; a margin of 0 gives InfoNCE.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import softplus


class Unified:
    """(images, captions) scores and positives -> scalar, the mean over pairs of both directions' sum."""

    def __init__(self, margin: float, scale: float) -> None:
        self.margin, self.scale = margin, scale

    def __call__(self, scores: Tensor, positives: Tensor) -> Tensor:
        """For each pair p, ``log(1 + sum over its negatives n of exp(scale * (margin - s_p + s_n))) / scale``."""
        image, caption = positives.nonzero(as_tuple=True)  # the positive pairs
        negatives = (self.scale * scores).masked_fill(positives, torch.finfo(scores.dtype).min)
        needed = self.margin - scores[image, caption]
        of_images = softplus(needed + negatives.logsumexp(1)[image] / self.scale, beta=self.scale)
        of_captions = softplus(needed + negatives.logsumexp(0)[caption] / self.scale, beta=self.scale)
        return (of_images + of_captions).mean()


def build(margin: float = 0.2, scale: float = 50.0) -> Unified:
    """Raises ValueError where ``margin`` is negative or ``scale`` not positive."""
    if margin < 0 or scale <= 0:
        raise ValueError(f"margin must be at least 0 and scale above 0, not {margin} and {scale}")
    return Unified(margin, scale)
