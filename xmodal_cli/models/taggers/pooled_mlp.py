"""Pooled image features, standardized, through one hidden layer to a logit per tag."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from xmodal_cli.models.sequences import build_pooling, cell_depth, split_cells
from xmodal_cli.settings import LAYERS, RATE, check_argument


class PooledMLP(nn.Module):
    """(images, [cells,] image_dim) -> (images, tags) logits."""

    def __init__(self, poolings: list[nn.Module], depth: int, image_kind: str, layers: nn.Module) -> None:
        super().__init__()
        self.image_kind = image_kind
        self.poolings = nn.ModuleList(poolings)
        self.norm = nn.BatchNorm1d(depth * len(poolings), affine=False, momentum=None)  # mean of all batches
        self.layers = layers

    @property
    def has_fixed_pooling(self) -> bool:
        """Whether the poolings have no weights, so that training can pool each image once."""
        return not list(self.poolings.parameters())

    def forward(self, image_features: Tensor) -> Tensor:
        return self.classify(self.pool(image_features))

    def pool(self, image_features: Tensor) -> Tensor:
        """(images, [cells,] image_dim) -> (images, depth of all poolings) float32."""
        cells, _, mask = split_cells(image_features, self.image_kind)
        cells = cells.float()
        return torch.cat([pool(cells, mask) for pool in self.poolings], dim=-1)

    def classify(self, pooled: Tensor) -> Tensor:
        """Pooled features -> (images, tags) logits."""
        return cast(Tensor, self.layers(_standardize(pooled, self.norm)))


def _standardize(values: Tensor, norm: nn.BatchNorm1d) -> Tensor:
    """With the mean and variance of the batch, or of the batches so far for a batch of one image, which has none."""
    num_batches = cast(Tensor, norm.num_batches_tracked).clone()
    try:
        return cast(Tensor, norm(values))
    except ValueError:
        norm.num_batches_tracked = num_batches
        return nn.functional.batch_norm(values, norm.running_mean, norm.running_var)


def build(
    image_dim: int,
    vocab_size: int,
    embed_dim: int,
    image_kind: str = "global",
    pooling: str = "mean",
    input_dropout: float = 0.0,
    dropout: float = 0.5,
    hidden_layers: int = 1,
) -> PooledMLP:
    """``pooling``: names of poolings over the cells, joined by ``+``, whose results are concatenated: ``mean+max``.

    ``embed_dim`` is the width of the hidden layers; ``input_dropout`` is applied before the first layer, ``dropout``
    before each of the others.
    """
    check_argument("input_dropout", input_dropout, RATE)
    check_argument("dropout", dropout, RATE)
    check_argument("hidden_layers", hidden_layers, LAYERS)
    depth = cell_depth(image_dim, image_kind)
    poolings = [build_pooling(name.strip(), depth) for name in pooling.split("+")]
    layers: list[nn.Module] = [nn.Dropout(input_dropout)]
    width = depth * len(poolings)
    for _ in range(hidden_layers):
        layers += [nn.Linear(width, embed_dim), nn.GELU(), nn.Dropout(dropout)]
        width = embed_dim
    return PooledMLP(poolings, depth, image_kind, nn.Sequential(*layers, nn.Linear(width, vocab_size)))
