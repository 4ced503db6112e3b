"""Word vectors read by a recurrence, and a pooling of its states: what GRU and LSTM encoders share."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from xmodal_cli.models.words import Words


class RecurrentTextEncoder(nn.Module):
    """(captions, longest[, text_dim]) tokens, (captions,) int64 -> (captions, embed_dim)."""

    def __init__(self, words: Words, recurrence: nn.GRU | nn.LSTM, pool: nn.Module) -> None:
        super().__init__()
        self.words, self.state_dim = words, recurrence.hidden_size
        self.recurrence = recurrence
        self.pool = pool

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        return cast(Tensor, self.pool(*self.states(tokens, lengths)))

    def states(self, tokens: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(captions, longest, state_dim), (captions, longest) bool; padding is to the right, so it cannot leak in."""
        words, mask = self.words(tokens, lengths)
        return self.recurrence(words)[0], mask
