"""KV cache for captioners with attention. Reordering a beam copies no keys or values.

Every step adds one slot per beam row. Selecting a row copies the attention mask of its parent (``BeamMask``), not the
keys and values. Slots shared by all rows, such as an image prefix, come first and are stored once per image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

MIN_FREE_SLOTS = 64  # free slots in a new buffer, at least


@dataclass(frozen=True)
class BeamMask:
    """The slots that each row attends to: ``mask`` (images, rows, slots) bool."""

    mask: Tensor

    @classmethod
    def initial(cls, num_images: int, num_shared: int, device: torch.device) -> Self:
        """One row per image, which attends to the ``num_shared`` slots of the image."""
        return cls(torch.ones(num_images, 1, num_shared, dtype=torch.bool, device=device))

    def select(self, parents: Tensor) -> BeamMask:
        """(images, rows) int64: new row ``r`` of image ``i`` attends to the slots of old row ``parents[i, r]``."""
        return BeamMask(self.mask.gather(1, parents[..., None].expand(-1, -1, self.mask.shape[-1])))

    def add_slots(self) -> BeamMask:
        """Append one slot per row, in the order of the rows; only that row attends to it."""
        num_images, rows, _ = self.mask.shape
        numbers = torch.arange(rows, device=self.mask.device)
        new_slots = (numbers[:, None] == numbers).expand(num_images, -1, -1)
        return BeamMask(torch.cat((self.mask, new_slots), dim=-1))


class _Buffer:
    """Tensors (images, heads, capacity, head_dim), of which the first ``num_used`` slots are never written again."""

    def __init__(self, keys: Tensor, values: Tensor, num_used: int) -> None:
        self.keys, self.values, self.num_used = keys, values, num_used


class SlotCache:
    """Keys and values of one layer, (images, heads, slots, head_dim) each. Immutable: ``append`` returns another."""

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        self._buffer = _Buffer(keys, values, keys.shape[2])
        self.num_slots = keys.shape[2]

    @property
    def keys(self) -> Tensor:
        """(images, heads, slots, head_dim)."""
        return self._buffer.keys[:, :, : self.num_slots]

    @property
    def values(self) -> Tensor:
        """(images, heads, slots, head_dim)."""
        return self._buffer.values[:, :, : self.num_slots]

    def append(self, keys: Tensor, values: Tensor) -> SlotCache:
        """The cache followed by the slots of ``keys`` and ``values``, (images, heads, new, head_dim)."""
        if torch.is_grad_enabled():  # in-place writes would invalidate tensors saved for backward
            return SlotCache(torch.cat((self.keys, keys), dim=2), torch.cat((self.values, values), dim=2))
        end = self.num_slots + keys.shape[2]
        buffer = self._buffer if self._can_append_in_place(end) else self._copy_to_larger_buffer(end)
        buffer.keys[:, :, self.num_slots : end] = keys
        buffer.values[:, :, self.num_slots : end] = values
        buffer.num_used = end
        return self._view(buffer, end)

    def select_images(self, images: Tensor) -> SlotCache:
        """(n,) int64 image indices, which may repeat -> the cache of these images, in this order."""
        return SlotCache(self.keys[images], self.values[images])

    def _can_append_in_place(self, end: int) -> bool:
        """Whether the slots from ``num_slots`` to ``end`` of the buffer exist and are unused."""
        buffer = self._buffer
        writable = buffer.keys.is_inference() == torch.is_inference_mode_enabled()
        return writable and buffer.num_used == self.num_slots and end <= buffer.keys.shape[2]

    def _copy_to_larger_buffer(self, end: int) -> _Buffer:
        num_images, heads, _, head_dim = self._buffer.keys.shape
        shape = (num_images, heads, end + max(MIN_FREE_SLOTS, end), head_dim)
        keys, values = self.keys.new_empty(shape), self.values.new_empty(shape)
        keys[:, :, : self.num_slots], values[:, :, : self.num_slots] = self.keys, self.values
        return _Buffer(keys, values, self.num_slots)

    @classmethod
    def join(cls, tensors: Mapping[str, Tensor], layers: int) -> tuple[SlotCache, ...]:
        """The inverse of ``split``, for ``layers`` layers."""
        return tuple(cls(tensors[f"keys_{n}"], tensors[f"values_{n}"]) for n in range(layers))

    @staticmethod
    def split(caches: Sequence[SlotCache]) -> dict[str, Tensor]:
        """The keys and values of all layers by name."""
        keys = {f"keys_{n}": cache.keys for n, cache in enumerate(caches)}
        return keys | {f"values_{n}": cache.values for n, cache in enumerate(caches)}

    @classmethod
    def _view(cls, buffer: _Buffer, num_slots: int) -> SlotCache:
        cache = cls.__new__(cls)
        cache._buffer, cache.num_slots = buffer, num_slots
        return cache
