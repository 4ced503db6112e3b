"""Opens the images of a dataset by position; the offsets of those in tar archives are looked up once."""

from __future__ import annotations

import io
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from xmodal_cli.data import tar
from xmodal_cli.data.images import open_bytes

_NO_ARCHIVE = -1


class IndexedImages:
    """The image files at ``paths``, which may be members of tar archives. Can be used from several threads.

    Offsets take 20 bytes per image. Training needs the archives in random order, and has more of them than ``tar``
    keeps indexed. Raises BadData if a member does not exist.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = paths
        self._archive_of, self._offsets, self._sizes = array("i"), array("q"), array("q")
        numbers: dict[Path, int] = {}
        for path in paths:
            found = tar.split_member(path) if ".tar/" in path.as_posix() and not path.is_file() else None
            member = tar.Member(0, 0) if found is None else tar.find_member(*found)
            number = _NO_ARCHIVE if found is None else numbers.setdefault(found[0], len(numbers))
            self._archive_of.append(number)
            self._offsets.append(member.offset)
            self._sizes.append(member.size)
        self._archives = list(numbers)

    def open_bytes(self, image: int) -> BinaryIO:
        """The bytes of image number ``image``. Raises OSError, XmodalError."""
        number = self._archive_of[image]
        if number == _NO_ARCHIVE:
            return open_bytes(self.paths[image])
        with open(self._archives[number], "rb") as archive:
            return io.BytesIO(tar.read_bytes(archive, tar.Member(self._offsets[image], self._sizes[image])))
