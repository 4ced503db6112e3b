"""Checks the image files of a dataset in steps of a few seconds, so that a request does not take minutes.

Missing files are found first. Of the others the header is read, as by ``xmodal data info``.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from xmodal_cli.data.images import ImageReader
from xmodal_cli.data.omissions import image_exists
from xmodal_cli.errors import BadData
from xmodal_cli.types import Example, Unreadable

_CHUNK = 256  # images
_THREADS = 8


@dataclass(frozen=True)
class CheckedFile:
    """The size of an image in pixels, from its header, or why it cannot be read."""

    width: int = 0
    height: int = 0
    problem: Unreadable | None = None


def check_file(example: Example, reader: ImageReader) -> CheckedFile:
    """Read the header of an image file; an example without a file has neither a size nor a problem."""
    if example.path is None:
        return CheckedFile()
    try:
        return CheckedFile(*reader.size(example.path))
    except BadData as error:
        return CheckedFile(problem=Unreadable.of(example.path, error))


class FileCheck:
    """The check of the images at ``positions`` of a dataset. ``problems`` are those found so far, by position."""

    def __init__(self, examples: Sequence[Example], positions: Sequence[int]) -> None:
        with_file = [(p, path) for p in positions if (path := examples[p].path) is not None]
        self._queue = [p for p, path in sorted(with_file, key=lambda entry: image_exists(entry[1]))]
        self._examples = examples
        self.problems: dict[int, Unreadable] = {}
        self.num_checked = 0

    @property
    def num_files(self) -> int:
        """The number of files to check."""
        return len(self._queue)

    def advance(self, seconds: float, reader: ImageReader) -> None:
        """Check further files, for about ``seconds``."""
        end = time.monotonic() + seconds
        with ThreadPoolExecutor(_THREADS) as pool:
            while self.num_checked < len(self._queue):
                chunk = self._queue[self.num_checked : self.num_checked + _CHUNK]
                checked = pool.map(lambda position: check_file(self._examples[position], reader), chunk)
                found = {p: result.problem for p, result in zip(chunk, checked, strict=True)}
                self.problems |= {p: problem for p, problem in found.items() if problem is not None}
                self.num_checked += len(chunk)
                if time.monotonic() >= end:
                    break
