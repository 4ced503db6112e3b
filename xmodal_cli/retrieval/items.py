"""The photos of an index, read from its database: one row of ``items`` per file, with the vector that it has.

A vector is a row of a segment; files with identical bytes may share one. Paths are stored as bytes, since a file name
may not be valid text.
"""

from __future__ import annotations

import os
import sqlite3
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from xmodal_cli.data.decoding import DECODING
from xmodal_cli.errors import Category
from xmodal_cli.retrieval.conditions import ALL, CAPTIONS, DATE, Condition
from xmodal_cli.retrieval.database import DATE_INDEXES, NO_FACTS, OTHER_DECODING, damaged, missing_indexes, reading
from xmodal_cli.retrieval.date_order import LATEST, Dated, newest_first
from xmodal_cli.retrieval.metadata import CAPTIONER

RETRY = -1  # the modification time of a file that every update tries again
_PER_QUERY = 500  # rows; SQLite limits the number of parameters
Value = TypeVar("Value", int, bytes)
_COLUMNS = "id, segment, position, path, size, mtime_ns, digest, decoding, width, height, taken"


@dataclass(frozen=True, slots=True)
class Item:
    """A photo. ``digest`` is the BLAKE2b-128 of the file's bytes.

    ``decoding`` is the version of decoding in which its vector was computed (``data/decoding.py``). ``width`` and
    ``height`` are those of the upright photo, 0 if its header is damaged, None if it was not read; ``taken`` is an
    ISO 8601 time without zone, or None.
    """

    path: str
    size: int
    mtime_ns: int
    digest: bytes
    decoding: str = DECODING
    width: int | None = None
    height: int | None = None
    taken: str | None = None


@dataclass(frozen=True, slots=True)
class IndexedItem:
    """A photo in an index: its key, and its vector, which is a row of a segment."""

    id: int
    segment: int
    position: int
    item: Item


@dataclass(frozen=True, slots=True)
class UnreadableFile:
    """A photo without a vector, and the reason; with ``mtime_ns`` RETRY every update tries it again."""

    path: str
    size: int
    mtime_ns: int
    reason: str
    category: Category = Category.DAMAGED


