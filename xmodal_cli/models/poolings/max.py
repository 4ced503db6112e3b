"""The maximum of each coordinate."""

from __future__ import annotations

from torch import Tensor, nn


class MaxPooling(nn.Module):
    """(items, longest, dim), (items, longest) bool -> (items, dim)."""

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        return states.masked_fill(~mask[..., None], float("-inf")).amax(1)


def build() -> MaxPooling:
    """No settings."""
    return MaxPooling()
