"""Word vectors read by a GRU; the last state is the sentence, or another pooling of the states."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from xmodal_cli.models._sequences import build_pooling
from xmodal_cli.models.text_encoders._words import Words, build_words


class GRUTextEncoder(nn.Module):
    """(captions, longest[, text_dim]) tokens, (captions,) int64 -> (captions, embed_dim)."""

    def __init__(self, words: Words, embed_dim: int, num_layers: int, pool: nn.Module) -> None:
        super().__init__()
        self.words, self.state_dim = words, embed_dim
        self.recurrence = nn.GRU(words.dim, embed_dim, num_layers, batch_first=True)
        self.pool = pool

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        return cast(Tensor, self.pool(*self.states(tokens, lengths)))

    def states(self, tokens: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(captions, longest, state_dim), (captions, longest) bool; padding is to the right, so it cannot leak in."""
        words, mask = self.words(tokens, lengths)
        return self.recurrence(words)[0], mask


def build(
    vocab_size: int,
    embed_dim: int,
    text_dim: int = 0,
    word_dim: int = 300,
    num_layers: int = 1,
    dropout: float = 0.0,
    drop_words: float = 0.0,
    pooling: str = "last",
) -> GRUTextEncoder:
    """``dropout`` is applied to the word vectors; ``drop_words``: share of words that the pooling leaves out."""
    words = build_words(vocab_size, word_dim, text_dim, dropout, drop_words)
    return GRUTextEncoder(words, embed_dim, num_layers, build_pooling(pooling, embed_dim))
