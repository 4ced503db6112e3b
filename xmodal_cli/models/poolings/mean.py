"""The mean of the states."""

from __future__ import annotations

from torch import Tensor, nn


class MeanPooling(nn.Module):
    """(items, longest, dim), (items, longest) bool -> (items, dim)."""

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        inside = mask[..., None]
        return states.masked_fill(~inside, 0).sum(1) / inside.sum(1).clamp(min=1)


def build() -> MeanPooling:
    """No settings."""
    return MeanPooling()
