"""Word vectors, each projected to the joint space, then pooled: the text encoder of VSE-infinity (arXiv 2011.04305).

Intended for the contextual states of a pretrained encoder; on word embeddings it ignores word order.
"""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from xmodal_cli.models.projection import Projection
from xmodal_cli.models.sequences import build_pooling
from xmodal_cli.models.word_embeddings import WordEmbedding, build_word_embeddings


class PooledTextEncoder(nn.Module):
    """(captions, longest[, text_dim]) tokens, (captions,) int64 -> (captions, embed_dim)."""

    def __init__(self, words: WordEmbedding, project: Projection, pool: nn.Module) -> None:
        super().__init__()
        self.words, self.project, self.pool = words, project, pool

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        words, mask = self.words(tokens, lengths)
        return cast(Tensor, self.pool(self.project(words), mask))


def build(
    vocab_size: int,
    embed_dim: int,
    text_dim: int = 0,
    word_dim: int = 300,
    hidden_dim: int = 0,
    dropout: float = 0.0,
    word_dropout: float = 0.0,
    pooling: str = "gpo",
) -> PooledTextEncoder:
    """``hidden_dim``: hidden size of the MLP parallel to the linear layer, 0 for none; ``word_dropout``: fraction of
    words dropped in training.
    """
    words = build_word_embeddings(vocab_size, word_dim, text_dim, dropout, word_dropout)
    project = Projection(words.dim, embed_dim, hidden_dim, 0.0)
    return PooledTextEncoder(words, project, build_pooling(pooling, embed_dim))
