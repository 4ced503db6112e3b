"""A network with its preprocessing as an image backbone; heads that turn feature maps into features."""

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

    from xmodal_cli.device import Compute


class NetworkBackbone:
    """An ``ImageBackbone`` around a module that maps normalized images to features."""

    def __init__(self, network: nn.Module, preprocessing: Preprocessing, meta: FeatureMeta, weights_file: Path) -> None:
        self.meta = meta
        self.weights_file: Path | None = weights_file
        self.tower = PixelTower(network.eval(), preprocessing)
        self.preprocessing = preprocessing
        self._device, self._dtype = torch.device("cpu"), torch.float32

    def preprocess(self, image: Image.Image) -> Tensor:
        return self.preprocessing.pixels(image)

    def to(self, compute: Compute) -> None:
        # pure bfloat16 is faster than autocast and as accurate (cosine to float32 at least 0.997)
        self._device, self._dtype = torch.device(compute.device), compute.dtype
        self.tower.network.to(self._device, self._dtype).to(memory_format=torch.channels_last)

    def encode(self, pixels: Tensor) -> Tensor:
        with torch.inference_mode():
            on_device = pixels.to(self._device, non_blocking=True)
            output: Tensor = self.tower.network(self.preprocessing.normalize(on_device, self._dtype))
            return output


class PixelTower(nn.Module):
    """(images, 3, height, width) uint8 -> features (images, dim) or (images, cells, dim), with gradients.

    The parameters are those of ``network``; mean and standard deviation are not in the state dict.
    """

    def __init__(self, network: nn.Module, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.network = network
        self._preprocessing = preprocessing

    def forward(self, pixels: Tensor) -> Tensor:
        features: Tensor = self.network(self._preprocessing.normalize(pixels, torch.float32))
        return features


class PixelBackbone:
    """An ``ImageBackbone`` whose features are the preprocessed pixels, for models that contain the backbone."""

    def __init__(self, backbone: ImageBackbone) -> None:
        self.meta = replace(backbone.meta, kind="pixels", dim=3)
        self.weights_file = backbone.weights_file
        self._backbone = backbone

    def preprocess(self, image: Image.Image) -> Tensor:
        pixels: Tensor = self._backbone.preprocess(image)
        return pixels

    def to(self, compute: Compute) -> None:
        """Nothing to move."""

    def encode(self, pixels: Tensor) -> Tensor:
        return pixels


def assemble(
    network: nn.Module, preprocessing: Preprocessing, name: str, kind: str, weights_file: Path
) -> NetworkBackbone:
    """Wrap ``network``; the feature dimension is that of its output for one dummy image."""
    network.eval()
    with torch.no_grad():  # not inference_mode: tensors that a network caches here are also used in training
        dim = network(torch.zeros(1, 3, preprocessing.size, preprocessing.size)).shape[-1]
    meta = FeatureMeta(name, cached_fingerprint(weights_file), kind, dim, preprocessing.facts(), preprocessing.crops)
    return NetworkBackbone(network, preprocessing, meta, weights_file)


class UpperBlocks(nn.Module):
    """The blocks above a trunk: (images, views * cells, depth) -> (images, views * cells, dim), or their mean.

    In training, one of the views of each image (the image and its mirror image) is sampled per forward pass.
    """

    def __init__(self, blocks: nn.Module, kind: str, num_cells: int) -> None:
        super().__init__()
        self.blocks, self.kind, self.num_cells = blocks, kind, num_cells

    def forward(self, cells: Tensor) -> Tensor:
        views = sample_view(cells, self.num_cells, self.training)
        side = math.isqrt(self.num_cells)
        maps = views.reshape(-1, side, side, cells.shape[-1]).permute(0, 3, 1, 2)  # channels last in memory
        output: Tensor = self.blocks(maps).flatten(2).transpose(1, 2)
        output = output.reshape(cells.shape[0], -1, output.shape[-1])
        return output.mean(1) if self.kind == "global" else output


def sample_view(cells: Tensor, num_cells: int, training: bool) -> Tensor:
    """(images, views * cells, depth) -> (images, views, cells, depth) float32; in training one random view of each."""
    views = cells.float().reshape(cells.shape[0], -1, num_cells, cells.shape[-1])
    if training and views.shape[1] > 1:
        view = torch.randint(views.shape[1], (len(views),), device=views.device)
        views = views[torch.arange(len(views), device=views.device), view][:, None]
    return views


class Cells(nn.Module):
    """A feature map as a sequence of cells, row by row: (images, dim, height, width) -> (images, cells, dim)."""

    def forward(self, features: Tensor) -> Tensor:
        return features.flatten(2).transpose(1, 2)


class MeanOverCells(nn.Module):
    """Global average pooling: (images, dim, height, width) -> (images, dim)."""

    def forward(self, features: Tensor) -> Tensor:
        return features.mean(dim=(2, 3), dtype=torch.float32)


def build_head(kind: str) -> nn.Module:
    """A module: convolutional feature map -> ``global`` or ``grid`` features."""
    return Cells() if kind == "grid" else MeanOverCells()
