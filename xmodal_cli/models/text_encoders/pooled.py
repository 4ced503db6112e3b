"""Word vectors mapped to the joint space one by one, then pooled: the text side of VSE-infinity (arXiv 2011.04305).

Made for the states of a pretrained encoder, where each word has seen the others; order is lost otherwise.
"""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from xmodal_cli.models.heads import Projection
from xmodal_cli.models.sequences import build_pooling
from xmodal_cli.models.words import Words, build_words


class PooledTextEncoder(nn.Module):
    """(captions, longest[, text_dim]) tokens, (captions,) int64 -> (captions, embed_dim)."""

    def __init__(self, words: Words, project: Projection, pool: nn.Module) -> None:
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
    """``hidden_dim``: width of the network beside the linear map, 0 for none; ``word_dropout``: share of words left
    out in training.
    """
    words = build_words(vocab_size, word_dim, text_dim, dropout, word_dropout)
    project = Projection(words.dim, embed_dim, hidden_dim, 0.0)
    return PooledTextEncoder(words, project, build_pooling(pooling, embed_dim))
