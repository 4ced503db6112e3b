"""A weighted mean; an MLP computes the weight of each state (self-attentive pooling, arXiv 1703.03130)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from xmodal_cli.settings import POSITIVE, check_argument


class AttentionPooling(nn.Module):
    """(items, longest, dim), (items, longest) bool -> (items, dim)."""

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.score = nn.Sequential(nn.Linear(dim, hidden_dim), nn.Tanh(), nn.Linear(hidden_dim, 1))

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        scores = self.score(states).float().squeeze(-1).masked_fill(~mask, float("-inf"))  # (items, longest)
        weights = torch.softmax(scores, dim=1).to(states.dtype)
        return torch.einsum("nl,nld->nd", weights, states.masked_fill(~mask[..., None], 0))


def build(dim: int, hidden_dim: int = 256) -> AttentionPooling:
    """``hidden_dim``: hidden size of the MLP that scores a state."""
    check_argument("hidden_dim", hidden_dim, POSITIVE)
    return AttentionPooling(dim, hidden_dim)
