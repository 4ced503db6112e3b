"""``items.sqlite``: the file of each vector, and the files that could not be read.

Row ``i`` of table ``items`` describes vector ``i``. Paths are stored as bytes, since a file name may not be valid
text. The database is written once and then only read.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import quote

from xmodal_cli.data.decoding import DECODING
from xmodal_cli.errors import BadData, Category, StorageError
from xmodal_cli.retrieval.hints import rebuild_hint

_SCHEMA = """
CREATE TABLE items (row INTEGER PRIMARY KEY, path BLOB NOT NULL UNIQUE, size INTEGER NOT NULL,
                    mtime_ns INTEGER NOT NULL, digest BLOB NOT NULL, decoding TEXT);
CREATE INDEX items_by_digest ON items (digest);
CREATE TABLE unreadable (path BLOB PRIMARY KEY, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, reason TEXT NOT NULL,
                         category TEXT NOT NULL);
"""
_PER_QUERY = 500  # rows; SQLite limits the number of parameters
RETRY = -1  # the modification time of a file that every update tries again
_COLUMNS = "row, path, size, mtime_ns, digest"


@dataclass(frozen=True, slots=True)
class Item:
    """A photo in the index. ``digest`` is the BLAKE2b-128 of the file's bytes.

    ``decoding`` is the version of decoding in which its vector was computed (``data/decoding.py``).
    """

    path: str
    size: int
    mtime_ns: int
    digest: bytes
    decoding: str = DECODING


@dataclass(frozen=True, slots=True)
class UnreadableFile:
    """A photo without a vector, and the reason; with ``mtime_ns`` RETRY every update tries it again."""

    path: str
    size: int
    mtime_ns: int
    reason: str
    category: Category = Category.DAMAGED


def write_items(
    target: Path, items: Iterable[Item], unreadable: Iterable[UnreadableFile], decoding: str = DECODING
) -> None:
    """Write a new database, with ``items`` in the order of their vectors. Raises OSError, StorageError.

    ``decoding`` is the version of the index; that of an item is written only if it is another one.
    """
    try:
        # nolock: nobody else has the new file, and some network file systems have no locks
        uri = f"file:{quote(os.fsencode(target))}?nolock=1"
        with contextlib.closing(sqlite3.connect(uri, uri=True)) as database, database:
            database.executescript("PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF;" + _SCHEMA)
            rows = (
                (i, os.fsencode(x.path), x.size, x.mtime_ns, x.digest, None if x.decoding == decoding else x.decoding)
                for i, x in enumerate(items)
            )
            database.executemany("INSERT INTO items VALUES (?, ?, ?, ?, ?, ?)", rows)
            failed = ((os.fsencode(x.path), x.size, x.mtime_ns, x.reason, x.category.value) for x in unreadable)
            database.executemany("INSERT INTO unreadable VALUES (?, ?, ?, ?, ?)", failed)
    except sqlite3.OperationalError as error:
        if "full" in str(error):
            raise OSError(errno.ENOSPC, str(error)) from error
        raise StorageError(f"{target} cannot be written: {error}", "choose another folder for the index") from error


class ItemStore:
    """An ``items.sqlite`` of ``count`` photos opened for reading; lookups read only the requested rows.

    ``decoding`` is the version of the index. Raises BadData if it is damaged.
    """

    def __init__(self, path: Path, count: int, decoding: str = DECODING) -> None:
        self._path, self._decoding = path, decoding
        with self._readable():
            uri = f"file:{quote(os.fsencode(path))}?mode=ro&immutable=1"
            self._database = sqlite3.connect(uri, uri=True, check_same_thread=False)
            with contextlib.ExitStack() as on_error:
                on_error.callback(self._database.close)
                bounds = self._database.execute("SELECT min(row), max(row) FROM items").fetchone()
                if bounds != ((0, count - 1) if count else (None, None)):
                    raise self._damaged("it does not have the photos of the vectors")
                columns = {name for _, name, *_ in self._database.execute("PRAGMA table_info(items)")}
                self._columns = f"{_COLUMNS}, {'decoding' if 'decoding' in columns else 'NULL'}"
                on_error.pop_all()

    def rows(self, rows: Sequence[int]) -> list[Item]:
        """The items of the vectors ``rows``, in that order. Raises BadData if one is missing."""
        found: dict[int, Item] = {}
        for start in range(0, len(rows), _PER_QUERY):
            part = [int(row) for row in rows[start : start + _PER_QUERY]]
            statement = f"SELECT {self._columns} FROM items WHERE row IN ({','.join('?' * len(part))})"
            with self._readable():
                found.update((record[0], self._item(record)) for record in self._database.execute(statement, part))
        if len(found) < len({int(row) for row in rows}):
            raise self._damaged("it does not have the photos of all vectors")
        return [found[int(row)] for row in rows]

    def rows_of_digest(self, digest: bytes) -> list[int]:
        """The rows of all photos with this digest."""
        with self._readable():
            return [row for (row,) in self._database.execute("SELECT row FROM items WHERE digest = ?", (digest,))]

    def row_of_path(self, path: str) -> tuple[int, Item] | None:
        """The row and the item of a photo, by its absolute path."""
        return self._find("path", os.fsencode(path))

    def row_of_digest(self, digest: bytes) -> int | None:
        """The first row of a photo with this digest, at any path."""
        match = self._find("digest", digest)
        return None if match is None else match[0]

    def count_under(self, root: str) -> int:
        """The number of photos whose path is ``root`` or inside it."""
        path = os.fsencode(root)
        prefix = path.rstrip(os.fsencode(os.sep)) + os.fsencode(os.sep)
        statement = "SELECT count(*) FROM items WHERE path = ? OR (path >= ? AND path < ?)"
        with self._readable():
            (count,) = self._database.execute(
                statement, (path, prefix, prefix[:-1] + bytes([prefix[-1] + 1]))
            ).fetchone()
        return int(count)

    def all_items(self) -> Iterator[Item]:
        """All items, in the order of their vectors."""
        with self._readable():
            for record in self._database.execute(f"SELECT {self._columns} FROM items ORDER BY row"):
                yield self._item(record)

    def unreadable(self) -> list[UnreadableFile]:
        """The files without vectors, sorted by path."""
        with self._readable():
            records = self._database.execute("SELECT * FROM unreadable ORDER BY path")
            return [_unreadable_file(*record) for record in records]

    def close(self) -> None:
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _find(self, column: str, value: int | bytes) -> tuple[int, Item] | None:
        with self._readable():
            statement = f"SELECT {self._columns} FROM items WHERE {column} = ? ORDER BY row LIMIT 1"
            record = self._database.execute(statement, (value,)).fetchone()
            return None if record is None else (record[0], self._item(record))

    def _item(self, record: tuple[int, bytes, int, int, bytes, str | None]) -> Item:
        _, path, size, mtime_ns, digest, decoding = record
        is_text = isinstance(path, bytes) and isinstance(digest, bytes) and isinstance(decoding, str | None)
        if not (is_text and isinstance(size, int) and isinstance(mtime_ns, int)):
            raise ValueError("a value has the wrong type")
        return Item(os.fsdecode(path), size, mtime_ns, digest, decoding or self._decoding)

    @contextlib.contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, TypeError, ValueError, OverflowError) as error:  # of values of other types too
            raise self._damaged(str(error)) from error

    def _damaged(self, reason: str) -> BadData:
        return BadData(f"{self._path} is damaged: {reason}", rebuild_hint(self._path.parent))


def _unreadable_file(path: bytes, size: int, mtime_ns: int, reason: str, category: str = "damaged") -> UnreadableFile:
    """A row of the table; indexes of older versions have no category."""
    return UnreadableFile(os.fsdecode(path), size, mtime_ns, reason, Category(category))
