"""Rebuilding an index from scratch: a second database in its folder, which then replaces the content of the first.

Searches use the old index until then. An interrupted rebuild is resumed by the next one with the same model.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from xmodal_cli.drafts import sync
from xmodal_cli.errors import BadData, MissingData
from xmodal_cli.paths import storage_errors
from xmodal_cli.retrieval.caption_table import create_if_captioned, keep_captions, restore_captions
from xmodal_cli.retrieval.database import (
    ITEMS,
    REBUILD,
    SCHEMA,
    SIDE_FILES,
    attach,
    connect_writer,
    format_of,
    transaction,
    writing,
)
from xmodal_cli.retrieval.index import Index, open_index
from xmodal_cli.retrieval.metadata import FORMAT, IndexMetadata
from xmodal_cli.retrieval.stored_metadata import read_metadata

_TABLES = ("meta", "cells", "segments", "items", "unreadable")


def open_unfinished(folder: Path, wanted: IndexMetadata) -> Index | None:
    """The index that an interrupted rebuild has written, if its vectors are as ``wanted``; else it is deleted."""
    with contextlib.suppress(BadData, MissingData):
        found = read_metadata(folder, REBUILD)
        facts = [(m.model.fingerprint, m.store, m.decoding) for m in (found, wanted)]
        if facts[0] == facts[1]:
            return open_index(folder, REBUILD)
    discard(folder)
    return None


def discard(folder: Path) -> None:
    """Delete the database of an interrupted rebuild."""
    for suffix in ("", *SIDE_FILES):
        with contextlib.suppress(OSError):
            (folder / f"{REBUILD}{suffix}").unlink()


def adopt(folder: Path) -> None:
    """Replace the content of an index by that of the new database. Raises StorageError."""
    new, file = folder / REBUILD, folder / ITEMS
    with storage_errors(folder):
        if not _replace_content(file, new):  # nobody can read the old one
            with contextlib.closing(connect_writer(new)) as database, transaction(database, new):
                create_if_captioned(database)
            for suffix in SIDE_FILES:
                Path(f"{file}{suffix}").unlink(missing_ok=True)
            new.replace(file)
            sync(folder)
        discard(folder)


def _replace_content(file: Path, new: Path) -> bool:
    """Replace all tables in one transaction, so that readers have either; False if the old database cannot be used."""
    try:
        read_metadata(file.parent)
        with contextlib.closing(connect_writer(file)) as database:
            if format_of(database) != FORMAT:
                return False
            with writing(new):
                attach(database, new, "new")
            with transaction(database, file):
                keep_captions(database)
                for table in _TABLES:
                    database.execute(f"DROP TABLE IF EXISTS main.{table}")
                for statement in SCHEMA.split(";"):
                    database.execute(statement)
                for table in _TABLES:
                    database.execute(f"INSERT INTO main.{table} SELECT * FROM new.{table}")
                restore_captions(database)
            database.execute("DETACH DATABASE new")
            return True
    except (BadData, MissingData):
        return False
