"""Random crops, horizontal flips and color jitter of training images, with Pillow only.

Crops are those of ``RandomResizedCrop`` (Szegedy et al. 2015). All randomness comes from the generator passed in.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from random import Random

from PIL import Image, ImageEnhance

MAX_TRIES = 10  # sampled boxes before the full image is used


@dataclass(frozen=True)
class Augmentation:
    """Ranges of the crop: ``scale``, its fraction of the area, and ``ratio``, its aspect ratio by the image's.

    ``flip`` is the probability of a horizontal flip; ``jitter`` the largest relative change of brightness, contrast and
    saturation (0.2: factors between 0.8 and 1.2; 0: none).
    """

    scale: tuple[float, float] = (0.6, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.5
    jitter: float = 0.0

    def __post_init__(self) -> None:
        """Raises ValueError for a range that is empty or out of bounds."""
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise ValueError(f"scale must be two fractions in 0..1, the smaller first, not {self.scale}")
        if not 0 < self.ratio[0] <= self.ratio[1]:
            raise ValueError(f"ratio must be two positive numbers, the smaller first, not {self.ratio}")
        if not (0 <= self.flip <= 1 and 0 <= self.jitter < 1):
            raise ValueError(f"flip must be in 0..1 and jitter in 0..1, not {self.flip} and {self.jitter}")


def augment(image: Image.Image, settings: Augmentation, random: Random) -> Image.Image:
    """A random view of an RGB image; its size is that of the crop."""
    view = image.crop(sample_box(image.size, settings, random))
    if random.random() < settings.flip:
        view = view.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return _jitter(view, settings.jitter, random) if settings.jitter else view


def sample_box(size: tuple[int, int], settings: Augmentation, random: Random) -> tuple[int, int, int, int]:
    """A random crop (left, top, right, bottom) of an image of (width, height)."""
    width, height = size
    low, high = (math.log(r) for r in settings.ratio)
    for _ in range(MAX_TRIES):
        area = random.uniform(*settings.scale)
        ratio = math.exp(random.uniform(low, high))
        crop_width, crop_height = round(width * math.sqrt(area * ratio)), round(height * math.sqrt(area / ratio))
        if 0 < crop_width <= width and 0 < crop_height <= height:
            left, top = random.randint(0, width - crop_width), random.randint(0, height - crop_height)
            return left, top, left + crop_width, top + crop_height
    return 0, 0, width, height


def _jitter(view: Image.Image, strength: float, random: Random) -> Image.Image:
    for enhancer in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        view = enhancer(view).enhance(random.uniform(1 - strength, 1 + strength))
    return view
