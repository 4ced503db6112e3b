"""Logits processing: banned tokens, the minimum length, and no repeated n-grams."""

from __future__ import annotations

from typing import Any

from xmodal_cli.captioning.array_library import library_of
from xmodal_cli.types import Decoding, SpecialTokens

MIN_LOG_PROB = -1e4  # lower bound of the log-probability of EOS where no other token is allowed
IMPOSSIBLE = -float("inf")


def banned_ids(special_tokens: SpecialTokens) -> list[int]:
    """The ids that are never generated. EOS is not one of them, even if it is also the padding token."""
    return [i for i in special_tokens.banned if i != special_tokens.eos]


class LogitsProcessor:
    """Sets the log-probabilities of tokens that are not allowed to -inf, without renormalizing the others.

    If no token is allowed, EOS is, whatever the length.
    """

    def __init__(self, special_tokens: SpecialTokens, settings: Decoding) -> None:
        self.eos, self.min_length, self.no_repeat_ngram_size = (
            special_tokens.eos,
            settings.min_length,
            settings.no_repeat_ngram_size,
        )
        self.banned = banned_ids(special_tokens)

    def process(self, log_probs: Any, length: int, tokens: Any = None) -> Any:
        """(images, rows, vocab) after ``length`` tokens -> a copy with -inf for tokens that are not allowed.

        ``tokens``, (images, rows, length) int64, are those generated so far; required if
        ``no_repeat_ngram_size`` is above 0.
        """
        library = library_of(log_probs)
        processed = library.copy(log_probs)
        if self.banned:
            processed[..., self.banned] = IMPOSSIBLE
        if length < self.min_length:
            processed[..., self.eos] = IMPOSSIBLE
        if tokens is not None and self.no_repeat_ngram_size:
            processed = ban_repeated_ngrams(processed, tokens, self.no_repeat_ngram_size)
        if length < self.min_length or self.no_repeat_ngram_size:
            nothing_allowed = library.amax(processed, -1) == IMPOSSIBLE
            eos = log_probs[..., self.eos].clip(min=MIN_LOG_PROB)
            processed[..., self.eos] = library.where(nothing_allowed, eos, processed[..., self.eos])
        return processed


def ban_repeated_ngrams(log_probs: Any, tokens: Any, size: int) -> Any:
    """A copy with -inf for every token that would complete an n-gram of ``size`` tokens for the second time."""
    library, length = library_of(log_probs), tokens.shape[-1]
    if length < size:
        return log_probs
    ngrams = library.windows(tokens, size)  # (images, rows, n-grams, size)
    suffix = tokens[..., None, length - size + 1 :]
    is_match = (ngrams[..., :-1] == suffix).all(-1)
    zeros = library.zeros(is_match.shape, log_probs)
    return library.add_at(log_probs, ngrams[..., -1], library.where(is_match, IMPOSSIBLE, zeros))
