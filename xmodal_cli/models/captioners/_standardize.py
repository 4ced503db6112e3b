"""Standardization of features with the mean and variance of the training batches.

Features of a frozen network are mostly the same for all images; subtracting the mean leaves the differences.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from xmodal_cli.process_sum import sum_over_processes

GEOMETRY_SCALE = 10.0  # geometry, centered to +-1/2, is multiplied by this: larger than any single feature


class Standardize(nn.Module):
    """Features (items, cells, depth), geometry (items, cells, 5) in [0, 1], mask (items, cells) -> the first two.

    Features get mean 0 and standard deviation 1 over all training batches so far, not over the current batch. Geometry
    is centered and scaled up; unscaled, positions of objects are learned long after their names.
    """

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(depth))
        self.register_buffer("square", torch.ones(depth))
        self.register_buffer("num_batches", torch.zeros(()))

    def forward(self, cells: Tensor, geometry: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        if self.training:
            self._update_statistics(cells[mask].detach().float())
        mean, square = cast(Tensor, self.mean), cast(Tensor, self.square)
        std = (square - mean.square()).clamp(min=1e-6).sqrt()
        return (cells - mean) / std, GEOMETRY_SCALE * (geometry - 0.5)

    def _update_statistics(self, cells: Tensor) -> None:
        """``cells`` is (cells, depth), a part of the batch if several processes train."""
        sums = torch.stack((cells.sum(0), cells.square().sum(0)))
        count = sum_over_processes(torch.tensor(float(len(cells)), device=cells.device))
        batch_mean, batch_square = sum_over_processes(sums) / count
        num_batches, mean, square = (cast(Tensor, buffer) for buffer in (self.num_batches, self.mean, self.square))
        num_batches += 1
        mean += (batch_mean - mean) / num_batches
        square += (batch_square - square) / num_batches
