"""The last state, for example of a forward RNN, as in VSE and order embeddings."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class LastPooling(nn.Module):
    """(items, longest, dim), (items, longest) bool -> (items, dim): the last state inside the mask."""

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        positions = torch.arange(mask.shape[1], device=mask.device)
        last = (positions * mask).amax(1).view(-1, 1, 1).expand(-1, 1, states.shape[-1])
        return states.gather(1, last).squeeze(1)


def build() -> LastPooling:
    """No settings."""
    return LastPooling()
