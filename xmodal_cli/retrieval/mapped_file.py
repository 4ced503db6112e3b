"""A file mapped into memory for reading, whose pages can be given back.

The pages that were read count as memory of the process until then, although the system takes them back when it needs
them. One pass over a file that is larger than memory releases them block by block.
"""

from __future__ import annotations

import errno
import mmap
from pathlib import Path
from typing import BinaryIO

import numpy as np


class MappedFile:
    """``content`` (size,) uint8 are the bytes of a file. Raises OSError, and ValueError for an empty file."""

    def __init__(self, path: Path) -> None:
        with open(path, "rb") as file:
            self._map = _map(file)
            self.content = np.fromfile(file, np.uint8) if self._map is None else np.frombuffer(self._map, np.uint8)

    def release(self) -> None:
        """Give back the pages that were read, where the system can; they are read again when they are needed."""
        if self._map is not None and hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)


def _map(file: BinaryIO) -> mmap.mmap | None:
    """None on a file system that cannot map files, as some network drives: the file is then read."""
    try:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        if error.errno == errno.ENOMEM:
            raise
        return None
