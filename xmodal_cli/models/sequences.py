"""Shared parts of sequence encoders: masks, cells with their geometry, poolings, transformer layers."""

from __future__ import annotations

import math
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from xmodal_cli import catalog
from xmodal_cli.regions import REGION_COLUMNS
from xmodal_cli.settings import LAYERS, POSITIVE, RATE, check_argument

HEAD_DIM = 64  # dimension of an attention head
GEOMETRY_DIM = 5  # corners and area of a cell, as fractions of the image


class Pooling(Protocol):
    """(items, longest, dim) states, (items, longest) bool mask -> (items, dim)."""

    def __call__(self, states: Tensor, mask: Tensor) -> Tensor: ...


def drop_positions(mask: Tensor, rate: float) -> Tensor:
    """Drop positions of ``mask`` (items, longest) with probability ``rate``, but never the first one of an item."""
    if not rate:
        return mask
    keep = torch.rand(mask.shape, device=mask.device) >= rate
    keep |= (mask.cumsum(1) == 1) & mask
    return mask & keep


def split_cells(image_features: Tensor, kind: str) -> tuple[Tensor, Tensor, Tensor]:
    """(images, [cells,] dim) -> vectors (images, cells, depth), geometry (images, cells, 5), mask (images, cells).

    ``global`` features are one cell that covers the image. For ``regions`` the columns ``REGION_COLUMNS`` are removed,
    and rows without area are outside the mask.
    """
    cells = image_features[:, None] if image_features.ndim == 2 else image_features
    if kind == "regions":
        depth = cells.shape[-1] - len(REGION_COLUMNS)
        geometry = cells[..., depth : depth + GEOMETRY_DIM].float()
        return cells[..., :depth], geometry, geometry[..., -1] > 0
    geometry = grid_geometry(cells.shape[1]).to(cells.device)
    return cells, geometry.expand(cells.shape[0], -1, -1), cells.new_ones(cells.shape[:2], dtype=torch.bool)


def scaled_cells(image_features: Tensor, kind: str, drop: float = 0.0) -> tuple[Tensor, Tensor, Tensor]:
    """``split_cells``, with float32 vectors scaled to a mean square of 1 per image, so that all backbones are alike.

    The relative norms of the cells are preserved, because cells with larger features matter more. ``drop`` is the
    fraction of cells to drop.
    """
    cells, geometry, mask = split_cells(image_features, kind)
    mask = drop_positions(mask, drop)
    cells = cells.float() * mask[..., None]
    num_values = (mask.sum(1)[:, None, None] * cells.shape[-1]).clamp(min=1)
    scale = (cells.square().sum((1, 2), keepdim=True) / num_values).sqrt().clamp(min=1e-6)
    return cells / scale, geometry.to(cells.device), mask


def grid_geometry(num_cells: int) -> Tensor:
    """(cells, 5): corners and area of the cells of a square grid in row-major order; else of a single column."""
    side = math.isqrt(num_cells)
    width = side if side * side == num_cells else 1
    height = num_cells // width
    row = torch.arange(num_cells) // width
    column = torch.arange(num_cells) % width
    corners = (column / width, row / height, (column + 1) / width, (row + 1) / height)
    return torch.stack((*corners, torch.full((num_cells,), 1 / num_cells)), dim=-1)


def positional_encoding(length: int, dim: int) -> Tensor:
    """(length, dim): sines and cosines of the position, from high to low frequency (arXiv 1706.03762, section 3.5)."""
    positions = torch.arange(length, dtype=torch.float32)[:, None]
    frequencies = torch.exp(torch.arange(0, dim, 2, dtype=torch.float32) * (-math.log(10_000.0) / dim))
    return torch.stack((torch.sin(positions * frequencies), torch.cos(positions * frequencies)), dim=-1).flatten(1)[
        :, :dim
    ]


def cell_depth(image_dim: int, kind: str) -> int:
    """Dimension of the vector of a cell, without ``REGION_COLUMNS``."""
    return image_dim - len(REGION_COLUMNS) if kind == "regions" else image_dim


def build_pooling(name: str, dim: int) -> nn.Module:
    """The pooling called ``name``, for states of ``dim``. Raises UnknownName."""
    return cast(nn.Module, catalog.build("pooling", name, {}, dim=dim))


def transformer_layers(width: int, num_layers: int, dropout: float) -> nn.TransformerEncoder:
    """Pre-norm transformer encoder layers with a feed-forward size of ``4 * width`` (arXiv 1706.03762, 2002.04745).

    The head dimension is 64. The output projections are initialized to zero, so that a new layer is the identity.
    Without a final norm, states keep their relative norms when they are pooled. Raises ValueError for a ``width``
    above 64 that is not a multiple of 64, fewer than one layer, or a ``dropout`` outside [0, 1).
    """
    check_argument("width", width, POSITIVE)
    check_argument("num_layers", num_layers, LAYERS)
    check_argument("dropout", dropout, RATE)
    num_heads = max(1, width // HEAD_DIM)
    if width > HEAD_DIM and width % HEAD_DIM:
        raise ValueError(f"the width of transformer layers must be a multiple of {HEAD_DIM}, not {width}")
    layer = nn.TransformerEncoderLayer(
        width, num_heads, 4 * width, dropout, activation="gelu", batch_first=True, norm_first=True
    )
    layers = nn.TransformerEncoder(layer, num_layers, enable_nested_tensor=False)
    for block in layers.layers:
        for output in (block.self_attn.out_proj, block.linear2):
            nn.init.zeros_(output.weight)
            nn.init.zeros_(output.bias)
    return layers


def post_norm_layers(
    width: int, num_layers: int, dropout: float, num_heads: int, feed_forward: int
) -> nn.TransformerEncoder:
    """Transformer encoder layers of arXiv 1706.03762: post-norm with ReLU, in PyTorch's initialization.

    Raises ValueError for a ``width`` that is not a multiple of ``num_heads``, a size below 1, or a ``dropout`` outside
    [0, 1).
    """
    check_argument("num_layers", num_layers, LAYERS)
    for name, value in {"width": width, "num_heads": num_heads, "feed_forward": feed_forward}.items():
        check_argument(name, value, POSITIVE)
    check_argument("dropout", dropout, RATE)
    if width % num_heads:
        raise ValueError(f"the width of transformer layers must be a multiple of num_heads, {num_heads}, not {width}")
    layer = nn.TransformerEncoderLayer(width, num_heads, feed_forward, dropout, activation="relu", batch_first=True)
    return nn.TransformerEncoder(layer, num_layers, enable_nested_tensor=False)
