"""Indexes of format 1, as xmodal wrote them before segments: three files, one row per photo in the order of paths."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import faiss
import numpy as np

from xmodal_cli.retrieval.file_hashing import file_digest
from xmodal_cli.retrieval.metadata import IndexModel

_SCHEMA = """
CREATE TABLE items (row INTEGER PRIMARY KEY, path BLOB NOT NULL UNIQUE, size INTEGER NOT NULL,
                    mtime_ns INTEGER NOT NULL, digest BLOB NOT NULL, decoding TEXT);
CREATE INDEX items_by_digest ON items (digest);
CREATE TABLE unreadable (path BLOB PRIMARY KEY, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, reason TEXT NOT NULL,
                         category TEXT NOT NULL);
"""


def write_format_1(folder: Path, root: Path, photos: Sequence[Path], vectors: np.ndarray, model: IndexModel) -> None:
    """Write an index of ``photos``, which are sorted by path, with their vectors (photos, dim)."""
    folder.mkdir(parents=True)
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    faiss.write_index(index, str(folder / "index.faiss"))
    with contextlib.closing(sqlite3.connect(folder / "items.sqlite")) as database, database:
        database.executescript(_SCHEMA)
        for row, path in enumerate(photos):
            status = path.stat()
            facts = (status.st_size, status.st_mtime_ns, file_digest(str(path)), None)
            database.execute("INSERT INTO items VALUES (?, ?, ?, ?, ?, ?)", (row, os.fsencode(path), *facts))
    content = {
        "format": 1,
        "build": "0" * 32,
        "model": asdict(model),
        "kind": "flat",
        "roots": [str(root)],
        "num_items": len(photos),
        "num_unreadable": 0,
        "created": "2026-01-01T00:00:00.000000+00:00",
        "updated": "2026-01-01T00:00:00.000000+00:00",
        "mounts": [],
        "exclude": [],
        "decoding": "srgb-2",
        "xmodal": "0.1.0",
    }
    (folder / "index.json").write_text(json.dumps(content))
