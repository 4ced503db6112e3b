"""Deletes what interrupted updates of an index have left in its folder."""

from __future__ import annotations

import contextlib
from pathlib import Path

from xmodal_cli.drafts import remove_abandoned
from xmodal_cli.errors import BadData, MissingData
from xmodal_cli.retrieval.database import ITEMS, REBUILD
from xmodal_cli.retrieval.registry import TEMPORARY
from xmodal_cli.retrieval.segments import SEGMENTS, delete_orphans, read_segments
from xmodal_cli.retrieval.stored_metadata import connect, load_metadata


def remove_leftovers(folder: Path) -> None:
    """Delete temporary files, and files of vectors that no database names; the caller has the lock of the index."""
    for parent in (folder, folder / SEGMENTS):
        remove_abandoned(parent)
    with contextlib.suppress(OSError):  # of versions whose drafts were files
        for path in list(folder.iterdir()):
            if TEMPORARY.fullmatch(path.name):
                with contextlib.suppress(OSError):
                    path.unlink()
    with contextlib.suppress(BadData):  # of a damaged database nothing is deleted
        delete_orphans(folder, [key for name in (ITEMS, REBUILD) for key in _segment_ids(folder, name)])


def _segment_ids(folder: Path, name: str) -> list[int]:
    if not (folder / name).exists():
        return []
    try:
        with contextlib.closing(connect(folder, name)) as database:
            metadata = load_metadata(database, folder / name)
            return [s.id for s in read_segments(database, folder / name, metadata.model.embed_dim)]
    except MissingData:
        return []
