"""Transformer layers over image cells or regions with their geometry, then pooled: the image encoder of TERN.

Messina et al. (arXiv 2004.09144), section 3: features and boxes are concatenated and projected, and a learned token
for the whole image is prepended, like [CLS].
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from xmodal_cli.models.sequences import GEOMETRY_DIM, build_pooling, cell_depth, scaled_cells, transformer_layers
from xmodal_cli.settings import RATE, check_argument


class TransformerImageEncoder(nn.Module):
    """(images, [cells,] image_dim) -> (images, embed_dim); ``states`` returns the states before pooling."""

    def __init__(self, depth: int, image_kind: str, layers: nn.TransformerEncoder, width: int, drop: float) -> None:
        super().__init__()
        self.image_kind, self.state_dim, self.cell_dropout = image_kind, width, drop
        self.join = nn.Linear(depth + GEOMETRY_DIM, width)
        self.whole = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.layers = layers
        self.pool: nn.Module = nn.Identity()
        self.project: nn.Module = nn.Identity()

    def forward(self, image_features: Tensor) -> Tensor:
        return cast(Tensor, self.project(self.pool(*self.states(image_features))))

    def states(self, image_features: Tensor) -> tuple[Tensor, Tensor]:
        """(images, 1 + cells, state_dim), (images, 1 + cells) bool; the first state is that of the image token."""
        drop = self.cell_dropout if self.training else 0.0
        features, geometry, mask = scaled_cells(image_features, self.image_kind, drop)
        joined = self.join(torch.cat((features, geometry), dim=-1))
        states = torch.cat((self.whole.to(joined.dtype).expand(len(joined), -1, -1), joined), dim=1)
        mask = torch.cat((mask.new_ones(len(mask), 1), mask), dim=1)
        return cast(Tensor, self.layers(states, src_key_padding_mask=~mask)), mask


def build(
    image_dim: int,
    embed_dim: int,
    image_kind: str = "global",
    width: int = 512,
    num_layers: int = 2,
    dropout: float = 0.1,
    cell_dropout: float = 0.0,
    pooling: str = "first",
) -> TransformerImageEncoder:
    """``width``: width of the layers; ``cell_dropout``: fraction of cells dropped in training.

    Raises ValueError for a ``width`` that is not a multiple of 64.
    """
    check_argument("cell_dropout", cell_dropout, RATE)
    layers = transformer_layers(width, num_layers, dropout)
    encoder = TransformerImageEncoder(cell_depth(image_dim, image_kind), image_kind, layers, width, cell_dropout)
    encoder.pool, encoder.project = build_pooling(pooling, width), nn.Linear(width, embed_dim)
    return encoder
