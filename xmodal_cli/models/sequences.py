"""What encoders of sequences share: masks, cells with their places, poolings by name."""

from __future__ import annotations

import math
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from xmodal_cli import catalog
from xmodal_cli.regions import REGION_COLUMNS
from xmodal_cli.settings import POSITIVE, RATE, check_argument

HEAD = 64  # coordinates of an attention head
GEOMETRY = 5  # corners and area of a cell, as shares of the picture


class Pooling(Protocol):
    """(items, longest, dim) states, (items, longest) bool mask -> (items, dim)."""

    def __call__(self, states: Tensor, mask: Tensor) -> Tensor: ...


def drop_places(mask: Tensor, rate: float) -> Tensor:
    """``mask`` with each place left out at ``rate``; the first place of every item that has one stays."""
    if not rate:
        return mask
    kept = torch.rand(mask.shape, device=mask.device) >= rate
    kept |= (mask.cumsum(1) == 1) & mask
    return mask & kept


def split_cells(image_features: Tensor, kind: str) -> tuple[Tensor, Tensor, Tensor]:
    """(images, [cells,] dim) -> vectors (images, cells, depth), geometry (images, cells, 5), mask (images, cells).

    One cell, the whole picture, for ``global`` features; for ``regions`` the columns ``REGION_COLUMNS`` are taken
    off, and rows without area are outside the mask.
    """
    cells = image_features[:, None] if image_features.ndim == 2 else image_features
    if kind == "regions":
        depth = cells.shape[-1] - len(REGION_COLUMNS)
        geometry = cells[..., depth : depth + GEOMETRY].float()
        return cells[..., :depth], geometry, geometry[..., -1] > 0
    places = grid_geometry(cells.shape[1]).to(cells.device)
    return cells, places.expand(len(cells), -1, -1), cells.new_ones(cells.shape[:2], dtype=torch.bool)


def scaled_cells(image_features: Tensor, kind: str, drop: float = 0.0) -> tuple[Tensor, Tensor, Tensor]:
    """``split_cells`` with float32 vectors of a mean square of 1 over each image, whatever the backbone.

    Cells keep their sizes among each other: in a network's last features the larger ones are those that matter.
    ``drop`` is the share of cells to leave out.
    """
    cells, geometry, mask = split_cells(image_features, kind)
    mask = drop_places(mask, drop)
    cells = cells.float() * mask[..., None]
    held = (mask.sum(1)[:, None, None] * cells.shape[-1]).clamp(min=1)
    size = (cells.square().sum((1, 2), keepdim=True) / held).sqrt().clamp(min=1e-6)
    return cells / size, geometry.to(cells.device), mask


def grid_geometry(num_cells: int) -> Tensor:
    """(cells, 5): corners and area of the cells of a square grid, row by row; one column where it is not square."""
    side = math.isqrt(num_cells)
    width = side if side * side == num_cells else 1
    height = num_cells // width
    row = torch.arange(num_cells) // width
    column = torch.arange(num_cells) % width
    corners = (column / width, row / height, (column + 1) / width, (row + 1) / height)
    return torch.stack((*corners, torch.full((num_cells,), 1 / num_cells)), dim=-1)


def positional_encoding(length: int, dim: int) -> Tensor:
    """(length, dim): sines and cosines of the place, from quick to slow (arXiv 1706.03762, section 3.5)."""
    places = torch.arange(length, dtype=torch.float32)[:, None]
    rates = torch.exp(torch.arange(0, dim, 2, dtype=torch.float32) * (-math.log(10_000.0) / dim))
    return torch.stack((torch.sin(places * rates), torch.cos(places * rates)), dim=-1).flatten(1)[:, :dim]


def cell_depth(image_dim: int, kind: str) -> int:
    """Length of a cell's vector, without the columns that say where a region is."""
    return image_dim - len(REGION_COLUMNS) if kind == "regions" else image_dim


def build_pooling(name: str, dim: int) -> nn.Module:
    """The pooling called ``name``, for states of ``dim``. Raises UnknownName."""
    return cast(nn.Module, catalog.build("pooling", name, {}, dim=dim))


def transformer_layers(width: int, num_layers: int, dropout: float) -> nn.TransformerEncoder:
    """Transformer encoder layers with the norm first, four times as wide inside (arXiv 1706.03762, 2002.04745).

    Heads have 64 coordinates each. A fresh layer adds nothing to its states, so that training starts from what they
    say already; and no norm comes last, so that some states go on speaking louder than others when they are pooled.
    Raises ValueError for a larger ``width`` that 64 does not divide, less than one layer, and a ``dropout`` outside
    [0, 1).
    """
    for name, value in (("width", width), ("num_layers", num_layers)):
        check_argument(name, value, POSITIVE)
    check_argument("dropout", dropout, RATE)
    num_heads = max(1, width // HEAD)
    if width > HEAD and width % HEAD:
        raise ValueError(f"transformer layers need a width that {HEAD} divides, not {width}")
    layer = nn.TransformerEncoderLayer(
        width, num_heads, 4 * width, dropout, activation="gelu", batch_first=True, norm_first=True
    )
    layers = nn.TransformerEncoder(layer, num_layers, enable_nested_tensor=False)
    for block in layers.layers:
        for last in (block.self_attn.out_proj, block.linear2):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
    return layers
