"""The asymmetric loss of multi-label classification (Ridnik et al., arXiv 2009.14119, equations 4 to 7).

A focal binary cross-entropy with separate focusing of positives and negatives; the probability of a negative is lowered
by a margin, so that very easy negatives have no gradient. It is summed over the tags and averaged over the images.
"""

from __future__ import annotations

from torch import Tensor

from xmodal_cli.settings import RATE, Bounds, check_argument
from xmodal_cli.types import TagLoss

SMALLEST = 1e-8  # probability below which its logarithm is not smaller


def build(gamma_positive: float = 0.0, gamma_negative: float = 4.0, margin: float = 0.05) -> TagLoss:
    """``gamma_positive`` and ``gamma_negative``: exponents of the focusing; ``margin``: shift of the probability."""
    for name, value in (("gamma_positive", gamma_positive), ("gamma_negative", gamma_negative)):
        check_argument(name, value, Bounds(min=0))
    check_argument("margin", margin, RATE)

    def loss(logits: Tensor, targets: Tensor) -> Tensor:
        present = logits.sigmoid()
        absent = (1 - present + margin).clamp(max=1)
        positive = targets * (1 - present) ** gamma_positive * present.clamp(min=SMALLEST).log()
        negative = (1 - targets) * (1 - absent) ** gamma_negative * absent.clamp(min=SMALLEST).log()
        return -(positive + negative).sum(1).mean()

    return loss
