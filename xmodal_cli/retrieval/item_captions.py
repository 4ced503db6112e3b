"""Captions of the photos of an index: written batch by batch, and found by words in a full-text table.

``item_captions`` is an FTS5 table over the captions and tags in ``items``, with the stems of English words; triggers
keep it up to date. Captions belong to the bytes of a photo: a moved or copied photo keeps its caption.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from xmodal_cli.atomic_folder import write_lock
from xmodal_cli.file_errors import parse_json
from xmodal_cli.reporter import Reporter
from xmodal_cli.retrieval.conditions import CAPTIONS
from xmodal_cli.retrieval.database import ITEMS, connect_writer, reading, transaction

_KEY = "captioner"  # in the table ``meta``
_DELETE = f"INSERT INTO {CAPTIONS} ({CAPTIONS}, rowid, caption, tags) VALUES ('delete', old.id, old.caption, old.tags);"
_INSERT = f"INSERT INTO {CAPTIONS} (rowid, caption, tags) VALUES (new.id, new.caption, new.tags);"
_SCHEMA = (
    f"CREATE VIRTUAL TABLE {CAPTIONS} USING fts5(caption, tags, content='items', content_rowid='id',"
    " tokenize='porter unicode61 remove_diacritics 2')",
    f"CREATE TRIGGER {CAPTIONS}_insert AFTER INSERT ON items BEGIN {_INSERT} END",
    f"CREATE TRIGGER {CAPTIONS}_delete AFTER DELETE ON items BEGIN {_DELETE} END",
    f"CREATE TRIGGER {CAPTIONS}_update AFTER UPDATE OF caption, tags ON items BEGIN {_DELETE} {_INSERT} END",
    f"INSERT INTO {CAPTIONS} ({CAPTIONS}) VALUES ('rebuild')",
)


@dataclass(frozen=True)
class PhotoToCaption:
    """A photo without a caption: one of the files with these bytes."""

    path: Path
    digest: bytes


@dataclass(frozen=True)
class NewCaption:
    """The caption and the tags of the photos with these bytes."""

    digest: bytes
    caption: str
    tags: tuple[str, ...] = ()


class CaptionWriter:
    """Writes captions to the index in ``folder``; each batch is a commit, for which it takes the lock of the index.

    All methods raise BadData and StorageError.
    """

    def __init__(self, folder: Path, reporter: Reporter) -> None:
        self._folder, self._file, self._reporter = folder, folder / ITEMS, reporter

    def prepare(self, captioner: str) -> tuple[list[PhotoToCaption], int]:
        """The photos without a caption by ``captioner``, in the order of paths, and the number of all photos.

        ``captioner`` identifies the model and its settings; captions by another one are removed.
        """
        with self._lock(), contextlib.closing(connect_writer(self._file)) as database:
            with transaction(database, self._file):
                has_table = database.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (CAPTIONS,)).fetchone()
                if not has_table:
                    for statement in _SCHEMA:
                        database.execute(statement)
                stored = database.execute("SELECT value FROM meta WHERE key = ?", (_KEY,)).fetchone()
                if stored is None or parse_json(stored[0]) != captioner:
                    database.execute("UPDATE items SET caption = NULL, tags = NULL WHERE caption IS NOT NULL")
                    database.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (_KEY, json.dumps(captioner)))
            with reading(self._file):
                statement = "SELECT min(path), digest FROM items WHERE caption IS NULL GROUP BY digest ORDER BY 1"
                pending = [PhotoToCaption(Path(os.fsdecode(p)), d) for p, d in database.execute(statement)]
                (count,) = database.execute("SELECT count(*) FROM items").fetchone()
                return pending, int(count)

    def write(self, captions: Sequence[NewCaption]) -> int:
        """Write the captions of photos that are still in the index; returns the number of photos."""
        with (
            self._lock(),
            contextlib.closing(connect_writer(self._file)) as database,
            transaction(database, self._file),
        ):
            done = database.executemany(
                "UPDATE items SET caption = ?, tags = ? WHERE digest = ?",
                [(c.caption, ", ".join(c.tags) or None, c.digest) for c in captions],
            )
            return max(done.rowcount, 0)

    def _lock(self) -> contextlib.AbstractContextManager[None]:
        """Wait for an update of the index, however long it takes."""
        return write_lock(self._folder, reporter=self._reporter, wait_seconds=math.inf)
