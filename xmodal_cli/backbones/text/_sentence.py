"""A sentence's one vector in the form of states."""

from __future__ import annotations

from torch import Tensor, nn


class SentenceState(nn.Module):
    """(captions, longest) int64, (captions,) int64 -> (captions, 1, dim), of a network that gives (captions, dim)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        vectors: Tensor = self.network(tokens, lengths)
        return vectors[:, None]
