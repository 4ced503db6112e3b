"""Shuffling in windows of random blocks, as StreamingDataset's ``py1b``, and prefetching.

For features on disk, and for image files whose storage is slow at random reads.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

BLOCKS_PER_WINDOW = 64  # of images
AHEAD = 3  # batches prefetched, the one in use not counted
T = TypeVar("T")


@dataclass(frozen=True)
class Blocks:
    """Images in blocks of contiguous rows, of which ``per_window`` are shuffled together."""

    block_of_image: Tensor  # (images,) int64, on the CPU
    per_window: int

    @classmethod
    def of_images(cls, num_images: int, window: int) -> Blocks:
        """The blocks of ``num_images`` images, of which ``window`` are shuffled together."""
        rows = max(1, window // BLOCKS_PER_WINDOW)
        return cls(torch.arange(num_images) // rows, max(1, window // rows))

    def windows(self, generator: torch.Generator) -> Tensor:
        """(images,) int64: the window of each image; the blocks of a window are random."""
        rank = torch.randperm(int(self.block_of_image.max()) + 1, generator=generator)
        return (rank // self.per_window)[self.block_of_image]


def prefetch(batches: Iterator[T]) -> Iterator[T]:
    """The same batches, ``AHEAD`` of them read by a thread before they are needed. Raises what ``batches`` does."""
    with ThreadPoolExecutor(1, thread_name_prefix="prefetch") as pool:
        queue = deque(pool.submit(next, batches, None) for _ in range(AHEAD))
        while (batch := queue.popleft().result()) is not None:
            queue.append(pool.submit(next, batches, None))
            yield batch
