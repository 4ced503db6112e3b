"""Binary cross-entropy of each tag, summed over the tags and averaged over the images."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from xmodal_cli.settings import Bounds, check_argument
from xmodal_cli.types import TagLoss


def build(positive_weight: float = 1.0) -> TagLoss:
    """``positive_weight`` multiplies the term of the images that have the tag."""
    check_argument("positive_weight", positive_weight, Bounds(above=0))

    def loss(logits: Tensor, targets: Tensor) -> Tensor:
        weight = logits.new_tensor(positive_weight)
        terms = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none", pos_weight=weight)
        return terms.sum(1).mean()

    return loss
