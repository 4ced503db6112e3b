"""Training from pixels: files, a backbone's eyes and augmentation made into what ``training.pixel_batches`` opens."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from xmodal_cli.data.augmentation import Augmentation, augment
from xmodal_cli.data.images import open_image
from xmodal_cli.errors import BadData, ConfigError
from xmodal_cli.recipes.encoding import opener_for
from xmodal_cli.types import ImageBackbone, ImageTextDataset, Reporter, Silent

if TYPE_CHECKING:
    from torch import Tensor

    from xmodal_cli.training.pixel_batches import Opener


def pixel_opener(paths: Sequence[Path], backbone: ImageBackbone, augmentation: Augmentation | None = None) -> Opener:
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


def with_readable_pictures(dataset: ImageTextDataset, reporter: Reporter | None = None) -> ImageTextDataset:
    """The dataset without the images whose files cannot be decoded, which are counted and named. Raises BadData.

    For training that opens pictures as it goes: an hour later is too late to hear of the first bad file.
    """
    reporter = reporter or Silent()
    total = len(dataset.examples)
    with ThreadPoolExecutor(min(os.cpu_count() or 1, 16)) as pool, reporter.task("looking", total, "pictures") as task:
        reasons: list[str] = []
        for reason in pool.map(_reason, (example.path for example in dataset.examples)):
            reasons.append(reason)
            task.advance(1)
    bad = [reason for reason in reasons if reason]
    if len(bad) == total:
        example = f", for example: {bad[0]}" if bad else ""
        raise BadData(f"no image of {dataset.name} could be read{example}", "see `xmodal data info` for the reasons")
    if bad:
        reporter.warn(f"{len(bad)} of {total} pictures could not be read and are left out ({bad[0]})")
    kept = tuple(e for e, reason in zip(dataset.examples, reasons, strict=True) if not reason)
    return replace(dataset, examples=kept)


def _reason(path: Path | None) -> str:
    """Why the picture cannot be read, or ""; a JPEG is decoded at its smallest scale, which finds what is cut off."""
    if path is None:
        return "it has features and no picture"
    try:
        open_image(path, max_side=1)
    except BadData as error:
        return error.message
    return ""
