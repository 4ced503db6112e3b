"""The image encoder of TERN as published: post-norm transformer layers over regions and their boxes.

Messina et al. (arXiv 2004.09144) and the code of its authors: features and boxes are concatenated, then linear, ReLU,
linear. The token for the whole image is a row of zeros before this projection. Features are not scaled.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from xmodal_cli.models.sequences import GEOMETRY_DIM, build_pooling, cell_depth, post_norm_layers, split_cells


class PostNormTransformerImageEncoder(nn.Module):
    """(images, [cells,] image_dim) -> (images, embed_dim); ``states`` returns the states before pooling."""

    def __init__(self, depth: int, image_kind: str, layers: nn.TransformerEncoder, width: int) -> None:
        super().__init__()
        self.image_kind, self.state_dim = image_kind, width
        self.join = nn.Sequential(nn.Linear(depth + GEOMETRY_DIM, width), nn.ReLU(), nn.Linear(width, width))
        self.layers = layers
        self.pool: nn.Module = nn.Identity()
        self.project: nn.Module = nn.Identity()

    def forward(self, image_features: Tensor) -> Tensor:
        return cast(Tensor, self.project(self.pool(*self.states(image_features))))

    def states(self, image_features: Tensor) -> tuple[Tensor, Tensor]:
        """(images, 1 + cells, state_dim), (images, 1 + cells) bool; the first state is that of the image token."""
        cells, geometry, mask = split_cells(image_features, self.image_kind)
        rows = torch.cat((cells.float() * mask[..., None], geometry), dim=-1)
        states = self.join(nn.functional.pad(rows, (0, 0, 1, 0)))
        mask = nn.functional.pad(mask, (1, 0), value=True)
        return cast(Tensor, self.layers(states, src_key_padding_mask=~mask)), mask


def build(
    image_dim: int,
    embed_dim: int,
    image_kind: str = "global",
    width: int = 2048,
    num_layers: int = 4,
    dropout: float = 0.1,
    num_heads: int = 4,
    feed_forward: int = 2048,
) -> PostNormTransformerImageEncoder:
    """``width``: width of the layers; ``feed_forward``: their hidden size. The defaults are those of the paper.

    Raises ValueError for a ``width`` that is not a multiple of ``num_heads``.
    """
    layers = post_norm_layers(width, num_layers, dropout, num_heads, feed_forward)
    encoder = PostNormTransformerImageEncoder(cell_depth(image_dim, image_kind), image_kind, layers, width)
    encoder.pool, encoder.project = build_pooling("first", width), nn.Linear(width, embed_dim)
    return encoder