class ItemStore:
    """The photos in an open database; every method raises BadData for a damaged one."""

    def __init__(self, database: sqlite3.Connection, file: Path) -> None:
        self._database, self._file = database, file

    def of_vectors(self, segment: int, positions: Sequence[int]) -> list[IndexedItem]:
        """The photos with these vectors, at least one per vector."""
        found: list[IndexedItem] = []
        for part in _parts([int(position) for position in positions]):
            found += self._select(f"segment = ? AND position IN ({','.join('?' * len(part))})", (segment, *part))
        if len({entry.position for entry in found}) < len({int(position) for position in positions}):
            raise damaged(self._file, "it does not have the photos of all vectors")
        return found

    def of_digest(self, digest: bytes, condition: Condition = ALL) -> list[IndexedItem]:
        """All photos with these bytes that a condition selects."""
        return list(self._select(f"digest = ? AND {condition.sql}", (digest, *condition.values)))

    def find_digest(self, digest: bytes) -> IndexedItem | None:
        """A photo with these bytes, with a vector of the current version of decoding if there is one."""
        return next(self._select("digest = ? ORDER BY decoding != ? LIMIT 1", (digest, DECODING)), None)

    def of_ids(self, ids: Sequence[int]) -> Iterator[IndexedItem]:
        """The photos with these keys."""
        for part in _parts(ids):
            yield from self._select(f"id IN ({','.join('?' * len(part))})", part)

    def of_paths(self, paths: Sequence[str]) -> Iterator[IndexedItem]:
        """The photos with these paths."""
        for part in _parts([os.fsencode(path) for path in paths]):
            yield from self._select(f"path IN ({','.join('?' * len(part))})", part)

    def caption_of(self, key: int) -> str | None:
        """The stored caption of a photo, None without one."""
        with reading(self._file):
            record = self._database.execute("SELECT caption FROM items WHERE id = ?", (key,)).fetchone()
        return record[0] if record is not None and isinstance(record[0], str) else None

    def of_other_decoding(self) -> list[IndexedItem]:
        """The photos whose vectors were computed in another version of decoding."""
        return list(self._select(OTHER_DECODING, ()))

    def under(self, root: str) -> Iterator[IndexedItem]:
        """The photos whose path is ``root`` or inside it, in the order of paths."""
        condition, values = path_condition(root)
        return self._select(f"{condition} ORDER BY path", values)

    def all_items(self) -> Iterator[IndexedItem]:
        """All photos, in the order of paths."""
        return self._select("true ORDER BY path", ())

    def by_vector(self) -> Iterator[IndexedItem]:
        """All photos, in the order of their vectors."""
        return self._select("true ORDER BY segment, position, path", ())

    def captioner(self) -> str | None:
        """The model and settings that have written the captions, as JSON; None if there are none."""
        with reading(self._file):
            found = self._database.execute("SELECT value FROM meta WHERE key = ?", (CAPTIONER,)).fetchone()
            return None if found is None else str(found[0])

    def captions(self) -> Iterator[tuple[bytes, str, str | None]]:
        """(digest, caption, tags) of the photos with captions; copies have the same."""
        with reading(self._file):
            yield from self._database.execute(
                "SELECT digest, min(caption), min(tags) FROM items WHERE caption IS NOT NULL GROUP BY digest"
            )

    def with_captions(self, size: int) -> Iterator[tuple[list[IndexedItem], list[str | None]]]:
        """All photos in the order of paths, and their captions, in blocks of at most ``size``."""
        with reading(self._file):
            rows = self._database.execute(f"SELECT caption, {_COLUMNS} FROM items ORDER BY path")
            while block := rows.fetchmany(size):
                texts = [caption if isinstance(caption, str) else None for caption, *_ in block]
                yield [_to_item(*record) for _, *record in block], texts

    def locations(self, condition: Condition) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(photos,) int64 each: the keys of the photos that a condition selects, their segments and positions."""
        statement = f"SELECT id, segment, position FROM items WHERE {condition.sql} ORDER BY id"
        with reading(self._file):
            records = self._database.execute(statement, condition.values).fetchall()
            found = np.array(records, np.int64).reshape(-1, 3)
        return found[:, 0], found[:, 1], found[:, 2]

    def without_facts(self) -> Iterator[tuple[bytes, str]]:
        """(digest, path) of the photos whose headers were not read."""
        with reading(self._file):
            for digest, path in self._database.execute(f"SELECT digest, path FROM items WHERE {NO_FACTS}"):
                yield digest, os.fsdecode(path)

    def num_without_facts(self) -> int:
        """The number of photos whose headers were not read."""
        return self._count(f"SELECT count(*) FROM items WHERE {NO_FACTS}", ())

    def newest(self, condition: Condition = ALL, first_page: int = _PER_QUERY) -> Iterator[IndexedItem]:
        """The photos that a condition selects, the newest first, those of one date by path.

        They are read in pages, each four times as large as the one before it.
        """
        if condition == ALL and self._has_date_indexes():
            yield from newest_first(self._select_dated, self._latest, first_page)
            return
        start, size = 0, first_page
        statement = f"{condition.sql} ORDER BY {DATE} DESC, path LIMIT ? OFFSET ?"
        while page := list(self._select(statement, (*condition.values, size, start))):
            yield from page
            start, size = start + len(page), 4 * size

    def has_captions(self) -> bool:
        """Whether captions were written to the index."""
        return self._count("SELECT count(*) FROM sqlite_master WHERE name = ?", (CAPTIONS,)) > 0

    def states(self, roots: Sequence[str] | None = None) -> Iterator[tuple[int, str, int, int]]:
        """(key, path, size, mtime_ns) of all photos, or of those under ``roots``, in any order."""
        from xmodal_cli.data.scan import outermost  # not imported by searches

        encoding, errors = sys.getfilesystemencoding(), sys.getfilesystemencodeerrors()
        everything: tuple[str, tuple[bytes, ...]] = ("true", ())
        conditions = [everything] if roots is None else [path_condition(root) for root in outermost(roots)]
        with reading(self._file):
            for sql, values in conditions:
                rows = self._database.execute(f"SELECT id, path, size, mtime_ns FROM items WHERE {sql}", values)
                for key, path, size, mtime_ns in rows:
                    yield key, str(path, encoding, errors), size, mtime_ns  # as os.fsdecode, in half the time

    def find_problem(self) -> str:
        """What is wrong in the database, "" if nothing is: all its pages and all values of photos are read."""
        with reading(self._file):
            for (text,) in self._database.execute("PRAGMA integrity_check(1)"):
                if text != "ok":
                    return str(text)
        for _ in self._select("true", ()):
            pass
        return ""

    def count(self) -> int:
        """The number of photos."""
        return self._count("SELECT count(*) FROM items", ())

    def count_under(self, *roots: str) -> int:
        """The number of photos whose path is one of ``roots`` or inside one."""
        from xmodal_cli.data.scan import outermost

        conditions = map(path_condition, outermost(roots))
        return sum(self._count(f"SELECT count(*) FROM items WHERE {sql}", values) for sql, values in conditions)

    def unreadable(self) -> list[UnreadableFile]:
        """The files without vectors, sorted by path."""
        with reading(self._file):
            records = self._database.execute(
                "SELECT path, size, mtime_ns, reason, category FROM unreadable ORDER BY path"
            )
            return [_to_unreadable(*record) for record in records]

    def _select(self, condition: str, values: Iterable[Any]) -> Iterator[IndexedItem]:
        with reading(self._file):
            for record in self._database.execute(f"SELECT {_COLUMNS} FROM items WHERE {condition}", tuple(values)):
                yield _to_item(*record)

    def _select_dated(self, condition: str, values: Iterable[Any]) -> Iterator[Dated[IndexedItem]]:
        statement = f"SELECT {DATE}, {_COLUMNS} FROM items WHERE {condition}"
        with reading(self._file):
            for date, *record in self._database.execute(statement, tuple(values)):
                entry = _to_item(*record)
                yield Dated(str(date), os.fsencode(entry.item.path), entry.item.mtime_ns, entry)

    def _latest(self, mtime_ns: int) -> str:
        with reading(self._file):
            return str(self._database.execute(LATEST, (mtime_ns,)).fetchone()[0])

    def _has_date_indexes(self) -> bool:
        with reading(self._file):
            return not missing_indexes(self._database, DATE_INDEXES)

    def _count(self, statement: str, values: Iterable[Any]) -> int:
        with reading(self._file):
            return int(self._database.execute(statement, tuple(values)).fetchone()[0])


def path_condition(root: str) -> tuple[str, tuple[bytes, ...]]:
    """A condition for paths that are ``root`` or inside it, and its values."""
    path = os.fsencode(root)
    prefix = path.rstrip(os.fsencode(os.sep)) + os.fsencode(os.sep)
    return "(path = ? OR (path >= ? AND path < ?))", (path, prefix, prefix[:-1] + bytes([prefix[-1] + 1]))


def _parts(values: Sequence[Value]) -> Iterator[Sequence[Value]]:
    for start in range(0, len(values), _PER_QUERY):
        yield values[start : start + _PER_QUERY]


def _to_item(key: Any, segment: Any, position: Any, path: Any, *facts: Any) -> IndexedItem:
    """Raises ValueError for a value of the wrong type."""
    size, mtime_ns, digest, decoding, width, height, taken = facts
    numbers = (key, segment, position, size, mtime_ns, width or 0, height or 0)
    texts = (decoding, taken or "")
    if not (
        all(type(number) is int for number in numbers)
        and all(isinstance(text, str) for text in texts)
        and isinstance(path, bytes)
        and isinstance(digest, bytes)
        and position >= 0
    ):
        raise ValueError("a value has the wrong type")
    return IndexedItem(key, segment, position, Item(os.fsdecode(path), *facts))


def _to_unreadable(path: Any, size: Any, mtime_ns: Any, reason: Any, category: Any) -> UnreadableFile:
    if not (type(size) is int and type(mtime_ns) is int and isinstance(reason, str) and isinstance(path, bytes)):
        raise ValueError("a value has the wrong type")
    return UnreadableFile(os.fsdecode(path), size, mtime_ns, reason, Category(category))
