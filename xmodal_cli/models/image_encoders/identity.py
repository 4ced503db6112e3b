"""The unchanged image features, for towers whose output is the joint space, such as CLIP's."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from xmodal_cli.models.sequences import build_pooling, cell_depth, split_cells


class IdentityImageEncoder(nn.Module):
    """(images, [cells,] dim) -> (images, dim): the vector, or the mean of the cells."""

    def __init__(self, image_dim: int, image_kind: str) -> None:
        super().__init__()
        self.image_kind, self.out_dim = image_kind, cell_depth(image_dim, image_kind)
        self.pool = build_pooling("mean", self.out_dim)

    def forward(self, image_features: Tensor) -> Tensor:
        cells, _, mask = split_cells(image_features, self.image_kind)
        return cast(Tensor, self.pool(cells.float(), mask))


def build(image_dim: int, image_kind: str = "global") -> IdentityImageEncoder:
    """No settings; ``embed_dim`` must be the dimension of the features."""
    return IdentityImageEncoder(image_dim, image_kind)
