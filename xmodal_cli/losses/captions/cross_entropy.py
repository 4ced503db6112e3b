"""Cross-entropy of the next token, with label smoothing and doubly stochastic attention regularization.

The latter (Xu et al., arXiv 1502.03044, section 4.2.1) makes a caption attend to the whole image: the attention weight
of a cell, summed over the caption, should be 1. It adds ``doubly_stochastic`` times the mean squared difference.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional

from xmodal_cli.types import CaptionerOutput


def build(
    label_smoothing: float = 0.0, doubly_stochastic: float = 0.0
) -> Callable[[CaptionerOutput, Tensor, Tensor], Tensor]:
    """A ``types.CaptionLoss``: the mean over tokens. Raises ValueError for a ``label_smoothing`` outside [0, 1)."""
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"label_smoothing must be at least 0 and below 1, not {label_smoothing}")

    def loss(output: CaptionerOutput, targets: Tensor, mask: Tensor) -> Tensor:
        logits = output.logits[mask].float()
        total = functional.cross_entropy(logits, targets[mask], label_smoothing=label_smoothing)
        if doubly_stochastic and output.attention is not None:
            attended = (output.attention.float() * mask[..., None]).sum(1)
            total = total + doubly_stochastic * (1 - attended).square().mean()
        return total

    return loss
