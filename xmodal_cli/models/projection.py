"""Projection to the joint space: a linear layer, optionally plus a parallel MLP."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from xmodal_cli.settings import RATE, Bounds, check_argument


class Projection(nn.Module):
    """(..., dim) -> (..., embed_dim)."""

    def __init__(self, dim: int, embed_dim: int, hidden_dim: int, dropout: float) -> None:
        super().__init__()
        check_argument("dropout", dropout, RATE)
        check_argument("hidden_dim", hidden_dim, Bounds(min=0))
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(dim, embed_dim)
        self.beside = (
            nn.Sequential(nn.Linear(dim, hidden_dim), nn.ReLU(), nn.Linear(hidden_dim, embed_dim))
            if hidden_dim
            else None
        )

    def forward(self, vectors: Tensor) -> Tensor:
        vectors = self.dropout(vectors)
        projected = cast(Tensor, self.linear(vectors))
        return projected if self.beside is None else projected + self.beside(vectors)
