"""``item_captions``: an FTS5 table over the captions and tags in ``items``, with the stems of English words.

Triggers keep it up to date. It exists in an index that has, or had, captions. A rebuild creates it again.
"""

from __future__ import annotations

import sqlite3

from xmodal_cli.retrieval.conditions import CAPTIONS
from xmodal_cli.retrieval.database import NOT_READ
from xmodal_cli.retrieval.metadata import CAPTIONER

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
_KEPT = "temp.kept_captions"


def has_caption_table(database: sqlite3.Connection) -> bool:
    """Whether the table exists."""
    return database.execute("SELECT 1 FROM main.sqlite_master WHERE name = ?", (CAPTIONS,)).fetchone() is not None


def create_caption_table(database: sqlite3.Connection) -> None:
    """Create the table, unless it exists."""
    if not has_caption_table(database):
        for statement in _SCHEMA:
            database.execute(statement)


def create_if_captioned(database: sqlite3.Connection) -> None:
    """Create the table if a photo has a caption."""
    if database.execute("SELECT 1 FROM main.items WHERE caption IS NOT NULL LIMIT 1").fetchone():
        create_caption_table(database)


def keep_captions(database: sqlite3.Connection) -> None:
    """Copy the captions of files that were read to a temporary table, and drop the table of their words."""
    database.execute(f"CREATE TABLE {_KEPT} (digest PRIMARY KEY, caption, tags)")
    database.execute(
        f"INSERT INTO {_KEPT} SELECT digest, min(caption), min(tags) FROM main.items"
        f" WHERE caption IS NOT NULL AND size != {NOT_READ} GROUP BY digest"
    )
    database.execute(
        f"INSERT INTO {_KEPT} SELECT '{CAPTIONER}', value, NULL FROM main.meta WHERE key = ?", (CAPTIONER,)
    )
    database.execute(f"DROP TABLE IF EXISTS main.{CAPTIONS}")


def restore_captions(database: sqlite3.Connection) -> None:
    """Give the photos with the same bytes their captions again, and create the table of their words."""
    database.execute(
        f"UPDATE main.items SET (caption, tags) = (SELECT k.caption, k.tags FROM {_KEPT} k"
        f" WHERE k.digest = items.digest) WHERE caption IS NULL AND size != {NOT_READ}"
        f" AND digest IN (SELECT digest FROM {_KEPT})"
    )
    database.execute(
        f"INSERT OR REPLACE INTO main.meta SELECT digest, caption FROM {_KEPT} WHERE digest = ?", (CAPTIONER,)
    )
    create_if_captioned(database)
    database.execute(f"DROP TABLE {_KEPT}")
