"""Open image files as pixels for training: a backbone's preprocessing, with optional augmentation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from xmodal_cli.data.augmentation import Augmentation, augment
from xmodal_cli.errors import ConfigError
from xmodal_cli.features.extraction import opener_for
from xmodal_cli.types import ImageBackbone

if TYPE_CHECKING:
    from torch import Tensor


def pixel_opener(
    paths: Sequence[Path], backbone: ImageBackbone, augmentation: Augmentation | None = None
) -> Callable[[int, Random], Tensor]:
    """Picture number -> (3, side, side) uint8 as ``backbone`` sees it, after ``augmentation`` if there is one.

    What is returned raises BadData that names the file. Raises ConfigError for a backbone of ten crops.
    """
    if backbone.meta.crops != 1:
        raise ConfigError("ten crops cannot be trained from", "use crops = 1; augmentation cuts at random")
    open_file = opener_for(backbone)

    def picture(number: int, random: Random) -> Tensor:
        image = open_file(paths[number])
        if augmentation is not None:
            image = augment(image, augmentation, random)
        return backbone.preprocess(image)[0]

    return picture
