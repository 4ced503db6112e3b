"""Digests of the images of a shard: by path, size and time, or by the bytes of their files.

The second one recognizes images that were moved, copied or touched. torch is not imported.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from xmodal_cli.errors import XmodalError
from xmodal_cli.features.store import FORMAT, FileStamp
from xmodal_cli.types import FeatureMeta

_DIGEST_BYTES = 32
_BLOCK = 1 << 20


@dataclass(frozen=True)
class ImageToExtract:
    """One image of an extraction."""

    image_id: str
    stamp: FileStamp


def hash_images(images: Sequence[ImageToExtract], meta: FeatureMeta | None = None) -> str:
    """sha256 of ids, paths, sizes and modification times, and of ``meta``."""
    digest = hashlib.sha256(_header(meta))
    for image in images:
        stamp = image.stamp
        line = f"\0{image.image_id}\0{stamp.path}\0{stamp.size}\0{stamp.mtime_ns}"
        digest.update(line.encode(errors="surrogateescape"))
    return digest.hexdigest()


def hash_content(images: Sequence[ImageToExtract], meta: FeatureMeta, digests: Iterable[bytes]) -> str:
    """BLAKE2b of ids, of ``digests`` of the files, and of ``meta``.

    Empty if a file has changed since its stamp was taken: its features may be those of the bytes before.
    """
    digest = hashlib.blake2b(_header(meta), digest_size=_DIGEST_BYTES)
    for image, of_file in zip(images, digests, strict=True):
        digest.update(f"\0{image.image_id}\0".encode(errors="surrogateescape") + of_file)
        if FileStamp.of(Path(image.stamp.path)) != image.stamp:
            return ""
    return digest.hexdigest()


def digest_file(image: ImageToExtract) -> bytes:
    """BLAKE2b of the bytes of an image file; zeros if it cannot be read."""
    from xmodal_cli.data.images import open_bytes  # imports Pillow

    digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    try:
        with open_bytes(Path(image.stamp.path)) as file:
            while block := file.read(_BLOCK):
                digest.update(block)
    except (OSError, XmodalError):
        return bytes(_DIGEST_BYTES)
    return digest.digest()


def _header(meta: FeatureMeta | None) -> bytes:
    return json.dumps([FORMAT, meta and asdict(meta)], sort_keys=True).encode()
