"""Captions in text files beside their pictures: ``photo.txt`` for ``photo.jpg``, a caption a line."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from xmodal_cli.errors import StorageError
from xmodal_cli.paths import absolute_path, write_text


class Sidecars:
    """Writes them, each in one step. What is there is kept unless ``force``; a picture is never written over."""

    def __init__(self, pictures: Sequence[Path], force: bool = False) -> None:
        """Raises StorageError, before anything is computed, for a folder that cannot be written to."""
        self._force = force
        self._taken = {absolute_path(picture): picture for picture in pictures}  # by pictures, and by what was written
        for folder in sorted({picture.parent for picture in pictures}):
            if not os.access(folder, os.W_OK | os.X_OK):
                raise StorageError(
                    f"{folder} cannot be written to, and captions were to stand beside its pictures",
                    "change its permissions, or leave --write out and keep what is printed",
                )

    def write(self, picture: Path, lines: Sequence[str]) -> str:
        """Write the captions of ``picture``; gives the reason if that was not done, else "". Raises StorageError."""
        target = picture.with_suffix(".txt")
        holder = self._taken.get(absolute_path(target))
        if holder is not None:
            what = "is among the files to caption" if holder == target else f"holds the captions of {holder}"
            return f"{target} {what} and is left as it is"
        if not self._force and os.path.lexists(target):
            return f"{target} is there already and is left as it is; --force writes over it"
        write_text(target, "".join(f"{line}\n" for line in lines))
        self._taken[absolute_path(target)] = picture
        return ""
