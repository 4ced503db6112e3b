"""The changes of one commit to the tables of an index."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from xmodal_cli.data.decoding import DECODING
from xmodal_cli.retrieval.caption_table import create_caption_table
from xmodal_cli.retrieval.cells import CoarseQuantizer
from xmodal_cli.retrieval.database import NOT_READ
from xmodal_cli.retrieval.items import IndexedItem, Item, ItemStore, UnreadableFile
from xmodal_cli.retrieval.metadata import CAPTIONER
from xmodal_cli.retrieval.segments import COLUMNS, Segment
from xmodal_cli.retrieval.stored_cells import to_row

if TYPE_CHECKING:
    from xmodal_cli.data.photo_facts import PhotoFacts

Location = tuple[int, int]  # the key of a segment, and the position of a vector in it

_FACTS = ("size", "mtime_ns", "digest", "decoding", "width", "height", "taken", "segment", "position")
# a photo that was moved or copied keeps its texts, one with other bytes does not
_INSERT = (
    f"INSERT INTO items (path, {', '.join(_FACTS)}, caption, tags) VALUES (?, {', '.join('?' * len(_FACTS))},"
    " (SELECT caption FROM items WHERE digest = ?4 AND caption IS NOT NULL LIMIT 1),"
    " (SELECT tags FROM items WHERE digest = ?4 AND tags IS NOT NULL LIMIT 1))"
)
_UPDATE = (
    f"UPDATE items SET {', '.join(f'{name} = ?' for name in _FACTS)}, caption = iif(digest = ?3, caption, NULL),"
    " tags = iif(digest = ?3, tags, NULL) WHERE id = ?"
)


class IndexTransaction:
    """Changes photos, vectors and files without vectors, in an open transaction of ``database``.

    ``dropped`` are the segments that the commit removes, whose files are then deleted.
    """

    def __init__(self, database: sqlite3.Connection, file: Path) -> None:
        self._database = database
        self.items = ItemStore(database, file)
        self.dropped: list[int] = []
        self._touched = set[Location]()  # vectors that may have lost their last photo

    def add_segment(self, segment: Segment) -> None:
        """Add a segment; every vector of it gets a photo in the same transaction."""
        values = segment.to_row()
        self._database.execute(f"INSERT INTO segments ({COLUMNS}) VALUES ({','.join('?' * len(values))})", values)

    def add_cells(self, key: int, cells: CoarseQuantizer) -> None:
        """Add cells for the segments that are written from now on, and remove those that no segment is sorted by."""
        self._database.execute("DELETE FROM cells WHERE id NOT IN (SELECT cells FROM segments)")
        self._database.execute(
            "INSERT INTO cells (id, num_trained, group_sizes, groups, centroids) VALUES (?, ?, ?, ?, ?)",
            to_row(key, cells),
        )

    def drop_segment(self, key: int) -> None:
        """Remove a segment whose photos have other vectors now."""
        self._database.execute("DELETE FROM segments WHERE id = ?", (key,))
        self._touched = {location for location in self._touched if location[0] != key}
        self.dropped.append(key)

    def put(self, item: Item, location: Location) -> None:
        """Add a photo, or replace that at the same path."""
        path = os.fsencode(item.path)
        facts = (item.size, item.mtime_ns, item.digest, item.decoding, item.width, item.height, item.taken, *location)
        old = self._database.execute("SELECT id, segment, position FROM items WHERE path = ?", (path,)).fetchone()
        if old is None:
            self._database.execute(_INSERT, (path, *facts))
        else:
            self._touched.add((old[1], old[2]))
            self._database.execute(_UPDATE, (*facts, old[0]))
        self._database.execute("DELETE FROM unreadable WHERE path = ?", (path,))

    def add_photos(self, segment: Segment, photos: Iterable[tuple[str, bytes, str | None, int]]) -> None:
        """Add photos whose files are not read, of a new segment: (path, key instead of a digest, caption, position).

        Of several with the same path the first is added; the vectors of the others are marked as deleted.
        """
        self._database.executemany(
            "INSERT OR IGNORE INTO items (path, size, mtime_ns, digest, decoding, segment, position, caption)"
            " VALUES (?, ?, 0, ?, ?, ?, ?, ?)",
            (
                (os.fsencode(path), NOT_READ, key, DECODING, segment.id, position, caption)
                for path, key, caption, position in photos
            ),
        )
        found = self._database.execute("SELECT position FROM items WHERE segment = ?", (segment.id,))
        positions = np.fromiter((position for (position,) in found), np.int64)
        if len(positions) < segment.layout.count:
            self._mark(segment.id, np.setdiff1d(np.arange(segment.layout.count), positions))

    def delete(self, keys: Iterable[int]) -> None:
        """Remove photos by their keys."""
        for key in keys:
            found = self._database.execute("SELECT segment, position FROM items WHERE id = ?", (key,)).fetchone()
            if found is not None:
                self._touched.add(found)
                self._database.execute("DELETE FROM items WHERE id = ?", (key,))

    def set_paths(self, paths: Sequence[tuple[int, str]]) -> None:
        """Give photos, by their keys, other paths, which no other photos have."""
        for prefix in (b"\0", b""):  # a new path may be the old one of another photo
            self._database.executemany(
                "UPDATE items SET path = ? WHERE id = ?", ((prefix + os.fsencode(path), key) for key, path in paths)
            )

    def set_current(self, digests: Iterable[bytes]) -> None:
        """Record that the vectors of the photos with these bytes are those of the current version of decoding."""
        self._database.executemany(
            "UPDATE items SET decoding = ?1 WHERE digest = ?2 AND decoding != ?1",
            ((DECODING, digest) for digest in digests),
        )

    def set_vector(self, entry: IndexedItem, location: Location) -> None:
        """Give a photo a vector of the current version of decoding."""
        self._touched.add((entry.segment, entry.position))
        self._database.execute(
            "UPDATE items SET segment = ?, position = ?, decoding = ? WHERE id = ?", (*location, DECODING, entry.id)
        )

    def set_facts(self, facts: Iterable[tuple[bytes, PhotoFacts]]) -> None:
        """Set the size and the date of the photos with these bytes, unless they are known."""
        self._database.executemany(
            "UPDATE items SET width = ?, height = ?, taken = ? WHERE digest = ? AND width IS NULL",
            ((fact.width, fact.height, fact.taken, digest) for digest, fact in facts),
        )

    def add_captions(self, captioner: str, captions: Iterable[tuple[bytes, str, str | None]]) -> None:
        """Set the caption and tags of the photos with these bytes, unless they have a caption.

        ``captioner`` identifies the model and the settings of all captions, as JSON.
        """
        create_caption_table(self._database)
        self._database.execute("INSERT OR IGNORE INTO meta VALUES (?, ?)", (CAPTIONER, captioner))
        self._database.executemany(
            "UPDATE items SET caption = ?2, tags = ?3 WHERE digest = ?1 AND caption IS NULL", captions
        )

    def renumber(self, old: int, positions: np.ndarray, new: int, new_positions: np.ndarray) -> None:
        """Move the photos of the vectors ``positions`` of a segment to the vectors ``new_positions`` of ``new``."""
        self._database.executemany(
            "UPDATE items SET segment = ?, position = ? WHERE segment = ? AND position = ?",
            ((new, to, old, at) for at, to in zip(positions.tolist(), new_positions.tolist(), strict=True)),
        )

    def set_unreadable(self, files: Sequence[UnreadableFile]) -> None:
        """Replace the list of files without vectors."""
        before, after = set(self.items.unreadable()), set(files)
        self._database.executemany(
            "DELETE FROM unreadable WHERE path = ?", ((os.fsencode(file.path),) for file in before - after)
        )
        self._database.executemany(
            "INSERT INTO unreadable VALUES (?, ?, ?, ?, ?)",
            ((os.fsencode(f.path), f.size, f.mtime_ns, f.reason, f.category.value) for f in after - before),
        )

    def num_unreadable(self) -> int:
        """The number of files without vectors."""
        return int(self._database.execute("SELECT count(*) FROM unreadable").fetchone()[0])

    def mark_deleted(self) -> None:
        """Mark the vectors that have lost their last photo, and drop segments without photos."""
        positions_of: dict[int, list[int]] = {}
        for segment, position in self._touched:
            values = (segment, position)
            if not self._database.execute("SELECT 1 FROM items WHERE segment = ? AND position = ?", values).fetchone():
                positions_of.setdefault(segment, []).append(position)
        self._touched.clear()
        for segment, positions in positions_of.items():
            self._mark(segment, np.array(positions))

    def _mark(self, segment: int, positions: np.ndarray) -> None:
        row = self._database.execute("SELECT num_rows, deleted FROM segments WHERE id = ?", (segment,)).fetchone()
        if row is None:
            return  # damaged: a photo with a vector that does not exist was removed
        count, deleted = row
        bits = np.zeros(count, np.uint8)
        if deleted is not None:
            bits = np.unpackbits(np.frombuffer(deleted, np.uint8), count=count, bitorder="little").copy()
        bits[positions[positions < count]] = 1
        num_deleted = int(bits.sum())
        if num_deleted == count:
            self.drop_segment(segment)
            return
        self._database.execute(
            "UPDATE segments SET num_deleted = ?, deleted = ? WHERE id = ?",
            (num_deleted, np.packbits(bits, bitorder="little").tobytes(), segment),
        )
