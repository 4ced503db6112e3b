"""Keys and values of the words written so far, for captioners with attention: beams change, nothing is copied.

Every row of a beam has slots, one for each of its steps. A row that is selected takes over what its parent sees, not
what its parent holds: only ``BeamMask``, a few bits for each slot, is gathered. Slots that all rows share, such as a
prefix or what is known of the image, come first and exist once for each image.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

ROOM = 64  # slots that are made at least when there is no room left


@dataclass(frozen=True)
class BeamMask:
    """Which slots each row sees: ``mask`` (images, rows, slots) bool."""

    mask: Tensor

    @classmethod
    def of_start(cls, num_images: int, num_shared: int, device: torch.device) -> Self:
        """One row for each image, which sees the ``num_shared`` slots of the image."""
        return cls(torch.ones(num_images, 1, num_shared, dtype=torch.bool, device=device))

    def select(self, parents: Tensor) -> BeamMask:
        """(images, rows) int64: new row ``r`` of image ``i`` sees what the old row ``parents[i, r]`` sees."""
        return BeamMask(self.mask.gather(1, parents[..., None].expand(-1, -1, self.mask.shape[-1])))

    def grown(self) -> BeamMask:
        """One slot more for each row, which it alone sees; in the order of the rows."""
        num_images, rows, _ = self.mask.shape
        own = torch.eye(rows, dtype=torch.bool, device=self.mask.device).expand(num_images, -1, -1)
        return BeamMask(torch.cat((self.mask, own), dim=-1))


class _Buffer:
    """Tensors (images, heads, capacity, head_dim) and how many of their slots are taken; these never change."""

    def __init__(self, keys: Tensor, values: Tensor, taken: int) -> None:
        self.keys, self.values, self.taken = keys, values, taken


class SlotCache:
    """Keys and values of one layer, (images, heads, slots, head_dim) each. Never changed: ``append`` gives another."""

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        self._room = _Buffer(keys, values, keys.shape[2])
        self.num_slots = keys.shape[2]

    @property
    def keys(self) -> Tensor:
        """(images, heads, slots, head_dim)."""
        return self._room.keys[:, :, : self.num_slots]

    @property
    def values(self) -> Tensor:
        """(images, heads, slots, head_dim)."""
        return self._room.values[:, :, : self.num_slots]

    def append(self, keys: Tensor, values: Tensor) -> SlotCache:
        """The cache with the slots of ``keys`` and ``values``, (images, heads, new, head_dim), after its own."""
        if torch.is_grad_enabled():  # what the gradient needs must not be written into
            return SlotCache(torch.cat((self.keys, keys), dim=2), torch.cat((self.values, values), dim=2))
        end = self.num_slots + keys.shape[2]
        room = self._room if self._may_grow_to(end) else self._larger_room(end)
        room.keys[:, :, self.num_slots : end] = keys
        room.values[:, :, self.num_slots : end] = values
        room.taken = end
        return self._view(room, end)

    def of_rows(self, rows: Tensor) -> SlotCache:
        """(n,) int64 -> the cache of these images, in this order; an image may come again."""
        return SlotCache(self.keys[rows], self.values[rows])

    def _may_grow_to(self, end: int) -> bool:
        """Whether there is room behind the slots of this cache that no other has taken."""
        room = self._room
        writable = room.keys.is_inference() == torch.is_inference_mode_enabled()
        return writable and room.taken == self.num_slots and end <= room.keys.shape[2]

    def _larger_room(self, end: int) -> _Buffer:
        num_images, heads, _, head_dim = self._room.keys.shape
        shape = (num_images, heads, end + max(ROOM, end), head_dim)
        keys, values = self.keys.new_empty(shape), self.values.new_empty(shape)
        keys[:, :, : self.num_slots], values[:, :, : self.num_slots] = self.keys, self.values
        return _Buffer(keys, values, self.num_slots)

    @classmethod
    def _view(cls, room: _Buffer, num_slots: int) -> SlotCache:
        cache = cls.__new__(cls)
        cache._room, cache.num_slots = room, num_slots
        return cache
