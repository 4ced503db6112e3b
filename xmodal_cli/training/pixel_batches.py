"""Batches whose images are opened while training goes on, in threads beside it. Knows no files: it is given what opens.

The plan is that of the batches it is built on, so it depends on seed and epoch alone; so does what an image looks
like, which is drawn from (seed, epoch, image). How many threads there are makes no difference to what comes out.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from random import Random
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from xmodal_cli.training.batches import Batch

if TYPE_CHECKING:
    from xmodal_cli.training.loop import EpochBatches

AHEAD = 3  # batches of pictures in memory, the one in use not counted
Opener = Callable[[int, Random], Tensor]  # image number -> (3, height, width) uint8; may draw from its generator


@dataclass(frozen=True)
class _Waiting:
    """A batch without its pictures, and the pictures to come."""

    batch: Batch
    pictures: list[Future[Tensor]]


class PixelBatches:
    """The batches of ``numbered``, their ``image_features`` (images, 3, height, width) uint8 instead of numbers."""

    def __init__(
        self,
        numbered: EpochBatches,
        opener: Opener,
        seed: int,
        device: str = "cpu",
        num_threads: int | None = None,
    ) -> None:
        """``numbered``: batches on the CPU whose ``image_features`` are the numbers that ``opener`` takes.

        ``CaptionBatches(torch.arange(num_images), ...)`` gives such. Batches arrive on ``device``.
        """
        self._numbered, self._open = numbered, opener
        self._seed, self._device = seed, device
        self._num_threads = num_threads or min(os.cpu_count() or 1, 16)

    def __len__(self) -> int:
        """Number of batches in an epoch."""
        return len(self._numbered)

    def epoch(self, number: int) -> Iterator[Batch]:
        """The batches of epoch ``number``, the same at each call. Raises what ``opener`` raises, at its batch."""
        with ThreadPoolExecutor(self._num_threads, thread_name_prefix="pixels") as pool:
            queue: deque[_Waiting] = deque()
            try:
                for batch in self._numbered.epoch(number):
                    queue.append(self._submit(pool, batch, number))
                    if len(queue) > AHEAD:
                        yield self._finish(queue.popleft())
                while queue:
                    yield self._finish(queue.popleft())
            finally:
                for waiting in queue:
                    for picture in waiting.pictures:
                        picture.cancel()

    def _submit(self, pool: ThreadPoolExecutor, batch: Batch, epoch: int) -> _Waiting:
        numbers = batch.image_features.tolist()
        return _Waiting(batch, [pool.submit(self._picture, image, epoch) for image in numbers])

    def _picture(self, image: int, epoch: int) -> Tensor:
        return self._open(image, Random(f"{self._seed}/{epoch}/{image}"))

    def _finish(self, waiting: _Waiting) -> Batch:
        try:
            pixels = torch.stack([picture.result() for picture in waiting.pictures])
        except BaseException:
            for picture in waiting.pictures:
                picture.cancel()
            raise
        batch = waiting.batch
        moved = {name: getattr(batch, name).to(self._device) for name in ("tokens", "lengths", "positives")}
        return replace(batch, image_features=self._move(pixels), **moved)

    def _move(self, pixels: Tensor) -> Tensor:
        if not self._device.startswith("cuda"):
            return pixels.to(self._device)
        return pixels.pin_memory().to(self._device, non_blocking=True)
