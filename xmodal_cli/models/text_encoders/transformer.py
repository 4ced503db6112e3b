"""Transformer layers over word vectors (arXiv 1706.03762), then pooled."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from xmodal_cli.models.sequences import build_pooling, positional_encoding, transformer_layers
from xmodal_cli.models.word_embeddings import WordEmbedding, build_word_embeddings


class TransformerTextEncoder(nn.Module):
    """(captions, longest[, text_dim]) tokens, (captions,) int64 -> (captions, embed_dim)."""

    def __init__(self, words: WordEmbedding, layers: nn.TransformerEncoder, embed_dim: int, pool: nn.Module) -> None:
        super().__init__()
        self.words, self.state_dim = words, embed_dim
        self.widen = nn.Linear(words.dim, embed_dim)
        self.layers, self.pool = layers, pool
        self.project = nn.Linear(embed_dim, embed_dim)

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        return cast(Tensor, self.project(self.pool(*self.states(tokens, lengths))))

    def states(self, tokens: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(captions, longest, state_dim), (captions, longest) bool."""
        words, mask = self.words(tokens, lengths)
        states = self.widen(words)
        if self.words.table is not None:  # states of a pretrained encoder include positions
            states = states + positional_encoding(states.shape[1], self.state_dim).to(states)
        return cast(Tensor, self.layers(states, src_key_padding_mask=~mask)), mask


def build(
    vocab_size: int,
    embed_dim: int,
    text_dim: int = 0,
    word_dim: int = 300,
    num_layers: int = 2,
    dropout: float = 0.1,
    word_dropout: float = 0.0,
    pooling: str = "mean",
) -> TransformerTextEncoder:
    """``embed_dim`` is also the width of the layers; ``word_dropout``: fraction of words dropped in training.

    Raises ValueError for an ``embed_dim`` that is not a multiple of 64.
    """
    words = build_word_embeddings(vocab_size, word_dim, text_dim, dropout, word_dropout)
    layers = transformer_layers(embed_dim, num_layers, dropout)
    return TransformerTextEncoder(words, layers, embed_dim, build_pooling(pooling, embed_dim))
