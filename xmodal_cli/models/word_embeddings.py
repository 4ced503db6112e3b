"""The input of text encoders: word embeddings, or the states of a pretrained encoder."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from xmodal_cli.length_mask import length_mask
from xmodal_cli.models.sequences import drop_positions
from xmodal_cli.settings import POSITIVE, RATE, check_argument


class WordEmbedding(nn.Module):
    """Tokens and lengths -> word vectors (captions, longest, dim) and their mask (captions, longest) bool.

    Tokens are ids (captions, longest) int64, looked up in ``table``, or, without a table, the states of a pretrained
    encoder (captions, longest, dim).
    """

    def __init__(self, table: nn.Embedding | None, dim: int, dropout: float, word_dropout: float) -> None:
        super().__init__()
        self.table, self.dim, self.word_dropout = table, dim, word_dropout
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        mask = length_mask(lengths.to(tokens.device), tokens.shape[1])
        if self.training:
            mask = drop_positions(mask, self.word_dropout)
        return self.dropout(tokens.float() if self.table is None else self.table(tokens)), mask


def build_word_embeddings(
    vocab_size: int, word_dim: int, text_dim: int, dropout: float, word_dropout: float
) -> WordEmbedding:
    """A table (vocab_size, word_dim), uniform in +-0.1 as in VSE; no table if ``text_dim`` is not 0.

    Row 0, the padding, is zero and stays zero. Raises ValueError for a rate outside [0, 1) or a ``word_dim`` below 1.
    """
    check_argument("dropout", dropout, RATE)
    check_argument("word_dropout", word_dropout, RATE)
    if text_dim:
        return WordEmbedding(None, text_dim, dropout, word_dropout)
    check_argument("word_dim", word_dim, POSITIVE)
    table = nn.Embedding(vocab_size, word_dim, padding_idx=0)
    nn.init.uniform_(table.weight, -0.1, 0.1)
    with torch.no_grad():
        table.weight[0].zero_()
    return WordEmbedding(table, word_dim, dropout, word_dropout)
