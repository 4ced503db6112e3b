"""Views of photos, and of images of datasets, as WebP files: thumbnails and large views, decoded under all limits.

An image is served re-encoded, so that its bytes are never interpreted by a browser. Views are kept on disk by the
digest of the photo, or by the version of the file; the oldest ones are deleted when the folder has more than
``MAX_CACHE`` bytes.
"""

from __future__ import annotations

import contextlib
import io
import os
import threading
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from xmodal_cli.data.images import open_image
from xmodal_cli.errors import MissingData, StorageError
from xmodal_cli.paths import cache_dir, write_bytes
from xmodal_cli.retrieval.items import Item

HEIGHTS = {"thumbnail": 320, "view": 1600}  # pixels; a view is never enlarged
MAX_RATIO = 4.0  # width to height of a thumbnail that is not reduced further
MAX_CACHE = 2**30  # bytes
_QUALITY = 82
_PER_CLEANING = 500  # new files


def existing_file(item: Item) -> Path:
    """The file of an indexed photo. Raises MissingData."""
    path = Path(item.path)
    if not path.is_file():
        raise MissingData(f"{path} does not exist any more", "update the index: xmodal index FOLDER")
    return path


class PhotoViews:
    """Makes and keeps views. Its methods can be called from several threads."""

    def __init__(self, folder: Path | None = None, max_cache: int = MAX_CACHE) -> None:
        self._folder = folder or cache_dir() / "thumbnails"
        self._max_cache, self._lock, self._num_new = max_cache, threading.Lock(), 0

    def view(self, item: Item, kind: str) -> bytes:
        """The WebP file of a photo. Raises MissingData, BadImage."""
        return self.view_of(item.digest.hex(), lambda: existing_file(item), kind)

    def view_of(self, key: str, find: Callable[[], Path], kind: str) -> bytes:
        """The WebP file of the image at the path that ``find`` returns; it is only decoded if none is kept as ``key``.

        Raises BadImage, and what ``find`` raises.
        """
        file = self._folder / kind / f"{key}.webp"
        with contextlib.suppress(OSError):
            content = file.read_bytes()
            os.utime(file)
            return content
        content = self._encode(find(), HEIGHTS[kind])
        self._keep(file, content)
        return content

    def _encode(self, path: Path, height: int) -> bytes:
        image = open_image(path, height)
        image.thumbnail((round(height * MAX_RATIO), height), Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        image.save(buffer, "WEBP", quality=_QUALITY, method=2)
        return buffer.getvalue()

    def _keep(self, file: Path, content: bytes) -> None:
        with contextlib.suppress(OSError, StorageError):  # without space, views are computed each time
            file.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(file, content)
        with self._lock:
            self._num_new += 1
            is_due = self._num_new % _PER_CLEANING == 1
        if is_due:
            self.clean()

    def clean(self) -> None:
        """Delete the views that were not used for the longest time until the rest fits ``max_cache``."""
        found = []
        for path in self._folder.glob("*/*.webp"):
            with contextlib.suppress(OSError):
                status = path.stat()
                found.append((status.st_mtime, status.st_size, path))
        total = sum(size for _, size, _ in found)
        for _, size, path in sorted(found):
            if total <= self._max_cache:
                break
            with contextlib.suppress(OSError):
                path.unlink()
            total -= size
