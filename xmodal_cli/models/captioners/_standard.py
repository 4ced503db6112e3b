"""Features less their mean, by their spread, as training shows them.

What a frozen network gives of all pictures is alike in most; without that, what differs is most of what is read.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

PLACES = 10.0  # where a cell is, from -1/2 to 1/2 times this: louder than any one feature


class Standardize(nn.Module):
    """Features (items, cells, depth), geometry (items, cells, 5) from 0 to 1, mask (items, cells) -> the first two.

    Features come out with mean 0 and spread 1 over the training so far, so that a batch is not judged by itself;
    geometry about 0, and as loud as many features, or the places of things are learnt long after their names.
    """

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(depth))
        self.register_buffer("square", torch.ones(depth))
        self.register_buffer("num_batches", torch.zeros(()))

    def forward(self, cells: Tensor, geometry: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        if self.training:
            self._learn(cells[mask].detach().float())
        mean, square = cast(Tensor, self.mean), cast(Tensor, self.square)
        spread = (square - mean.square()).clamp(min=1e-6).sqrt()
        return (cells - mean) / spread, PLACES * (geometry - 0.5)

    def _learn(self, cells: Tensor) -> None:
        """``cells`` is (any number, depth)."""
        seen, mean, square = (cast(Tensor, buffer) for buffer in (self.num_batches, self.mean, self.square))
        seen += 1
        mean += (cells.mean(0) - mean) / seen
        square += (cells.square().mean(0) - square) / seen
