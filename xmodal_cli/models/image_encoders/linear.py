"""One linear map from image features to the joint space, as in VSE, order embeddings and VSE++."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn


class LinearImageEncoder(nn.Module):
    """(images, image_dim) -> (images, embed_dim); features are scaled to unit length first if asked."""

    def __init__(self, image_dim: int, embed_dim: int, normalize: bool, dropout: float) -> None:
        super().__init__()
        self.normalize = normalize
        self.dropout = nn.Dropout(dropout)
        self.project = nn.Linear(image_dim, embed_dim)
        nn.init.xavier_uniform_(self.project.weight)
        nn.init.zeros_(self.project.bias)

    def forward(self, image_features: Tensor) -> Tensor:
        features = image_features.float()
        if self.normalize:
            features = nn.functional.normalize(features, dim=-1)
        return cast(Tensor, self.project(self.dropout(features)))


def build(image_dim: int, embed_dim: int, normalize: bool = True, dropout: float = 0.0) -> LinearImageEncoder:
    """``normalize``: unit-length features, so that one learning rate suits every backbone."""
    return LinearImageEncoder(image_dim, embed_dim, normalize, dropout)
