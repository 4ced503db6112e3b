"""Open image files as pixels for training: a backbone's preprocessing, with optional augmentation."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import torch

from xmodal_cli.data.augmentation import Augmentation, augment
from xmodal_cli.errors import ConfigError
from xmodal_cli.features.extraction import decoded_side
from xmodal_cli.types import ImageBackbone

if TYPE_CHECKING:
    from torch import Tensor


def pixel_opener(
    paths: Sequence[Path], backbone: ImageBackbone, augmentation: Augmentation | None = None
) -> Callable[[int, Random], Tensor]:
    """Image index -> (3, side, side) uint8, augmented if ``augmentation`` is given, and preprocessed.

    ``paths`` may be in tar archives, which are not extracted. It raises BadData that names an unreadable file. Raises
    ConfigError for a backbone with several crops, BadData for a member that an archive does not have.
    """
    from xmodal_cli.data.images import ImageReader
    from xmodal_cli.data.indexed_images import IndexedImages

    if backbone.meta.crops != 1:
        raise ConfigError(
            "pixels for training need one crop per image", "use features.crops=1; augmentation crops at random"
        )
    reader, files, side = ImageReader(), IndexedImages(paths), decoded_side(backbone)

    def open_pixels(index: int, random: Random) -> Tensor:
        image = reader.open(paths[index], side, lambda _: files.open_bytes(index))
        if augmentation is not None:
            image = augment(image, augmentation, random)
        pixels: Tensor = backbone.preprocess(image)[0]
        return pixels

    return open_pixels


def pixel_batches(paths: Sequence[Path], backbone: ImageBackbone, size: int) -> Iterator[Tensor]:
    """(images, 3, side, side) uint8, ``size`` images at a time and in order, read in threads one batch ahead.

    Raises BadData that names an unreadable file.
    """
    opener = pixel_opener(paths, backbone)
    queue: deque[list[Future[Tensor]]] = deque()
    with ThreadPoolExecutor(min(os.cpu_count() or 1, 16), "pixels") as pool:
        for start in range(0, len(paths), size):
            indices = range(start, min(start + size, len(paths)))
            queue.append([pool.submit(opener, index, Random(0)) for index in indices])
            if len(queue) > 1:
                yield _stack(queue.popleft())
        while queue:
            yield _stack(queue.popleft())


def _stack(images: Sequence[Future[Tensor]]) -> Tensor:
    try:
        return torch.stack([image.result() for image in images])
    except BaseException:
        for image in images:
            image.cancel()
        raise
