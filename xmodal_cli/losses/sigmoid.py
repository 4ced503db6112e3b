"""The pairwise sigmoid loss of SigLIP (arXiv 2303.15343): each pair of a batch is a binary classification.

With z = 1 for positive pairs, z = -1 for negative pairs and n the number of captions (of pairs, in the paper)::

    loss = -1/n  sum over images i, captions c of  log sigmoid(z(i,c) (t s(i,c) + b))

The scale ``t = exp(log_scale)`` and the bias ``b`` are learned; the bias starts low because nearly all pairs are
negatives. Pairs are independent, so two captions of one image are both positives.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid


class Sigmoid(nn.Module):
    """(images, captions) scores and positives -> scalar; the parameters are ``log_scale`` and ``bias``."""

    def __init__(self, scale: float, bias: float) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(math.log(scale)))
        self.bias = nn.Parameter(torch.tensor(float(bias)))

    def forward(self, scores: Tensor, positives: Tensor) -> Tensor:
        return self.of_anchors(scores, positives) / positives.shape[1]

    def of_anchors(self, scores: Tensor, positives: Tensor) -> Tensor:
        """See ``types.AnchorLoss``."""
        logits = self.log_scale.exp() * scores + self.bias
        return -logsigmoid(torch.where(positives, logits, -logits)).sum()

    def num_terms(self, num_captions: int) -> int:
        """Each pair is one of both directions."""
        return 2 * num_captions


def build(scale: float = 10.0, bias: float = -10.0) -> Sigmoid:
    """``scale`` and ``bias`` are initial values, by default those of the paper. Raises ValueError if ``scale`` <= 0."""
    if scale <= 0:
        raise ValueError(f"scale must be above 0, not {scale}")
    return Sigmoid(scale, bias)
