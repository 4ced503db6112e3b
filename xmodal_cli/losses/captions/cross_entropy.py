"""Cross-entropy of the next word, with label smoothing and the doubly stochastic term of Show, Attend and Tell.

The second (Xu et al., arXiv 1502.03044, section 4.2.1): the attention on a cell, summed over a caption, should be
one, so that the caption attends to the whole image; ``doubly_stochastic`` times the mean of the squared differences.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional

from xmodal_cli.types import CaptionerOutput


def build(
    label_smoothing: float = 0.0, doubly_stochastic: float = 0.0
) -> Callable[[CaptionerOutput, Tensor, Tensor], Tensor]:
    """A ``types.CaptionLoss``: the mean over words. Raises ValueError for a smoothing outside of 0 to 1."""
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"label_smoothing is from 0 to below 1, not {label_smoothing}")

    def loss(output: CaptionerOutput, targets: Tensor, mask: Tensor) -> Tensor:
        logits = output.logits[mask].float()
        total = functional.cross_entropy(logits, targets[mask], label_smoothing=label_smoothing)
        if doubly_stochastic and output.attention is not None:
            attended = (output.attention.float() * mask[..., None]).sum(1)
            total = total + doubly_stochastic * (1 - attended).square().mean()
        return total

    return loss
