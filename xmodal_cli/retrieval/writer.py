"""Commits changes to an index: each transaction is one step, which readers see as a whole or not at all.

The files of new segments are on disk before the commit that names them; those of dropped segments are deleted after it.
"""

from __future__ import annotations

import contextlib
import sqlite3
import uuid
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

import numpy as np

from xmodal_cli.models.array_similarity import array_similarity
from xmodal_cli.paths import atomic_path, write_text
from xmodal_cli.retrieval.cells import CoarseQuantizer
from xmodal_cli.retrieval.database import (
    ADDED_INDEXES,
    ITEMS,
    connect_new,
    connect_writer,
    missing_indexes,
    transaction,
    writing,
)
from xmodal_cli.retrieval.index_transaction import IndexTransaction
from xmodal_cli.retrieval.index_vectors import IndexVectors
from xmodal_cli.retrieval.items import ItemStore
from xmodal_cli.retrieval.metadata import IndexMetadata
from xmodal_cli.retrieval.segments import (
    NewSegment,
    Segment,
    delete_files,
    read_segments,
    write_segment,
)
from xmodal_cli.retrieval.stored_cells import read_cells
from xmodal_cli.retrieval.stored_metadata import METADATA
from xmodal_cli.retrieval.vectors import WRITTEN, Layout, TakeRows
from xmodal_cli.version import __version__

MAX_FP16 = 65504.0  # larger numbers have no half precision
MIN_SORTED = 1024  # vectors; all of a smaller segment are scored


class IndexWriter:
    """Writes to the database ``file`` of the index in ``folder``, whose lock the caller has.

    ``metadata`` is that of the last commit; for a new index, that of the first one. The database is created by the
    first use. All methods raise BadData and StorageError.
    """

    def __init__(self, folder: Path, file: Path, metadata: IndexMetadata) -> None:
        self.folder, self.file, self.metadata = folder, file, metadata
        self._database: sqlite3.Connection | None = None
        self._cells: dict[int, CoarseQuantizer] | None = None

    def exists(self) -> bool:
        """Whether there is a database: that of an earlier update, or of this one."""
        return self._database is not None or self.file.exists()

    @property
    def items(self) -> ItemStore:
        """The photos of the last commit."""
        return ItemStore(self._connection, self.file)

    def segments(self) -> list[Segment]:
        """The segments of the last commit."""
        return read_segments(self._connection, self.file, self.metadata.model.embed_dim)

    @property
    def newest_cells(self) -> tuple[int, CoarseQuantizer] | None:
        """The key and the cells by which new segments are sorted, if the index has any."""
        if self._cells is None:
            self._cells = read_cells(self._connection, self.file, self.metadata.model.embed_dim)
        return next(reversed(self._cells.items()), None)

    def add_missing_indexes(self) -> None:
        """Create the indexes (of SQLite) that a database of an older version does not have."""
        database = self._connection
        if missing := missing_indexes(database, ADDED_INDEXES):
            with transaction(database, self.file):
                for name in missing:
                    database.execute(ADDED_INDEXES[name])

    def open_vectors(self) -> IndexVectors:
        """The vectors of the last commit."""
        return IndexVectors(self.folder, self.segments(), self.metadata.model.embed_dim)

    @contextlib.contextmanager
    def transaction(self, metadata: IndexMetadata | None = None) -> Iterator[IndexTransaction]:
        """Commit the changes made in the context, and ``metadata``; without any change, nothing is written."""
        database, after = self._connection, metadata or self.metadata
        with transaction(database, self.file):
            change = IndexTransaction(database, self.file)
            num_changes = database.total_changes
            yield change
            change.mark_deleted()
            has_changes = database.total_changes > num_changes or not _same_facts(after, self.metadata)
            if has_changes:
                after = _next_build(after, change)
                database.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", after.to_rows())
        if has_changes:
            self.metadata, self._cells = after, None
            delete_files(self.folder, change.dropped)
            if self.file.name == ITEMS:
                write_summary(self.folder, after)

    def set_metadata(self, metadata: IndexMetadata) -> None:
        """Commit other metadata of the same photos."""
        with self.transaction(metadata):
            pass

    def write_vectors(self, count: int, take: TakeRows, cell_of: np.ndarray | None = None) -> NewSegment:
        """Write ``count`` vectors, read through ``take``, to the file of a segment that a transaction then adds.

        ``cell_of`` (count,) are the cells of the vectors, if they are known.
        """
        model, dtype = self.metadata.model, self.metadata.store
        is_unit = array_similarity(model.similarity).inner_product
        if dtype == "fp16" and not is_unit and _largest(count, take) > MAX_FP16:
            dtype = "fp32"
        layout, newest = Layout(dtype, count, model.embed_dim), self.newest_cells
        if newest is None or count < MIN_SORTED:
            return write_segment(self.folder, layout, take)
        key, cells = newest
        if cell_of is None:
            cell_of = np.concatenate([cells.assign(take(rows)) for rows in _blocks(count)])
        return write_segment(self.folder, layout, take, key, cell_of, len(cells))

    def close(self) -> None:
        """Close the database, which empties its write-ahead log if nobody reads."""
        if self._database is not None:
            self._database.close()
            self._database = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def _connection(self) -> sqlite3.Connection:
        if self._database is None:
            if not self.file.exists():
                self._create()
            self._database = connect_writer(self.file)
        return self._database

    def _create(self) -> None:
        """Create a database without photos, which appears as a whole."""
        empty = replace(self.metadata, num_items=0, num_unreadable=0)
        with atomic_path(self.file) as new, writing(self.file), contextlib.closing(connect_new(new)) as database:
            database.executemany("INSERT INTO meta VALUES (?, ?)", empty.to_rows())


def write_summary(folder: Path, metadata: IndexMetadata) -> None:
    """Write ``index.json``, unless it has the content of the last commit. Raises StorageError."""
    file, text = folder / METADATA, metadata.to_json()
    with contextlib.suppress(OSError):
        if file.read_bytes() == text.encode():
            return
    write_text(file, text)


def _next_build(metadata: IndexMetadata, change: IndexTransaction) -> IndexMetadata:
    return replace(
        metadata,
        build=uuid.uuid4().hex,
        updated=datetime.now(UTC).isoformat(timespec="microseconds"),
        num_items=change.items.count(),
        num_unreadable=change.num_unreadable(),
        xmodal=__version__,
    )


def _same_facts(first: IndexMetadata, second: IndexMetadata) -> bool:
    """Whether two versions are equal in what is not new in every commit."""
    return replace(first, build="", updated="", xmodal="", num_items=0, num_unreadable=0) == replace(
        second, build="", updated="", xmodal="", num_items=0, num_unreadable=0
    )


def _largest(count: int, take: TakeRows) -> float:
    return max(float(np.abs(take(rows)).max()) for rows in _blocks(count))


def _blocks(count: int) -> Iterator[np.ndarray]:
    return (np.arange(start, min(start + WRITTEN, count)) for start in range(0, count, WRITTEN))
