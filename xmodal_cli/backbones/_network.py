"""What most families end in: a network, how it wants its pictures, and the record of both."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from xmodal_cli.backbones._preprocess import Preprocessing
from xmodal_cli.backbones._weights import known_fingerprint
from xmodal_cli.types import FeatureMeta

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
            output: Tensor = self.tower.network(self._preprocessing.normalise(moved, self._dtype))
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
        features: Tensor = self.network(self._preprocessing.normalise(pixels, torch.float32))
        return features


def assemble(
    network: nn.Module, preprocessing: Preprocessing, name: str, kind: str, weights_file: Path
) -> NetworkBackbone:
    """Wrap ``network``; its width is found by showing it one grey picture."""
    network.eval()
    with torch.no_grad():  # not inference_mode: what a network caches here must serve training too
        dim = network(torch.zeros(1, 3, preprocessing.size, preprocessing.size)).shape[-1]
    meta = FeatureMeta(name, known_fingerprint(weights_file), kind, dim, preprocessing.facts(), preprocessing.crops)
    return NetworkBackbone(network, preprocessing, meta, weights_file)


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
