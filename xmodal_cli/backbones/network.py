"""What most families end in: a network, how it wants its pictures, and the record of both."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from xmodal_cli.backbones.preprocessing import Preprocessing
from xmodal_cli.backbones.weights import cached_fingerprint
from xmodal_cli.types import FeatureMeta, ImageBackbone

if TYPE_CHECKING:
    from PIL import Image


class NetworkBackbone:
    """An ``ImageBackbone`` around any module that maps normalised pictures to features."""

    def __init__(self, network: nn.Module, preprocessing: Preprocessing, meta: FeatureMeta, weights_file: Path) -> None:
        self.meta = meta
        self.weights_file: Path | None = weights_file
        self.tower = PixelTower(network.eval(), preprocessing)
        self._preprocessing = preprocessing
        self._device, self._dtype = torch.device("cpu"), torch.float32

    def preprocess(self, image: Image.Image) -> Tensor:
        return self._preprocessing.pixels(image)

    def to(self, device: str, dtype: torch.dtype) -> None:
        # the whole network in bfloat16 is faster than autocast and as near to float32 (cosine 0.997 or more)
        self._device, self._dtype = torch.device(device), dtype
        self.tower.network.to(self._device, dtype).to(memory_format=torch.channels_last)

    def encode(self, pixels: Tensor) -> Tensor:
        with torch.inference_mode():
            moved = pixels.to(self._device, non_blocking=True)
            output: Tensor = self.tower.network(self._preprocessing.normalize(moved, self._dtype))
            return output


class PixelTower(nn.Module):
    """(pictures, 3, height, width) uint8 -> features (pictures, dim) or (pictures, cells, dim), with gradients.

    The parameters are those of ``network``; what the pictures are normalised with moves along and is not saved.
    """

    def __init__(self, network: nn.Module, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.network = network
        self._preprocessing = preprocessing

    def forward(self, pixels: Tensor) -> Tensor:
        features: Tensor = self.network(self._preprocessing.normalize(pixels, torch.float32))
        return features


class PixelBackbone:
    """An ``ImageBackbone`` that gives a backbone's view of a picture, its pixels, for a model with the rest inside."""

    def __init__(self, eyes: ImageBackbone) -> None:
        self.meta = replace(eyes.meta, kind="pixels", dim=3)
        self.weights_file = eyes.weights_file
        self._eyes = eyes

    def preprocess(self, image: Image.Image) -> Tensor:
        pixels: Tensor = self._eyes.preprocess(image)
        return pixels

    def to(self, device: str, dtype: torch.dtype) -> None:
        """Nothing to move."""

    def encode(self, pixels: Tensor) -> Tensor:
        return pixels


def assemble(
    network: nn.Module, preprocessing: Preprocessing, name: str, kind: str, weights_file: Path
) -> NetworkBackbone:
    """Wrap ``network``; its width is found by showing it one grey picture."""
    network.eval()
    with torch.no_grad():  # not inference_mode: what a network caches here must serve training too
        dim = network(torch.zeros(1, 3, preprocessing.size, preprocessing.size)).shape[-1]
    meta = FeatureMeta(name, cached_fingerprint(weights_file), kind, dim, preprocessing.facts(), preprocessing.crops)
    return NetworkBackbone(network, preprocessing, meta, weights_file)


class UpperBlocks(nn.Module):
    """The blocks above a trunk: (pictures, views * cells, depth) -> (pictures, views * cells, dim), or their mean.

    In training one of a picture's views, the picture and its mirror image, is drawn anew each time.
    """

    def __init__(self, blocks: nn.Module, kind: str, num_cells: int) -> None:
        super().__init__()
        self.blocks, self.kind, self.num_cells = blocks, kind, num_cells

    def forward(self, cells: Tensor) -> Tensor:
        views = cells.float().reshape(len(cells), -1, self.num_cells, cells.shape[-1])
        if self.training and views.shape[1] > 1:
            drawn = torch.randint(views.shape[1], (len(views),), device=views.device)
            views = views[torch.arange(len(views), device=views.device), drawn][:, None]
        side = math.isqrt(self.num_cells)
        maps = views.reshape(-1, side, side, cells.shape[-1]).permute(0, 3, 1, 2)  # channels last in memory
        output: Tensor = self.blocks(maps).flatten(2).transpose(1, 2)
        output = output.reshape(len(cells), -1, output.shape[-1])
        return output.mean(1) if self.kind == "global" else output


class Cells(nn.Module):
    """A feature map as a list of cells, row by row: (pictures, dim, height, width) -> (pictures, cells, dim)."""

    def forward(self, features: Tensor) -> Tensor:
        return features.flatten(2).transpose(1, 2)


class MeanOverCells(nn.Module):
    """Global average pooling: (pictures, dim, height, width) -> (pictures, dim)."""

    def forward(self, features: Tensor) -> Tensor:
        return features.mean(dim=(2, 3), dtype=torch.float32)


def head(kind: str) -> nn.Module:
    """What turns a convolutional feature map into ``global`` or ``grid`` features."""
    return Cells() if kind == "grid" else MeanOverCells()
