"""Bag of words: a pooling of the word vectors, by default the mean, projected to the joint space."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from xmodal_cli.models.sequences import build_pooling
from xmodal_cli.models.word_embeddings import WordEmbedding, build_word_embeddings


class BagOfWordsTextEncoder(nn.Module):
    """(captions, longest[, text_dim]) tokens, (captions,) int64 -> (captions, embed_dim); ignores word order."""

    def __init__(self, words: WordEmbedding, embed_dim: int, pool: nn.Module) -> None:
        super().__init__()
        self.words, self.state_dim = words, words.dim
        self.pool = pool
        self.project = nn.Linear(words.dim, embed_dim)

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        return cast(Tensor, self.project(self.pool(*self.states(tokens, lengths))))

    def states(self, tokens: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(captions, longest, state_dim), (captions, longest) bool."""
        return cast(tuple[Tensor, Tensor], self.words(tokens, lengths))


def build(
    vocab_size: int,
    embed_dim: int,
    text_dim: int = 0,
    word_dim: int = 300,
    dropout: float = 0.0,
    word_dropout: float = 0.0,
    pooling: str = "mean",
) -> BagOfWordsTextEncoder:
    """``dropout`` is applied to the word vectors; ``word_dropout``: fraction of words dropped in training."""
    words = build_word_embeddings(vocab_size, word_dim, text_dim, dropout, word_dropout)
    return BagOfWordsTextEncoder(words, embed_dim, build_pooling(pooling, words.dim))
