"""Preprocessing of images. An image is resized to a square without cropping, so that its edges are kept, and images
that were already resized to a square (as in many copies of Flickr8k) get the same features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    import torch
    from torch import Tensor

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Preprocessing:
    """Resize to a square of ``size`` pixels, subtract ``mean``, divide by ``std`` (RGB, in [0, 1]).

    ``crops`` is 1 for the whole image, 2 for the image and its mirror image, or 10 for the four corners, the center and
    their mirror images, cropped from a square larger by 8/7 (256 for 224), as in standard ten-crop evaluation.
    """

    size: int
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    crops: int = 1

    @property
    def side(self) -> int:
        """The side in pixels of the square that the image is resized to."""
        return self.size if self.crops < 10 else round(self.size * 8 / 7)

    def pixels(self, image: Image.Image) -> Tensor:
        """``array`` as a tensor."""
        import torch

        return torch.from_numpy(self.array(image))

    def array(self, image: Image.Image) -> np.ndarray:
        """RGB image -> (crops, 3, size, size) uint8, laid out channels last."""
        square = image.resize((self.side, self.side), Image.Resampling.BICUBIC)
        if self.crops == 10:
            views = _ten_crops(np.asarray(square), self.size)
        else:
            images = [square]
            if self.crops == 2:  # Pillow flips several times faster than numpy
                images.append(square.transpose(Image.Transpose.FLIP_LEFT_RIGHT))
            views = np.stack([np.asarray(image) for image in images])
        return views.transpose(0, 3, 1, 2)

    def normalize(self, pixels: Tensor, dtype: torch.dtype) -> Tensor:
        """(images, 3, size, size) uint8 -> the same shape, normalized, in ``dtype``."""
        import torch

        mean = torch.tensor(self.mean, device=pixels.device).view(3, 1, 1) * 255
        std = torch.tensor(self.std, device=pixels.device).view(3, 1, 1) * 255
        return ((pixels - mean) / std).to(dtype)

    def facts(self) -> dict[str, Any]:
        """The record for ``FeatureMeta.preprocessing``, which JSON preserves."""
        return {
            "fit": "squash",
            "resample": "bicubic",
            "side": self.side,
            "size": self.size,
            "mean": list(self.mean),
            "std": list(self.std),
        }


def _ten_crops(square: np.ndarray, size: int) -> np.ndarray:
    """(side, side, 3) -> (10, size, size, 3): corners, center, then the mirror image of each."""
    margin = square.shape[0] - size
    origins = [(0, 0), (0, margin), (margin, 0), (margin, margin), (margin // 2, margin // 2)]
    crops = np.stack([square[y : y + size, x : x + size] for y, x in origins])
    return np.concatenate([crops, crops[:, :, ::-1]])
