"""Image features that stay on disk: rows that are read from the memory maps of shards when they are needed.

The maps are clean pages, which the system drops when it needs memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

BLOCKS_PER_WINDOW = 64  # more: more random; fewer: longer sequential reads


@dataclass(frozen=True)
class MappedRows:
    """(images, ...) features, indexed like a tensor; what is read is a tensor on ``device``."""

    shards: Sequence[np.ndarray]  # not empty, of one row shape
    positions: np.ndarray  # (images,) int64: the rows in the concatenated shards
    window_bytes: int  # the size of the rows that are shuffled together
    device: str = "cpu"

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, rows: Tensor | slice) -> Tensor:
        """Read rows, copied into memory."""
        chosen = self.positions[rows if isinstance(rows, slice) else rows.cpu().numpy()]
        ends = np.cumsum([len(shard) for shard in self.shards])
        shard_of = np.searchsorted(ends, chosen, side="right")
        values = np.empty((len(chosen), *self.shape[1:]), self._dtype)
        for n in np.unique(shard_of):
            inside = np.flatnonzero(shard_of == n)
            shard = self.shards[n]
            values[inside] = shard[chosen[inside] - (ends[n] - len(shard))]
        return torch.from_numpy(values).to(self.device)

    @property
    def shape(self) -> tuple[int, ...]:
        """(images, dim) or (images, cells, dim)"""
        return len(self), *self.shards[0].shape[1:]

    @property
    def ndim(self) -> int:
        """2 or 3."""
        return len(self.shape)

    @property
    def _dtype(self) -> np.dtype:
        return np.result_type(*(shard.dtype for shard in self.shards))

    @property
    def window_rows(self) -> int:
        """The images of a window, at least one."""
        row_bytes = int(np.prod(self.shape[1:])) * self._dtype.itemsize
        return max(1, self.window_bytes // max(1, row_bytes))

    @property
    def block_of_image(self) -> Tensor:
        """(images,) int64: contiguous rows have the same number, ``BLOCKS_PER_WINDOW`` or more blocks fill a window."""
        return torch.from_numpy(self.positions // self._block_rows)

    @property
    def blocks_per_window(self) -> int:
        """How many blocks have ``window_rows``."""
        return max(1, self.window_rows // self._block_rows)

    @property
    def _block_rows(self) -> int:
        return max(1, self.window_rows // BLOCKS_PER_WINDOW)

    def to(self, device: str) -> MappedRows:
        """The same rows, read to another device."""
        return replace(self, device=device)

    def select(self, rows: Tensor) -> MappedRows:
        """Some of the rows; nothing is read."""
        return replace(self, positions=self.positions[rows.cpu().numpy()])


def select_rows(features: Tensor | MappedRows, rows: Tensor) -> Tensor | MappedRows:
    """(rows,) int64 -> their features; those on disk are not read."""
    return features.select(rows) if isinstance(features, MappedRows) else features[rows]
