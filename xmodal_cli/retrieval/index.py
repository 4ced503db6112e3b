"""An index opened for reading: one snapshot of the database ``items.sqlite`` and the segments that it names.

The snapshot is that of a read transaction: the index stays as it was opened, whatever is committed since. Its files are
mapped into memory, and stay readable after an update has deleted them.
"""

from __future__ import annotations

import contextlib
import errno
import sqlite3
import stat
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from xmodal_cli.errors import BadData, IncompatibleFeatures
from xmodal_cli.retrieval.database import ITEMS, format_of
from xmodal_cli.retrieval.hints import rebuild_hint
from xmodal_cli.retrieval.index_vectors import IndexVectors
from xmodal_cli.retrieval.items import IndexedItem, ItemStore
from xmodal_cli.retrieval.metadata import FORMAT, IndexMetadata, IndexModel
from xmodal_cli.retrieval.segments import read_segments
from xmodal_cli.retrieval.stored_cells import read_cells
from xmodal_cli.retrieval.stored_metadata import METADATA, connect, load_metadata, read_metadata
from xmodal_cli.retrieval.upgrade import upgrade_index

_ATTEMPTS = 100  # of opening an index whose segments are being replaced


class Index:
    """An index opened for reading; close it, or use it as a context manager."""

    def __init__(
        self, metadata: IndexMetadata, items: ItemStore, vectors: IndexVectors, database: sqlite3.Connection
    ) -> None:
        self.metadata, self.items, self.vectors, self._database = metadata, items, vectors, database

    def __len__(self) -> int:
        return self.metadata.num_items

    def items_of_rows(self, rows: Sequence[int]) -> list[IndexedItem]:
        """The photos with the vectors ``rows``, at least one per vector. Raises BadData."""
        by_segment = self.vectors.by_segment(rows)
        return [entry for key, positions in by_segment.items() for entry in self.items.of_vectors(key, positions)]

    def close(self) -> None:
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def is_index(folder: Path) -> bool:
    """Whether ``folder`` is an index: it has a database, or only the summary of one that was lost."""
    return _is_file(folder / ITEMS) or _is_file(folder / METADATA)


def _is_file(path: Path) -> bool:
    """Whether a file exists; also if that cannot be found out, so that reading it raises the reason."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        return error.errno not in (errno.ELOOP, errno.ENAMETOOLONG)


def open_index(folder: Path, name: str = ITEMS) -> Index:
    """Open the last commit of an index, in its database ``name``; one of format 1 is upgraded first.

    Raises MissingData, BadData, StorageError if it cannot be upgraded.
    """
    for attempt in range(_ATTEMPTS):
        with contextlib.ExitStack() as on_error:
            database = on_error.enter_context(contextlib.closing(connect(folder, name)))
            metadata, is_current = load_metadata(database, folder / name), format_of(database) == FORMAT
            if is_current and (index := _open(folder, name, metadata, database)) is not None:
                on_error.pop_all()
                return index
        if not is_current:
            upgrade_index(folder)
        time.sleep(0.002 * min(attempt, 10))
    raise BadData(f"{folder} cannot be opened: it keeps changing", "wait until indexing has finished")


def _open(folder: Path, name: str, metadata: IndexMetadata, database: sqlite3.Connection) -> Index | None:
    """The index of a snapshot; None if a later commit has deleted its files."""
    file = folder / name
    segments = read_segments(database, file, metadata.model.embed_dim)
    try:
        cells = read_cells(database, file, metadata.model.embed_dim)
        vectors = IndexVectors(folder, segments, metadata.model.embed_dim, cells)
    except FileNotFoundError as error:
        if read_metadata(folder, name).build != metadata.build:
            return None
        missing = Path(str(error.filename)).relative_to(folder)
        raise BadData(f"{folder} is incomplete: {missing} is missing", rebuild_hint(folder)) from error
    return Index(metadata, ItemStore(database, file), vectors, database)


def check_fingerprint(model: IndexModel, fingerprint: str, folder: Path) -> None:
    """Raises IncompatibleFeatures if the model file has changed since it computed the index."""
    if fingerprint != model.fingerprint:
        raise IncompatibleFeatures(
            f"the index {folder.name!r} was made by another version of {model.name} "
            f"({model.fingerprint[:8]}; the file {model.source} is now {fingerprint[:8]})",
            rebuild_hint(folder, *(() if is_index(folder) else ("PATH",))),
        )
