"""Writes captions to text files next to photos: ``photo.txt`` for ``photo.jpg``, one caption per line."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from xmodal_cli.errors import StorageError
from xmodal_cli.paths import absolute_path, write_text


class Sidecars:
    """Writes each file atomically. Existing files are overwritten only with ``force``, and photos never."""

    def __init__(self, photos: Sequence[Path], force: bool = False) -> None:
        """Raises StorageError for a photo in a folder that is not writable."""
        self._force = force
        self._photo_of = {absolute_path(photo): photo for photo in photos}  # path -> the photo itself or its source
        for folder in sorted({photo.parent for photo in photos}):
            if not os.access(folder, os.W_OK | os.X_OK):
                raise StorageError(
                    f"{folder} cannot be written to, so captions cannot be saved next to its photos",
                    "change its permissions, or omit --write and redirect the output to a file",
                )

    def write(self, photo: Path, captions: Sequence[str]) -> str:
        """Write the captions of ``photo``. Returns why the file was skipped, or "". Raises StorageError."""
        target = photo.with_suffix(".txt")
        existing = self._photo_of.get(absolute_path(target))
        if existing is not None:
            reason = "is one of the files to caption" if existing == target else f"has the captions of {existing}"
            return f"{target} {reason} and is not overwritten"
        if not self._force and os.path.lexists(target):
            return f"{target} already exists; --force overwrites it"
        write_text(target, "".join(f"{caption}\n" for caption in captions))
        self._photo_of[absolute_path(target)] = photo
        return ""
