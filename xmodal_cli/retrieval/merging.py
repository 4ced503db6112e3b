"""Which segments of an index are rewritten as one, so that it has few segments and few deleted vectors.

Segments of similar size, within a factor of ``FANOUT``, are merged as soon as there are ``FANOUT`` of them: a vector is
rewritten about log(n) times, and an index of n vectors has about ``FANOUT * log(n)`` segments. One merge has at most
``FANOUT`` times as many vectors as the update has added, or ``ALWAYS``: a small update never rewrites a large index.
A segment with mostly deleted vectors is rewritten alone, and, once the index has cells, one that is not sorted by cell.
Segments above ``LARGEST`` are not merged: a query takes no longer, and a merge needs no more disk.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from xmodal_cli.retrieval.cell_training import train_if_grown
from xmodal_cli.retrieval.index_vectors import IndexVectors
from xmodal_cli.retrieval.segments import Segment, check_unchanged
from xmodal_cli.retrieval.vectors import UNSORTED
from xmodal_cli.retrieval.writer import MIN_SORTED, IndexWriter

FANOUT = 4
ALWAYS = 16_384  # vectors
LARGEST = 2**20  # vectors


def merge_segments(writer: IndexWriter, num_added: int) -> None:
    """Merge until nothing is left to merge after an update that has added ``num_added`` vectors."""
    train_if_grown(writer)
    has_cells = writer.newest_cells is not None
    while group := choose_group(writer.segments(), max(ALWAYS, FANOUT * num_added), has_cells):
        rewrite(writer, group)


def choose_group(segments: Iterable[Segment], limit: int, has_cells: bool = False) -> list[Segment]:
    """The segments to be rewritten as one, of at most ``limit`` vectors; empty if there are none."""
    levels: dict[int, list[Segment]] = {}
    for segment in sorted(segments, key=lambda s: (s.num_live, s.id)):
        is_unsorted = has_cells and segment.cells == UNSORTED and segment.num_live >= MIN_SORTED
        if segment.num_live < segment.num_deleted or is_unsorted:
            return [segment]
        if segment.num_live < LARGEST:
            levels.setdefault(int(np.log2(segment.num_live) / np.log2(FANOUT)), []).append(segment)
    for level in sorted(levels):
        group = levels[level]
        if len(group) >= FANOUT and sum(segment.num_live for segment in group) <= limit:
            return group
    return []


def rewrite(writer: IndexWriter, group: Sequence[Segment]) -> None:
    """Replace segments by one that has their vectors, without the deleted ones."""
    for segment in group:
        check_unchanged(writer.folder, segment)
    vectors = IndexVectors(writer.folder, group, writer.metadata.model.embed_dim)
    positions = [_live_positions(segment) for segment in group]
    rows = np.concatenate([start + part for start, part in zip(vectors.starts, positions, strict=False)])
    new = writer.write_vectors(len(rows), lambda chosen: vectors.take_once(rows[chosen]), _known_cells(writer, group))
    with writer.transaction() as change:
        change.add_segment(new.segment)
        start = 0
        for segment, part in zip(group, positions, strict=True):
            change.renumber(segment.id, part, new.segment.id, new.positions[start : start + len(part)])
            change.drop_segment(segment.id)
            start += len(part)


def _known_cells(writer: IndexWriter, group: Sequence[Segment]) -> np.ndarray | None:
    """(live vectors,) the cells of the vectors of ``group``; None if it is not sorted by the cells of the index."""
    if writer.newest_cells is None or any(segment.cells != writer.newest_cells[0] for segment in group):
        return None
    return np.concatenate([segment.cell_of()[_live_positions(segment)] for segment in group])


def _live_positions(segment: Segment) -> np.ndarray:
    live = segment.live()
    return np.arange(segment.layout.count) if live is None else np.flatnonzero(live)


def convert(writer: IndexWriter) -> None:
    """Rewrite the segments that are not of the precision of the index."""
    for segment in writer.segments():
        if segment.layout.dtype != writer.metadata.store:
            rewrite(writer, [segment])
