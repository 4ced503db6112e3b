"""Generalized pooling operator: a weighted sum of the values of each coordinate, sorted in descending order.

Chen et al.: Learning the Best Pooling Strategy for Visual Semantic Embedding (VSE-infinity, arXiv 2011.04305),
section 3.2. A GRU over positional encodings computes the weight of each rank, for any length. Mean and max pooling
are special cases.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from xmodal_cli.length_mask import length_mask
from xmodal_cli.models.sequences import positional_encoding


class GeneralizedPooling(nn.Module):
    """(items, longest, dim), (items, longest) bool -> (items, dim)."""

    def __init__(self, position_dim: int, temperature: float) -> None:
        super().__init__()
        self.position_dim, self.temperature = position_dim, temperature
        self.recurrence = nn.GRU(position_dim, position_dim, batch_first=True, bidirectional=True)
        self.score = nn.Linear(position_dim, 1, bias=False)

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        lengths = mask.sum(1)
        longest = int(lengths.max())
        unique_lengths, inverse = torch.unique(lengths, return_inverse=True)  # weights depend on the length only
        weights = self.weights(unique_lengths, longest)[inverse].to(states.dtype)  # (items, longest)
        ranked = states.masked_fill(~mask[..., None], float("-inf")).sort(1, descending=True).values[:, :longest]
        inside = length_mask(lengths, longest)
        return torch.einsum("nl,nld->nd", weights, ranked.masked_fill(~inside[..., None], 0))

    def weights(self, lengths: Tensor, longest: int) -> Tensor:
        """(lengths,) -> (lengths, longest) float32: a weight per rank, which sum to 1 within the length."""
        encoding = positional_encoding(longest, self.position_dim).to(self.score.weight.device)
        encoding = encoding.expand(len(lengths), -1, -1)
        with torch.autocast(encoding.device.type, enabled=False):  # small, and its softmax is sharp
            packed = pack_padded_sequence(encoding, lengths.cpu(), batch_first=True, enforce_sorted=False)
            states, _ = pad_packed_sequence(self.recurrence(packed)[0], batch_first=True, total_length=longest)
            forward, backward = states.chunk(2, dim=-1)
            scores = self.score((forward + backward) / 2).squeeze(-1)
            outside = torch.arange(longest, device=scores.device)[None] >= lengths[:, None]
            return torch.softmax(scores.masked_fill(outside, float("-inf")) / self.temperature, dim=1)


def build(position_dim: int = 32, temperature: float = 0.1) -> GeneralizedPooling:
    """``position_dim``: dimension of the positional encodings, even; ``temperature``: of the softmax over ranks."""
    if position_dim < 2 or position_dim % 2:
        raise ValueError(f"position_dim must be even, not {position_dim}")
    if temperature <= 0:
        raise ValueError(f"temperature must be above 0, not {temperature}")
    return GeneralizedPooling(position_dim, temperature)
