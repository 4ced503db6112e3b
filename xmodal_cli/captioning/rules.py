"""What may be written next: no marks, no end too soon, no n words twice. Knows no model and no search."""

from __future__ import annotations

import torch
from torch import Tensor

from xmodal_cli.types import Decoding, Marks

BARRED = -1e4  # the log-probability of an end that the model rules out, where nothing else is left


class Rules:
    """Takes away log-probabilities of what may not come next. What is left is not scaled up to sum to 1.

    Where nothing is left, the caption ends, however short it is.
    """

    def __init__(self, marks: Marks, settings: Decoding, device: torch.device) -> None:
        self.end, self.min_length, self.no_repeat = marks.end, settings.min_length, settings.no_repeat
        self.never = torch.tensor([token for token in marks.never if token != marks.end], device=device).long()

    def allowed(self, log_probs: Tensor, length: int, words: Tensor | None = None) -> Tensor:
        """(images, rows, vocab) after ``length`` words -> a copy with -inf for what may not come next.

        ``words``, the (images, rows, length) written so far, are needed where ``no_repeat`` is above 0.
        """
        left = log_probs.index_fill(-1, self.never, -torch.inf)
        if length < self.min_length:
            left[..., self.end] = -torch.inf
        if words is not None and self.no_repeat:
            forbid_repeats(left, words, self.no_repeat)
        if length < self.min_length or self.no_repeat:
            stuck = left.amax(-1) == -torch.inf
            end = log_probs[..., self.end].clamp(min=BARRED)
            left[..., self.end] = torch.where(stuck, end, left[..., self.end])
        return left


def forbid_repeats(log_probs: Tensor, words: Tensor, size: int) -> None:
    """Set to -inf, in place, every word that would complete ``size`` words in a row that are there already."""
    length = words.shape[-1]
    if length < size:
        return
    runs = words.unfold(-1, size, 1)  # (images, rows, runs, size)
    last = words[..., None, length - size + 1 :]
    same = (runs[..., :-1] == last).all(-1)
    log_probs.scatter_add_(
        -1, runs[..., -1], torch.zeros_like(same, dtype=log_probs.dtype).masked_fill(same, -torch.inf)
    )
