"""Logits processing: banned tokens, the minimum length, and no repeated n-grams."""

from __future__ import annotations

import torch
from torch import Tensor

from xmodal_cli.types import Decoding, SpecialTokens

MIN_LOG_PROB = -1e4  # lower bound of the log-probability of EOS where no other token is allowed


def banned_ids(special_tokens: SpecialTokens, device: torch.device) -> Tensor:
    """(banned,) int64: ids that are never generated. EOS is not one of them, even if it is also the padding token."""
    return torch.tensor([i for i in special_tokens.banned if i != special_tokens.eos], device=device).long()


class LogitsProcessor:
    """Sets the log-probabilities of tokens that are not allowed to -inf, without renormalizing the others.

    If no token is allowed, EOS is, whatever the length.
    """

    def __init__(self, special_tokens: SpecialTokens, settings: Decoding, device: torch.device) -> None:
        self.eos, self.min_length, self.no_repeat_ngram_size = (
            special_tokens.eos,
            settings.min_length,
            settings.no_repeat_ngram_size,
        )
        self.banned = banned_ids(special_tokens, device)

    def process(self, log_probs: Tensor, length: int, tokens: Tensor | None = None) -> Tensor:
        """(images, rows, vocab) after ``length`` tokens -> a copy with -inf for tokens that are not allowed.

        ``tokens``, (images, rows, length) int64, are those generated so far; required if
        ``no_repeat_ngram_size`` is above 0.
        """
        processed = log_probs.index_fill(-1, self.banned, -torch.inf)
        if length < self.min_length:
            processed[..., self.eos] = -torch.inf
        if tokens is not None and self.no_repeat_ngram_size:
            ban_repeated_ngrams(processed, tokens, self.no_repeat_ngram_size)
        if length < self.min_length or self.no_repeat_ngram_size:
            nothing_allowed = processed.amax(-1) == -torch.inf
            eos = log_probs[..., self.eos].clamp(min=MIN_LOG_PROB)
            processed[..., self.eos] = torch.where(nothing_allowed, eos, processed[..., self.eos])
        return processed


def ban_repeated_ngrams(log_probs: Tensor, tokens: Tensor, size: int) -> None:
    """Set to -inf, in place, every token that would complete an n-gram of ``size`` tokens for the second time."""
    length = tokens.shape[-1]
    if length < size:
        return
    ngrams = tokens.unfold(-1, size, 1)  # (images, rows, n-grams, size)
    suffix = tokens[..., None, length - size + 1 :]
    is_match = (ngrams[..., :-1] == suffix).all(-1)
    log_probs.scatter_add_(
        -1, ngrams[..., -1], torch.zeros_like(is_match, dtype=log_probs.dtype).masked_fill(is_match, -torch.inf)
    )
