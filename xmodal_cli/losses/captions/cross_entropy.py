"""Cross-entropy of the next token, with label smoothing and doubly stochastic attention regularization.

The latter (Xu et al., arXiv 1502.03044, section 4.2.1) makes a caption attend to the whole image: the attention weight
of a cell, summed over the caption, should be 1. It adds ``doubly_stochastic`` times the mean squared difference, over
cells and captions, to the mean over tokens.

With ``per_caption`` the loss is equation 14 of the paper: log-probabilities are summed over the tokens of a caption,
the squared differences over its cells, and both are averaged over captions. The authors' code sums over tokens too, but
takes the mean over cells and the sum over the captions of a batch.

Tokens and captions are those of the whole batch, where several processes have a part each. A caption without a token
under the mask does not count.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from xmodal_cli.process_sum import sum_over_processes
from xmodal_cli.settings import RATE, Bounds, check_argument
from xmodal_cli.types import CaptionerOutput


def build(
    label_smoothing: float = 0.0, doubly_stochastic: float = 0.0, per_caption: bool = False
) -> Callable[[CaptionerOutput, Tensor, Tensor], Tensor]:
    """A ``types.CaptionLoss``: the mean over tokens, or ``per_caption`` the mean over captions of their sums.

    Raises ValueError for a ``label_smoothing`` outside [0, 1) or a negative ``doubly_stochastic``.
    """
    check_argument("label_smoothing", label_smoothing, RATE)
    check_argument("doubly_stochastic", doubly_stochastic, Bounds(min=0))

    def loss(output: CaptionerOutput, targets: Tensor, mask: Tensor) -> Tensor:
        captions = mask.any(1)
        counts = sum_over_processes(torch.stack((mask.sum(), captions.sum())))
        logits = output.logits[mask].float()
        total = functional.cross_entropy(logits, targets[mask], label_smoothing=label_smoothing, reduction="sum")
        total = total / (counts[1] if per_caption else counts[0])
        if doubly_stochastic and output.attention is not None:
            attended = (output.attention.float() * mask[..., None]).sum(1)
            squared = (1 - attended).square() * captions[:, None]
            squared = squared.sum(1) if per_caption else squared.mean(1)
            total = total + doubly_stochastic * squared.sum() / counts[1]
        return sum_over_processes(total)

    return loss
