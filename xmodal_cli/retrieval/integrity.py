"""The complete check of an index: all pages of its database, and the checksums of all its vectors."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from xmodal_cli.errors import BadData
from xmodal_cli.reporter import SILENT, Reporter
from xmodal_cli.retrieval.conditions import ALL
from xmodal_cli.retrieval.database import ITEMS, damaged
from xmodal_cli.retrieval.index import Index, open_index
from xmodal_cli.retrieval.segments import Segment, check_unchanged, segment_path

_ATTEMPTS = 3  # of reading the segments of an index that is being updated


@dataclass(frozen=True)
class CheckedIndex:
    """An index without damage; ``num_bytes`` were read."""

    index: str
    folder: str
    num_photos: int
    num_segments: int
    num_bytes: int


def check_index(folder: Path, reporter: Reporter = SILENT) -> CheckedIndex:
    """Read the whole index; changes nothing. Raises MissingData, and BadData for the first damage."""
    for _ in range(_ATTEMPTS):
        with open_index(folder) as index:
            try:
                num_bytes = check_snapshot(index, folder, reporter)
            except FileNotFoundError:  # a later commit has deleted it
                continue
            return CheckedIndex(folder.name, str(folder), len(index), len(index.vectors.segments), num_bytes)
    raise BadData(f"{folder} cannot be checked: it keeps changing", "wait until indexing has finished")


def check_snapshot(index: Index, folder: Path, reporter: Reporter = SILENT) -> int:
    """Read all of the commit ``index`` of the index in ``folder``; returns the number of bytes.

    Raises BadData for the first damage, FileNotFoundError for vectors that a later commit has deleted.
    """
    _check_items(index, folder / ITEMS)
    num_bytes = _check_segments(folder, index.vectors.segments, reporter)
    return num_bytes + (folder / ITEMS).stat().st_size


def _check_items(index: Index, file: Path) -> None:
    """Whether the database is consistent, and its photos have exactly the vectors that are not deleted."""
    if problem := index.items.find_problem():
        raise damaged(file, problem)
    keys, segments, positions = index.items.locations(ALL)
    in_use = index.vectors.mask(segments, positions)
    if len(keys) != len(index) or not np.isin(segments, index.vectors.ids).all():
        raise damaged(file, "its photos are not those that it counts")
    if not np.array_equal(np.flatnonzero(in_use), index.vectors.live_rows()):
        raise damaged(file, "its photos are not those of its vectors")


def _check_segments(folder: Path, segments: list[Segment], reporter: Reporter) -> int:
    """The size in bytes of the files of vectors. Raises BadData, FileNotFoundError."""
    num_bytes = 0
    with reporter.task("checksums of the vectors", len(segments), "segments") as task:
        for segment in segments:
            check_unchanged(folder, segment)
            num_bytes += segment_path(folder, segment.id).stat().st_size
            task.advance(1)
    return num_bytes
