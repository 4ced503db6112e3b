"""What may be written next: no marks, no end too soon, no n words twice. Knows no model and no search."""

from __future__ import annotations

import torch
from torch import Tensor

from xmodal_cli.types import Decoding, SpecialTokens

BARRED = -1e4  # the log-probability of an end that the model rules out, where nothing else is left


def banned_ids(special_tokens: SpecialTokens, device: torch.device) -> Tensor:
    """(banned,) int64: ids that are never generated; EOS is not among them, even where it is also the padding."""
    return torch.tensor([i for i in special_tokens.banned if i != special_tokens.eos], device=device).long()


class LogitsProcessor:
    """Takes away log-probabilities of what may not come next. What is left is not scaled up to sum to 1.

    Where nothing is left, the caption ends, however short it is.
    """

    def __init__(self, special_tokens: SpecialTokens, settings: Decoding, device: torch.device) -> None:
        self.eos, self.min_length, self.no_repeat = (
            special_tokens.eos,
            settings.min_length,
            settings.no_repeat_ngram_size,
        )
        self.banned = banned_ids(special_tokens, device)

    def allowed(self, log_probs: Tensor, length: int, words: Tensor | None = None) -> Tensor:
        """(images, rows, vocab) after ``length`` words -> a copy with -inf for what may not come next.

        ``words``, the (images, rows, length) written so far, are needed where ``no_repeat_ngram_size`` is above 0.
        """
        left = log_probs.index_fill(-1, self.banned, -torch.inf)
        if length < self.min_length:
            left[..., self.eos] = -torch.inf
        if words is not None and self.no_repeat:
            forbid_repeats(left, words, self.no_repeat)
        if length < self.min_length or self.no_repeat:
            stuck = left.amax(-1) == -torch.inf
            end = log_probs[..., self.eos].clamp(min=BARRED)
            left[..., self.eos] = torch.where(stuck, end, left[..., self.eos])
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
