"""Finds the features of a dataset that was moved or renamed, which are in another cache folder.

torch is not imported.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from xmodal_cli.errors import BadData
from xmodal_cli.features.image_digests import ImageToExtract
from xmodal_cli.features.shards import read_shard_metadata, shard_path
from xmodal_cli.paths import atomic_path, make_folder


def link_moved_shards(folder: Path, pattern: str, images: Sequence[ImageToExtract]) -> None:
    """Link the shards of a store beside ``folder`` whose first shard has the ids of the first ``images``.

    The name of its folder matches ``pattern``. Nothing is done if ``folder`` has shards. ``fill_store`` compares the
    bytes of the images and replaces the shards of others. Raises StorageError, OSError.
    """
    if shard_path(folder, 0).exists():
        return
    candidates = sorted(folder.parent.glob(pattern), key=lambda f: f.stat().st_mtime, reverse=True)
    found = next((f for f in candidates if f != folder and _has_first_images(f, images)), None)
    for number, file in enumerate(_shards_of(found) if found else ()):
        _link(file, shard_path(folder, number))


def _shards_of(folder: Path) -> Iterator[Path]:
    number = 0
    while (file := shard_path(folder, number)).exists():
        yield file
        number += 1


def _has_first_images(folder: Path, images: Sequence[ImageToExtract]) -> bool:
    try:
        metadata = read_shard_metadata(shard_path(folder, 0))
    except BadData:
        return False
    ids = {*metadata.ids, *(image_id for image_id, *_ in metadata.skipped)}
    return bool(metadata.content) and ids == {image.image_id for image in images[: len(ids)]}


def _link(file: Path, link: Path) -> None:
    make_folder(link.parent)
    try:
        os.link(file, link)
    except OSError:  # a file system without hard links
        with atomic_path(link) as draft:
            shutil.copyfile(file, draft)
