"""The text encoder shared by ``gru`` and ``lstm``: word vectors, an RNN, and a pooling of its states."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from xmodal_cli.models.word_embeddings import WordEmbedding


class RecurrentTextEncoder(nn.Module):
    """(captions, longest[, text_dim]) tokens, (captions,) int64 -> (captions, embed_dim)."""

    def __init__(self, words: WordEmbedding, recurrence: nn.GRU | nn.LSTM, pool: nn.Module) -> None:
        super().__init__()
        self.words, self.state_dim = words, recurrence.hidden_size
        self.recurrence = recurrence
        self.pool = pool

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        return cast(Tensor, self.pool(*self.states(tokens, lengths)))

    def states(self, tokens: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(captions, longest, state_dim), (captions, longest) bool; right padding cannot affect earlier states."""
        words, mask = self.words(tokens, lengths)
        return self.recurrence(words)[0], mask
