"""Sentence vectors in the shape of token states."""

from __future__ import annotations

from torch import Tensor, nn


class SentenceState(nn.Module):
    """(captions, longest) int64, (captions,) int64 -> (captions, 1, dim)from a network with output (captions, dim)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        vectors: Tensor = self.network(tokens, lengths)
        return vectors[:, None]
