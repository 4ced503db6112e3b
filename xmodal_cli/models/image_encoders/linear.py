"""One linear layer from image features to the joint space, as in VSE, order embeddings and VSE++."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from xmodal_cli.models.sequences import build_pooling, cell_depth, split_cells
from xmodal_cli.settings import RATE, check_argument


class LinearImageEncoder(nn.Module):
    """(images, [cells,] image_dim) -> (images, embed_dim); from the mean of the cells, normalized if ``normalize``."""

    def __init__(self, image_dim: int, image_kind: str, embed_dim: int, normalize: bool, dropout: float) -> None:
        super().__init__()
        self.image_kind, self.normalize = image_kind, normalize
        self.pool = build_pooling("mean", image_dim)
        self.dropout = nn.Dropout(dropout)
        self.project = nn.Linear(cell_depth(image_dim, image_kind), embed_dim)
        nn.init.xavier_uniform_(self.project.weight)
        nn.init.zeros_(self.project.bias)

    def forward(self, image_features: Tensor) -> Tensor:
        cells, _, mask = split_cells(image_features, self.image_kind)
        features = self.pool(cells.float(), mask)
        if self.normalize:
            features = nn.functional.normalize(features, dim=-1)
        return cast(Tensor, self.project(self.dropout(features)))


def build(
    image_dim: int, embed_dim: int, image_kind: str = "global", normalize: bool = True, dropout: float = 0.0
) -> LinearImageEncoder:
    """``normalize``: scale features to unit length, so that one learning rate works for every backbone."""
    check_argument("dropout", dropout, RATE)
    return LinearImageEncoder(image_dim, image_kind, embed_dim, normalize, dropout)
