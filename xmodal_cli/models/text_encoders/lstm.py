"""An LSTM over word vectors, and a pooling of its states, by default the last one."""

from __future__ import annotations

from torch import nn

from xmodal_cli.models.sequences import build_pooling
from xmodal_cli.models.text_encoders._recurrent import RecurrentTextEncoder
from xmodal_cli.models.word_embeddings import build_word_embeddings


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
    """``dropout`` is applied to the word vectors; ``word_dropout``: fraction of words dropped in training."""
    words = build_word_embeddings(vocab_size, word_dim, text_dim, dropout, word_dropout)
    recurrence = nn.LSTM(words.dim, embed_dim, num_layers, batch_first=True)
    return RecurrentTextEncoder(words, recurrence, build_pooling(pooling, embed_dim))
