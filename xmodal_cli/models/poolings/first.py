"""The first state, for example that of BERT's [CLS] token."""

from __future__ import annotations

from torch import Tensor, nn


class FirstPooling(nn.Module):
    """(items, longest, dim), (items, longest) bool -> (items, dim)."""

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        return states[:, 0]


def build() -> FirstPooling:
    """No settings."""
    return FirstPooling()
