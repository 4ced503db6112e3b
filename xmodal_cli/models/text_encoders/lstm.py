"""Word vectors read by an LSTM; the last state is the sentence, or another pooling of the states."""

from __future__ import annotations

from torch import nn

from xmodal_cli.models.sequences import build_pooling
from xmodal_cli.models.text_encoders._recurrent import RecurrentTextEncoder
from xmodal_cli.models.words import build_words


def build(
    vocab_size: int,
    embed_dim: int,
    text_dim: int = 0,
    word_dim: int = 300,
    num_layers: int = 1,
    dropout: float = 0.0,
    word_dropout: float = 0.0,
    pooling: str = "last",
) -> RecurrentTextEncoder:
    """``dropout`` is applied to the word vectors; ``word_dropout``: share of words that the pooling leaves out."""
    words = build_words(vocab_size, word_dim, text_dim, dropout, word_dropout)
    recurrence = nn.LSTM(words.dim, embed_dim, num_layers, batch_first=True)
    return RecurrentTextEncoder(words, recurrence, build_pooling(pooling, embed_dim))
