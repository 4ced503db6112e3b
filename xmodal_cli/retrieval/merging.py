"""Which segments of an index are rewritten as one, so that it has few segments and few deleted vectors.

Segments of similar size, within a factor of ``FANOUT``, are merged as soon as there are ``FANOUT`` of them: a vector is
rewritten about log(n) times, and an index of n vectors has about ``FANOUT * log(n)`` segments. One merge has at most
``FANOUT`` times as many vectors as the update has added, or ``ALWAYS``: a small update never rewrites a large index.
A segment with mostly deleted vectors is rewritten alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from xmodal_cli.retrieval.segments import IndexVectors, Segment, check_unchanged, segment_kind
from xmodal_cli.retrieval.writer import IndexWriter

FANOUT = 4
ALWAYS = 16_384  # vectors


def merge_segments(writer: IndexWriter, num_added: int) -> None:
    """Merge until nothing is left to merge after an update that has added ``num_added`` vectors."""
    while group := choose_group(writer.segments(), max(ALWAYS, FANOUT * num_added)):
        rewrite(writer, group)


def choose_group(segments: Iterable[Segment], limit: int) -> list[Segment]:
    """The segments to be rewritten as one, of at most ``limit`` vectors; empty if there are none."""
    levels: dict[int, list[Segment]] = {}
    for segment in sorted(segments, key=lambda s: (s.num_live, s.id)):
        if segment.num_live < segment.num_deleted:
            return [segment]
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
    new = writer.write_vectors(len(rows), lambda chosen: vectors.take(rows[chosen]))
    with writer.transaction() as change:
        change.add_segment(new)
        start = 0
        for segment, part in zip(group, positions, strict=True):
            change.renumber(segment.id, part.tolist(), new.id, start)
            change.drop_segment(segment.id)
            start += len(part)


def _live_positions(segment: Segment) -> np.ndarray:
    live = segment.live()
    return np.arange(segment.layout.count) if live is None else np.flatnonzero(live)


def convert(writer: IndexWriter) -> None:
    """Rewrite the segments that are not of the kind and the precision of the index."""
    store, kind = writer.metadata.store, writer.metadata.kind
    for segment in writer.segments():
        if segment.layout.dtype != store or segment.layout.kind != segment_kind(kind, segment.num_live):
            rewrite(writer, [segment])
