"""``items.sqlite``: which file each vector came from, and which files could not be read. Knows no vectors.

Row ``i`` of table ``items`` belongs to vector ``i``. Paths are stored as bytes, since a file's name need not
be text. The file is written once, whole, and from then on only read.
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

from xmodal_cli.errors import BadData, StorageError

_SCHEMA = """
CREATE TABLE items (row INTEGER PRIMARY KEY, path BLOB NOT NULL UNIQUE, size INTEGER NOT NULL,
                    mtime_ns INTEGER NOT NULL, digest BLOB NOT NULL);
CREATE INDEX items_by_digest ON items (digest);
CREATE TABLE unreadable (path BLOB PRIMARY KEY, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, reason TEXT NOT NULL);
"""
_COLUMNS = "row, path, size, mtime_ns, digest"


@dataclass(frozen=True, slots=True)
class Item:
    """A picture in the index. ``digest`` is the BLAKE2b-128 of the file's bytes."""

    path: str
    size: int
    mtime_ns: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class UnreadableFile:
    """A picture file without a vector, and why; with ``mtime_ns`` -1 it is tried again every time."""

    path: str
    size: int
    mtime_ns: int
    reason: str


def write_items(target: Path, items: Iterable[Item], unreadable: Iterable[UnreadableFile]) -> None:
    """Write a new file; the order of ``items`` is the order of their vectors. Raises OSError, StorageError."""
    try:
        with contextlib.closing(sqlite3.connect(target)) as database, database:
            database.executescript("PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF;" + _SCHEMA)
            rows = ((i, os.fsencode(x.path), x.size, x.mtime_ns, x.digest) for i, x in enumerate(items))
            database.executemany("INSERT INTO items VALUES (?, ?, ?, ?, ?)", rows)
            refused = ((os.fsencode(x.path), x.size, x.mtime_ns, x.reason) for x in unreadable)
            database.executemany("INSERT INTO unreadable VALUES (?, ?, ?, ?)", refused)
    except sqlite3.OperationalError as error:
        if "full" in str(error):
            raise OSError(errno.ENOSPC, str(error)) from error
        raise StorageError(f"{target} cannot be written: {error}", "choose another place for the index") from error


class ItemStore:
    """A written file, open for reading; a lookup reads only the rows asked for. Raises BadData when damaged."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._readable():
            address = f"file:{quote(os.fsencode(path))}?mode=ro&immutable=1"
            self._database = sqlite3.connect(address, uri=True, check_same_thread=False)
            with contextlib.ExitStack() as if_damaged:
                if_damaged.callback(self._database.close)
                self._database.execute("SELECT row FROM items LIMIT 1").fetchone()
                if_damaged.pop_all()

    def rows(self, rows: Sequence[int]) -> list[Item]:
        """The items of some vectors, in the order asked for."""
        return [found for row in rows if (found := self._one("row", int(row))) is not None]

    def row_of_path(self, path: str) -> tuple[int, Item] | None:
        """A picture's vector number and item, by its absolute path."""
        return self._numbered("path", os.fsencode(path))

    def row_of_digest(self, digest: bytes) -> int | None:
        """The vector of a picture with these bytes, wherever it is."""
        found = self._numbered("digest", digest)
        return None if found is None else found[0]

    def all_items(self) -> Iterator[Item]:
        """Every item in the order of the vectors."""
        with self._readable():
            for found in self._database.execute(f"SELECT {_COLUMNS} FROM items ORDER BY row"):
                yield _item(found)

    def unreadable(self) -> list[UnreadableFile]:
        """The files without vectors, by path."""
        with self._readable():
            found = self._database.execute("SELECT path, size, mtime_ns, reason FROM unreadable ORDER BY path")
            return [UnreadableFile(os.fsdecode(p), size, mtime, reason) for p, size, mtime, reason in found]

    def close(self) -> None:
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _one(self, column: str, value: int | bytes) -> Item | None:
        found = self._numbered(column, value)
        return None if found is None else found[1]

    def _numbered(self, column: str, value: int | bytes) -> tuple[int, Item] | None:
        with self._readable():
            asked = f"SELECT {_COLUMNS} FROM items WHERE {column} = ? ORDER BY row LIMIT 1"
            found = self._database.execute(asked, (value,)).fetchone()
        return None if found is None else (found[0], _item(found))

    @contextlib.contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise BadData(
                f"{self._path} is damaged: {error}", "make the index again: xmodal index PATH --rebuild"
            ) from error


def _item(found: tuple[int, bytes, int, int, bytes]) -> Item:
    _, path, size, mtime_ns, digest = found
    return Item(os.fsdecode(path), size, mtime_ns, digest)
