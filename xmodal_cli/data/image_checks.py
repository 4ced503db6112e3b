"""The results of checking the images of a dataset, in the cache, so that they are decoded for it once.

Images are the same if their paths, sizes and times are; of members of tar files, those of the archive.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from pathlib import Path

from xmodal_cli import json_checksum, paths
from xmodal_cli.data import tar
from xmodal_cli.data.decoding import DECODING
from xmodal_cli.data.image_settings import image_settings
from xmodal_cli.errors import StorageError
from xmodal_cli.file_identity import size_and_mtime


class ImageChecks:
    """The reasons why some of ``images``, paths or None, cannot be read: position -> reason."""

    def __init__(self, images: Sequence[Path | None]) -> None:
        self._file = paths.cache_dir() / "image-checks" / f"{_digest(images)[:32]}.json"
        self._count = len(images)

    def load(self) -> dict[int, str] | None:
        """What ``save`` has written; None if there is nothing, or if it cannot be used."""
        try:
            reasons = json_checksum.parse(self._file.read_bytes())["unreadable"]
            found = {int(image): str(reason) for image, reason in reasons.items()}
        except (OSError, ValueError, KeyError, AttributeError):
            return None
        return found if all(0 <= image < self._count for image in found) else None

    def save(self, reasons: dict[int, str]) -> None:
        """Write the reasons of the images that cannot be read; without effect if that is not possible."""
        try:
            paths.write_text(self._file, json_checksum.to_text({"unreadable": reasons}))
        except StorageError:  # the images are checked again next time
            return


def _digest(images: Sequence[Path | None]) -> str:
    """Of the files, and of the settings and the version of decoding."""
    digest = hashlib.sha256(repr((DECODING, image_settings())).encode())
    stamp_of = functools.lru_cache(maxsize=64)(size_and_mtime)  # of an archive once for its members
    for image in images:
        member = tar.split_member(image) if image is not None and ".tar/" in image.as_posix() else None
        file = image if member is None else member[0]
        stamp = None if file is None else stamp_of(file)
        digest.update(f"\0{image}\0{stamp}".encode(errors="surrogateescape"))
    return digest.hexdigest()
