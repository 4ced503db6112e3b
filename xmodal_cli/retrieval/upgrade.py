"""Upgrades an index of format 1, in its folder, without computing vectors.

Format 1 had one file of float32 vectors, ``index.faiss``, whose row ``i`` belonged to row ``i`` of ``items``, and its
metadata in ``index.json``. A flat file gets a second name, as a segment; the vectors of a graph or an inverted file are
copied. A new database that names the segment replaces the old one in one step; then what is left of format 1 is
deleted. An interruption leaves a valid index of format 1 or 2.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from xmodal_cli import atomic_folder
from xmodal_cli.drafts import sync
from xmodal_cli.errors import BadData, StorageError
from xmodal_cli.file_identity import sha256_of
from xmodal_cli.file_lock import AlreadyLocked
from xmodal_cli.paths import atomic_path, storage_errors, write_text
from xmodal_cli.retrieval.database import ITEMS, check_regular_file, connect_new, damaged, format_of, reading, writing
from xmodal_cli.retrieval.hints import rebuild_hint
from xmodal_cli.retrieval.index_transaction import IndexTransaction
from xmodal_cli.retrieval.metadata import IndexMetadata
from xmodal_cli.retrieval.segments import Segment, new_id, segment_path
from xmodal_cli.retrieval.stored_metadata import METADATA, connect, load_metadata
from xmodal_cli.retrieval.structured_vectors import open_structure
from xmodal_cli.retrieval.vectors import Layout, StoredVectors, TakeRows, write_vectors

OLD_VECTORS, OLD_QUANTIZED = "index.faiss", "index.coarse"
_WAIT_SECONDS, _POLL_SECONDS = 60.0, 0.1  # for another process that is upgrading the index


def upgrade_index(folder: Path) -> None:
    """Upgrade an index, if it still is of format 1; waits for another process that does so.

    Raises StorageError if the folder cannot be written, BadData if the index is damaged.
    """
    end = time.monotonic() + _WAIT_SECONDS
    while is_format_1(folder):
        try:
            with atomic_folder.write_lock(folder):
                upgrade_locked(folder)
        except AlreadyLocked:
            if time.monotonic() > end:
                raise
            time.sleep(_POLL_SECONDS)
        except StorageError as error:
            raise StorageError(
                f"the index {folder} is of an older format and cannot be upgraded: {error.message}",
                "make its folder writable, or search a copy of it",
            ) from error


def is_format_1(folder: Path) -> bool:
    """Whether an index has to be upgraded. Raises MissingData, BadData."""
    with contextlib.closing(connect(folder)) as database:
        return format_of(database) == 0


def upgrade_locked(folder: Path) -> None:
    """``upgrade_index``, by a caller that has the lock; deletes what format 1 has left."""
    with contextlib.closing(connect(folder)) as old:
        if format_of(old) == 0:
            metadata = load_metadata(old, folder / ITEMS)
            with storage_errors(folder):
                _upgrade(folder, metadata, old)
            write_text(folder / METADATA, metadata.to_json())
    remove_format_1(folder)


def remove_format_1(folder: Path) -> None:
    """Delete what format 1 has left of an upgraded index; also the vectors of an interrupted update."""
    for path in (folder / OLD_VECTORS, folder / OLD_QUANTIZED, folder.with_name(f".{folder.name}.journal")):
        with contextlib.suppress(OSError):
            path.unlink()


def _upgrade(folder: Path, metadata: IndexMetadata, old: sqlite3.Connection) -> None:
    layout = Layout("fp32", metadata.num_items, metadata.model.embed_dim)
    key = new_id()
    path = segment_path(folder, key)
    segments: list[Segment] = []
    if metadata.num_items:
        with storage_errors(path):
            path.parent.mkdir(exist_ok=True)
            _adopt_vectors(folder / OLD_VECTORS, path, layout)
            sync(path.parent)
        segments.append(Segment(key, layout, sha256_of(path)))
    file = folder / ITEMS
    with atomic_path(file) as temporary, writing(file), contextlib.closing(connect_new(temporary)) as new:
        new.execute("BEGIN")
        new.executemany("INSERT INTO meta VALUES (?, ?)", metadata.to_rows())
        for segment in segments:
            IndexTransaction(new, file).add_segment(segment)
        new.executemany(
            "INSERT INTO items (id, path, size, mtime_ns, digest, decoding, segment, position)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            _items(old, file, metadata, key),
        )
        new.executemany("INSERT INTO unreadable VALUES (?, ?, ?, ?, ?)", _unreadable(old, file))
        new.execute("COMMIT")


def _adopt_vectors(source: Path, target: Path, layout: Layout) -> None:
    """Raises BadData unless ``source`` has the vectors of the index."""
    try:
        check_regular_file(source, rebuild_hint(source.parent))
        StoredVectors(source, layout)
    except BadData as error:
        with atomic_path(target) as temporary:
            write_vectors(temporary, layout, _open_structure(source, layout, error))
    except FileNotFoundError as error:
        raise BadData(
            f"{source.parent} is incomplete: {source.name} is missing", rebuild_hint(source.parent)
        ) from error
    else:
        _link(source, target)


def _open_structure(path: Path, layout: Layout, error: BadData) -> TakeRows:
    """Reads the vectors of a file of an ``IndexHNSWFlat`` or ``IndexIVFFlat``. Raises ``error``."""
    try:
        return open_structure(path, layout)
    except (OSError, ValueError):
        raise error from None


def _items(old: sqlite3.Connection, file: Path, metadata: IndexMetadata, key: int) -> Iterator[tuple[Any, ...]]:
    """The rows of the new table ``items``. Raises BadData unless they are those of the vectors."""
    with reading(file):
        columns = {name for _, name, *_ in old.execute("PRAGMA table_info(items)")}
        decoding = "decoding" if "decoding" in columns else "NULL"
        rows = old.execute(f"SELECT row, path, size, mtime_ns, digest, {decoding} FROM items ORDER BY row")
        count = 0
        for count, (row, path, size, mtime_ns, digest, version) in enumerate(rows, 1):
            is_valid = isinstance(path, bytes) and isinstance(digest, bytes) and isinstance(version, str | None)
            if not (is_valid and isinstance(size, int) and isinstance(mtime_ns, int) and row == count - 1):
                raise ValueError("a value has the wrong type, or a photo is missing")
            yield row, path, size, mtime_ns, digest, version or metadata.decoding, key, row
        if count != metadata.num_items:
            raise damaged(file, "it does not have the photos of the vectors")


def _unreadable(old: sqlite3.Connection, file: Path) -> Iterator[tuple[Any, ...]]:
    with reading(file):
        for path, size, mtime_ns, reason, *category in old.execute("SELECT * FROM unreadable"):
            yield path, size, mtime_ns, reason, category[0] if category else "damaged"


def _link(source: Path, target: Path) -> None:
    """Create a hard link, or a copy that is flushed to disk if the file system does not support links."""
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:
        with atomic_path(target) as temporary:
            shutil.copyfile(source, temporary)
