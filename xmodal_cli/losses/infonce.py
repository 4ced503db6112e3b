"""InfoNCE in both directions, as in CLIP (arXiv 2103.00020), for images with any number of captions.

With the scale ``t`` (1 / temperature), the positive pairs P and the captions N(i) of images other than i::

    cost(i, c) = -log( e^(t s(i,c)) / (e^(t s(i,c)) + sum over c' in N(i) of e^(t s(i,c'))) )

and likewise for the caption against other images; the loss is the mean over P and both directions. The sum over
positives is outside of the logarithm, as in supervised contrastive learning (L_out of SupCon, arXiv 2004.11362). Unlike
there, the *other* positives are left out of the denominator, where captions of one image would be negatives of each
other. The sum inside of the logarithm (MIL-NCE, arXiv 1912.06430) avoids that too, but is small if only one caption of
an image matches. With one caption per image, all three are equal to the loss of CLIP.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from xmodal_cli.settings import RATE, Bounds, check_argument


class InfoNCE(nn.Module):
    """(images, captions) scores and positives -> scalar, the mean over pairs and both directions.

    ``log_scale`` is a parameter when the scale is learned, and None when it is fixed.
    """

    def __init__(self, temperature: float, learnable: bool, max_scale: float, label_smoothing: float) -> None:
        super().__init__()
        self.scale, self.max_scale, self.label_smoothing = 1 / temperature, max_scale, label_smoothing
        self.log_scale = nn.Parameter(torch.tensor(-math.log(temperature))) if learnable else None

    def forward(self, scores: Tensor, positives: Tensor) -> Tensor:
        of_both = self.of_anchors(scores, positives) + self.of_anchors(scores.T, positives.T)
        return of_both / self.num_terms(positives.shape[1])

    def of_anchors(self, scores: Tensor, positives: Tensor) -> Tensor:
        """See ``types.AnchorLoss``."""
        logits = self._scale() * scores
        anchor, candidate = positives.nonzero(as_tuple=True)  # the positive pairs
        return self._costs(logits[anchor, candidate], logits, positives, anchor).sum()

    def num_terms(self, num_captions: int) -> int:
        """The pairs, each caption having one image, in two directions."""
        return 2 * num_captions

    def _scale(self) -> Tensor | float:
        if self.log_scale is None:
            return self.scale
        with torch.no_grad():  # clamps the weight as CLIP does: a clamp in the graph has no gradient above the maximum
            self.log_scale.clamp_(max=math.log(self.max_scale))
        return self.log_scale.exp()

    def _costs(self, of_pair: Tensor, logits: Tensor, positives: Tensor, anchor: Tensor) -> Tensor:
        """(pairs,) logits of the pairs, (anchors, candidates) logits and positives, each pair's anchor -> (pairs,)."""
        negatives = logits.masked_fill(positives, torch.finfo(logits.dtype).min)
        cost = -logsigmoid(of_pair - negatives.logsumexp(1)[anchor])
        if self.label_smoothing:
            others = logits.masked_fill(positives, 0).sum(1)[anchor]
            mean = (of_pair + others) / (1 + (~positives).sum(1)[anchor])
            cost = cost + self.label_smoothing * (of_pair - mean)
        return cost


def build(
    temperature: float = 0.05, learnable: bool = False, max_scale: float = 100.0, label_smoothing: float = 0.0
) -> InfoNCE:
    """``learnable`` trains the scale starting from 1 / ``temperature`` and at most ``max_scale``;
    ``label_smoothing`` is the fraction of the target that is distributed evenly over a pair and its negatives.

    Raises ValueError for a temperature or maximum that is not positive, a smoothing outside [0, 1), or a learnable
    scale that would start above its maximum.
    """
    check_argument("temperature", temperature, Bounds(above=0))
    check_argument("max_scale", max_scale, Bounds(above=0))
    check_argument("label_smoothing", label_smoothing, RATE)
    if learnable and 1 / temperature > max_scale:
        raise ValueError(f"temperature {temperature} is a scale of {1 / temperature:g}, above max_scale {max_scale}")
    return InfoNCE(temperature, learnable, max_scale, label_smoothing)
