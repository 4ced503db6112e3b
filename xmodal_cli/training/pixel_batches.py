"""Batches of images that are loaded from pixels in background threads during training.

The order is that of the batches it wraps, so it depends only on seed and epoch; the augmentation of an image depends
only on (seed, epoch, image). The number of threads does not change the result.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from random import Random

import torch
from torch import Tensor

from xmodal_cli.training.batches import Batch, EpochBatches

AHEAD = 3  # batches prefetched, the one in use not counted
Opener = Callable[
    [int, Random], Tensor
]  # image position -> (3, height, width) uint8; the generator is for augmentation


@dataclass(frozen=True)
class _Pending:
    """A batch without its images, and the images that are being loaded."""

    batch: Batch
    images: list[Future[Tensor]]


class PixelBatches:
    """The batches of ``numbered``, their ``image_features`` (images, 3, height, width) uint8 instead of positions."""

    def __init__(
        self,
        numbered: EpochBatches,
        opener: Opener,
        seed: int,
        device: str = "cpu",
        num_threads: int | None = None,
    ) -> None:
        """``numbered``: batches on the CPU whose ``image_features`` are the image positions that ``opener`` takes.

        For example ``CaptionBatches(torch.arange(num_images), ...)``. Batches are moved to ``device``.
        """
        self._numbered, self._open = numbered, opener
        self._seed, self._device = seed, device
        self._num_threads = num_threads or min(os.cpu_count() or 1, 16)

    def __len__(self) -> int:
        """Number of batches per epoch."""
        return len(self._numbered)

    def epoch(self, number: int) -> Iterator[Batch]:
        """The batches of epoch ``number``, the same at each call. Raises what ``opener`` raises."""
        with ThreadPoolExecutor(self._num_threads, thread_name_prefix="pixels") as pool:
            queue: deque[_Pending] = deque()
            try:
                for batch in self._numbered.epoch(number):
                    queue.append(self._submit(pool, batch, number))
                    if len(queue) > AHEAD:
                        yield self._finish(queue.popleft())
                while queue:
                    yield self._finish(queue.popleft())
            finally:
                for pending in queue:
                    for image in pending.images:
                        image.cancel()

    def _submit(self, pool: ThreadPoolExecutor, batch: Batch, epoch: int) -> _Pending:
        positions = batch.image_features.tolist()
        return _Pending(batch, [pool.submit(self._open_image, image, epoch) for image in positions])

    def _open_image(self, image: int, epoch: int) -> Tensor:
        return self._open(image, Random(f"{self._seed}/{epoch}/{image}"))

    def _finish(self, pending: _Pending) -> Batch:
        try:
            pixels = torch.stack([image.result() for image in pending.images])
        except BaseException:
            for image in pending.images:
                image.cancel()
            raise
        batch = pending.batch
        moved = {name: getattr(batch, name).to(self._device) for name in ("tokens", "lengths", "image_of_caption")}
        return replace(batch, image_features=self._move(pixels), **moved)

    def _move(self, pixels: Tensor) -> Tensor:
        if not self._device.startswith("cuda"):
            return pixels.to(self._device)
        return pixels.pin_memory().to(self._device, non_blocking=True)
