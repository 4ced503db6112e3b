"""The unchanged states of a pretrained encoder, for TERN and for towers whose output is the joint space."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from xmodal_cli.models.sequences import build_pooling
from xmodal_cli.models.word_embeddings import WordEmbedding, build_word_embeddings


class IdentityTextEncoder(nn.Module):
    """(captions, longest, text_dim) states, (captions,) int64 -> (captions, text_dim): the mean."""

    def __init__(self, words: WordEmbedding) -> None:
        super().__init__()
        self.words, self.state_dim, self.out_dim = words, words.dim, words.dim
        self.pool = build_pooling("mean", words.dim)

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        return cast(Tensor, self.pool(*self.states(tokens, lengths)))

    def states(self, tokens: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(captions, longest, state_dim), (captions, longest) bool."""
        return cast(tuple[Tensor, Tensor], self.words(tokens, lengths))


def build(text_dim: int = 0, dropout: float = 0.0, word_dropout: float = 0.0) -> IdentityTextEncoder:
    """``word_dropout``: fraction of words dropped in training. Raises ValueError without a pretrained encoder."""
    if not text_dim:
        raise ValueError("this encoder needs a pretrained sentence encoder: set text.backbone, for example to minilm")
    return IdentityTextEncoder(build_word_embeddings(0, 0, text_dim, dropout, word_dropout))
