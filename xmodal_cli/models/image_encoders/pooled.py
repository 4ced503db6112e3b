"""Cells or regions, each projected to the joint space, then pooled into one vector, as in VSE-infinity.

Chen et al. (arXiv 2011.04305): a linear layer plus a parallel MLP, region dropout, and generalized pooling.
"""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from xmodal_cli.models.projection import Projection
from xmodal_cli.models.sequences import build_pooling, cell_depth, drop_positions, split_cells
from xmodal_cli.settings import RATE, check_argument


class PooledImageEncoder(nn.Module):
    """(images, cells, image_dim) -> (images, embed_dim)."""

    def __init__(self, image_kind: str, project: Projection, pool: nn.Module, cell_dropout: float) -> None:
        super().__init__()
        self.image_kind, self.cell_dropout = image_kind, cell_dropout
        self.project, self.pool = project, pool

    def forward(self, image_features: Tensor) -> Tensor:
        cells, _, mask = split_cells(image_features, self.image_kind)
        if self.training:
            mask = drop_positions(mask, self.cell_dropout)
        return cast(Tensor, self.pool(self.project(cells.float()), mask))


def build(
    image_dim: int,
    embed_dim: int,
    image_kind: str = "global",
    pooling: str = "gpo",
    hidden_dim: int = 0,
    dropout: float = 0.0,
    cell_dropout: float = 0.0,
) -> PooledImageEncoder:
    """``hidden_dim``: hidden size of the MLP parallel to the linear layer, 0 for none; ``cell_dropout``: fraction of
    cells dropped in training.
    """
    check_argument("cell_dropout", cell_dropout, RATE)
    project = Projection(cell_depth(image_dim, image_kind), embed_dim, hidden_dim, dropout)
    return PooledImageEncoder(image_kind, project, build_pooling(pooling, embed_dim), cell_dropout)
