"""Reads the metadata of an index from its database, or of an index of format 1 from its ``index.json``."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from xmodal_cli import json_checksum
from xmodal_cli.errors import BadData, MissingData
from xmodal_cli.file_errors import parse_json, parse_json_object
from xmodal_cli.retrieval.database import ITEMS, connect_reader, damaged, format_of, unreadable
from xmodal_cli.retrieval.hints import index_command, index_name, rebuild_hint
from xmodal_cli.retrieval.metadata import CAPTIONER, FORMAT, IndexMetadata, NewerVersion, parse_metadata

METADATA = "index.json"


def connect(folder: Path, name: str = ITEMS) -> sqlite3.Connection:
    """A connection to the database ``name`` of an index, in a read transaction. Raises MissingData, BadData."""
    try:
        return connect_reader(folder / name)
    except (FileNotFoundError, NotADirectoryError) as error:
        if name == ITEMS and (folder / METADATA).exists():
            raise BadData(f"{folder} is incomplete: {name} is missing", rebuild_hint(folder, "PATH")) from error
        command = index_command("PATH", index=index_name(folder))
        raise MissingData(f"there is no index at {folder}", f"create it: {command}") from error


def read_metadata(folder: Path, name: str = ITEMS) -> IndexMetadata:
    """Read the metadata of an index, of any format; ``name`` is that of its database.

    Raises MissingData without an index, BadData if it is damaged or was written by a newer xmodal.
    """
    with contextlib.closing(connect(folder, name)) as database:
        return load_metadata(database, folder / name)


def load_metadata(database: sqlite3.Connection, file: Path) -> IndexMetadata:
    """The metadata in the open database ``file``. Raises BadData."""
    with _checked(file, file.parent):
        found = format_of(database)
        if found > FORMAT:
            raise NewerVersion(f"format {found}")
        if found == FORMAT:
            rows = database.execute("SELECT * FROM meta WHERE key != ?", (CAPTIONER,))
            return parse_metadata(json_checksum.verify({key: parse_json(value) for key, value in rows}))
    return _read_format_1(file.parent)


def _read_format_1(folder: Path) -> IndexMetadata:
    file = folder / METADATA
    try:
        content = file.read_bytes()
    except FileNotFoundError as error:
        raise damaged(folder / ITEMS, "it has no metadata", "PATH") from error
    except OSError as error:
        raise unreadable(file, error) from error
    with _checked(file, folder):
        fields: dict[str, Any] = parse_json_object(content)
        if fields["format"] != 1:
            raise damaged(folder / ITEMS, "it has no metadata", "PATH")
        return parse_metadata(fields)


@contextlib.contextmanager
def _checked(file: Path, folder: Path) -> Iterator[None]:
    """Convert the errors of content of another shape to BadData."""
    try:
        yield
    except NewerVersion as error:
        raise BadData(f"{folder} was written by a newer xmodal ({error})", "upgrade xmodal") from error
    except (sqlite3.Error, ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise BadData(f"{file} is damaged: {reason}", rebuild_hint(folder, "PATH")) from error
