"""Random views of a picture for training: a part of it, mirrored perhaps, in slightly other colours. Knows Pillow only.

Random resized crops are those of Szegedy et al. 2015. All chance comes from the generator that is passed in.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from random import Random

from PIL import Image, ImageEnhance

TRIES = 10  # boxes drawn before the largest one of a fitting shape is taken


@dataclass(frozen=True)
class Augmentation:
    """``scale`` is the share of the area that is kept, ``ratio`` width by height relative to the picture's own.

    ``flip`` is the chance of a mirror image; ``jitter`` the most by which brightness, contrast and saturation change
    (0.2: between 0.8 and 1.2 times), 0 for none.
    """

    scale: tuple[float, float] = (0.6, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.5
    jitter: float = 0.0

    def __post_init__(self) -> None:
        """Raises ValueError."""
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise ValueError(f"scale must be two shares in 0..1, the smaller first, not {self.scale}")
        if not 0 < self.ratio[0] <= self.ratio[1]:
            raise ValueError(f"ratio must be two positive numbers, the smaller first, not {self.ratio}")
        if not (0 <= self.flip <= 1 and 0 <= self.jitter < 1):
            raise ValueError(f"flip must be in 0..1 and jitter in 0..1, not {self.flip} and {self.jitter}")


def augment(image: Image.Image, settings: Augmentation, random: Random) -> Image.Image:
    """RGB picture -> a random view of it, of the size of the part that is kept."""
    view = image.crop(draw_box(image.size, settings, random))
    if random.random() < settings.flip:
        view = view.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return _jitter(view, settings.jitter, random) if settings.jitter else view


def draw_box(size: tuple[int, int], settings: Augmentation, random: Random) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) inside a picture of (width, height)."""
    width, height = size
    low, high = (math.log(r) for r in settings.ratio)
    for _ in range(TRIES):
        area = random.uniform(*settings.scale)
        shape = math.exp(random.uniform(low, high))
        wide, tall = round(width * math.sqrt(area * shape)), round(height * math.sqrt(area / shape))
        if 0 < wide <= width and 0 < tall <= height:
            left, top = random.randint(0, width - wide), random.randint(0, height - tall)
            return left, top, left + wide, top + tall
    return 0, 0, width, height


def _jitter(view: Image.Image, most: float, random: Random) -> Image.Image:
    for change in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        view = change(view).enhance(random.uniform(1 - most, 1 + most))
    return view
