"""Word embeddings read by a LSTM; the last state is the sentence."""

from __future__ import annotations

from torch import Tensor, nn

from xmodal_cli.models.text_encoders._words import last_state, word_embedding


class LSTMTextEncoder(nn.Module):
    """(captions, longest) int64, (captions,) int64 -> (captions, embed_dim)."""

    def __init__(self, vocab_size: int, embed_dim: int, word_dim: int, num_layers: int, dropout: float) -> None:
        super().__init__()
        self.words = word_embedding(vocab_size, word_dim)
        self.dropout = nn.Dropout(dropout)
        self.recurrence = nn.LSTM(word_dim, embed_dim, num_layers, batch_first=True)

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        states, _ = self.recurrence(self.dropout(self.words(tokens)))
        return last_state(states, lengths)


def build(
    vocab_size: int, embed_dim: int, word_dim: int = 300, num_layers: int = 1, dropout: float = 0.0
) -> LSTMTextEncoder:
    """``dropout`` is applied to the word vectors."""
    return LSTMTextEncoder(vocab_size, embed_dim, word_dim, num_layers, dropout)
