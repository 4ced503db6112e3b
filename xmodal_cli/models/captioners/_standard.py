"""Features less their mean, by their spread, as training shows them.

What a frozen network gives of all pictures is alike in most; without it, what differs is most of what is read, and
a small model learns several times faster.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn


class Standardize(nn.Module):
    """(items, cells, depth), (items, cells) bool -> the same shape; mean 0 and spread 1 for each feature in training.

    Mean and spread are those of all batches of the training so far, so that a batch is not judged by itself.
    """

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(depth))
        self.register_buffer("square", torch.ones(depth))
        self.register_buffer("num_batches", torch.zeros(()))

    def forward(self, cells: Tensor, mask: Tensor) -> Tensor:
        if self.training:
            self._learn(cells[mask].detach().float())
        mean, square = cast(Tensor, self.mean), cast(Tensor, self.square)
        return (cells - mean) / (square - mean.square()).clamp(min=1e-6).sqrt()

    def _learn(self, cells: Tensor) -> None:
        """``cells`` is (any number, depth)."""
        seen, mean, square = (cast(Tensor, buffer) for buffer in (self.num_batches, self.mean, self.square))
        seen += 1
        mean += (cells.mean(0) - mean) / seen
        square += (cells.square().mean(0) - square) / seen
