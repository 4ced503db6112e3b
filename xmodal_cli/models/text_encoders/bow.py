"""Bag of words: the mean of the word embeddings, mapped to the joint space."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from xmodal_cli.models.text_encoders._words import word_embedding


class BagOfWordsTextEncoder(nn.Module):
    """(captions, longest) int64, (captions,) int64 -> (captions, embed_dim); the order of words is lost."""

    def __init__(self, vocab_size: int, embed_dim: int, word_dim: int, dropout: float) -> None:
        super().__init__()
        self.words = word_embedding(vocab_size, word_dim)
        self.dropout = nn.Dropout(dropout)
        self.project = nn.Linear(word_dim, embed_dim)

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        inside = torch.arange(tokens.shape[1], device=tokens.device)[None, :] < lengths.to(tokens.device)[:, None]
        vectors = self.dropout(self.words(tokens)) * inside[..., None]
        mean = vectors.sum(1) / lengths.to(tokens.device)[:, None]
        return cast(Tensor, self.project(mean))


def build(vocab_size: int, embed_dim: int, word_dim: int = 300, dropout: float = 0.0) -> BagOfWordsTextEncoder:
    """``dropout`` is applied to the word vectors."""
    return BagOfWordsTextEncoder(vocab_size, embed_dim, word_dim, dropout)
