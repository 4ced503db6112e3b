"""Pictures to pixels. A picture is squashed to a square, never cut, so that nothing at its edges is lost
and pictures that were squashed before (as in many copies of Flickr8k) look the same to the network.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Preprocessing:
    """How one family sees a picture: a ``size`` square, less ``mean``, by ``std`` (RGB, in 0..1 terms).

    ``crops`` is 1 for the whole picture, 2 for it and its mirror image, or 10 for the four corners, the centre and
    their mirror images, cut from a square larger by 8/7 (256 for 224), as the classic ten-crop evaluation does.
    """

    size: int
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    crops: int = 1

    @property
    def side(self) -> int:
        """The side in pixels of the square that the picture is squashed to."""
        return self.size if self.crops < 10 else round(self.size * 8 / 7)

    def pixels(self, image: Image.Image) -> Tensor:
        """RGB picture -> (crops, 3, size, size) uint8, laid out channels last."""
        square = image.resize((self.side, self.side), Image.Resampling.BICUBIC)
        if self.crops == 10:
            cuts = _ten_crops(np.asarray(square), self.size)
        else:
            views = [square]
            if self.crops == 2:  # Pillow mirrors several times faster than numpy copies backwards
                views.append(square.transpose(Image.Transpose.FLIP_LEFT_RIGHT))
            cuts = np.stack([np.asarray(view) for view in views])
        return torch.from_numpy(cuts).permute(0, 3, 1, 2)

    def normalize(self, pixels: Tensor, dtype: torch.dtype) -> Tensor:
        """(pictures, 3, size, size) uint8 -> the same shape as the network wants it, in ``dtype``."""
        mean = torch.tensor(self.mean, device=pixels.device).view(3, 1, 1) * 255
        std = torch.tensor(self.std, device=pixels.device).view(3, 1, 1) * 255
        return ((pixels - mean) / std).to(dtype)

    def facts(self) -> dict[str, Any]:
        """What ``FeatureMeta.preprocessing`` records; survives JSON unchanged."""
        return {
            "fit": "squash",
            "resample": "bicubic",
            "side": self.side,
            "size": self.size,
            "mean": list(self.mean),
            "std": list(self.std),
        }


def _ten_crops(whole: np.ndarray, size: int) -> np.ndarray:
    """(side, side, 3) -> (10, size, size, 3): corners, centre, then the mirror image of each."""
    margin = whole.shape[0] - size
    corners = [(0, 0), (0, margin), (margin, 0), (margin, margin), (margin // 2, margin // 2)]
    five = np.stack([whole[y : y + size, x : x + size] for y, x in corners])
    return np.concatenate([five, five[:, :, ::-1]])
