"""The text encoder shared by ``gru`` and ``lstm``: word vectors, an RNN, and a pooling of its states."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from xmodal_cli.device import has_bf16
from xmodal_cli.models.word_embeddings import WordEmbedding


class RecurrentTextEncoder(nn.Module):
    """(captions, longest[, text_dim]) tokens, (captions,) int64 -> (captions, embed_dim)."""

    def __init__(self, words: WordEmbedding, recurrence: nn.GRU | nn.LSTM, pool: nn.Module) -> None:
        super().__init__()
        self.words, self.state_dim = words, recurrence.hidden_size
        self.recurrence = recurrence
        self.pool = pool

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        return cast(Tensor, self.pool(*self.states(tokens, lengths)))

    def states(self, tokens: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(captions, longest, state_dim), (captions, longest) bool; right padding cannot affect earlier states."""
        words, mask = self.words(tokens, lengths)
        if _is_unsupported(self.recurrence, words.device):
            with torch.autocast(words.device.type, enabled=False):
                return self.recurrence(words.float())[0], mask
        return self.recurrence(words)[0], mask


def _is_unsupported(recurrence: nn.Module, device: torch.device) -> bool:
    """Whether autocast fails: oneDNN has no bfloat16 LSTM for CPUs without bfloat16 instructions."""
    is_cpu_lstm = isinstance(recurrence, nn.LSTM) and device.type == "cpu"
    return is_cpu_lstm and torch.is_autocast_enabled("cpu") and not has_bf16("cpu")
