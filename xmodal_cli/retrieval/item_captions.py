"""Captions of the photos of an index: written batch by batch, and found by words in a table (``caption_table.py``).

Captions belong to the bytes of a photo: a moved or copied photo keeps its caption, also in a rebuilt index.
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
from xmodal_cli.retrieval.caption_table import create_caption_table
from xmodal_cli.retrieval.database import ITEMS, connect_writer, reading, transaction
from xmodal_cli.retrieval.metadata import CAPTIONER


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
                create_caption_table(database)
                stored = database.execute("SELECT value FROM meta WHERE key = ?", (CAPTIONER,)).fetchone()
                if stored is None or parse_json(stored[0]) != captioner:
                    database.execute("UPDATE items SET caption = NULL, tags = NULL WHERE caption IS NOT NULL")
                    database.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (CAPTIONER, json.dumps(captioner)))
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
