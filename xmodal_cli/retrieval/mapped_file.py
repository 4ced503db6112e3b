"""A file mapped into memory for reading, whose pages can be given back.

The pages that were read count as memory of the process until then, although the system takes them back when it needs
them. One pass over a file that is larger than memory releases them block by block.
"""

from __future__ import annotations

import mmap
from pathlib import Path

import numpy as np


class MappedFile:
    """``content`` (size,) uint8 are the bytes of a file. Raises OSError, and ValueError for an empty file."""

    def __init__(self, path: Path) -> None:
        with open(path, "rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self.content = np.frombuffer(self._map, np.uint8)

    def release(self) -> None:
        """Give back the pages that were read, where the system can; they are read again when they are needed."""
        if hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)
