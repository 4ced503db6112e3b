"""Vectors computed so far, kept beside an index until it is written, so that a killed run loses nothing.

One file: a header that says which model speaks, then records of one size: the picture's digest, its vector
and a checksum. A torn tail, or a file of another model, is dropped. Knows neither files nor FAISS.
"""

from __future__ import annotations

import json
import os
import zlib
from pathlib import Path
from typing import Self

import numpy as np

from xmodal_cli.paths import storage_errors

_HEADER = 512  # bytes: JSON, padded with spaces


class Journal:
    """An append-only file of (digest, vector), open for reading and writing by one process."""

    def __init__(self, path: Path, fingerprint: str, dim: int) -> None:
        self._path, self._dim = path, dim
        self._record = np.dtype([("digest", "V16"), ("vector", "<f4", (dim,)), ("check", "<u4")])
        self._row_of: dict[bytes, int] = {}
        head = json.dumps({"journal": 1, "fingerprint": fingerprint, "dim": dim}).encode().ljust(_HEADER)
        with storage_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(path, "a+b", buffering=0)  # noqa: SIM115 - closed with the journal
            self._file.seek(0)
            if self._file.read(_HEADER) != head:
                self._file.truncate(0)
                self._file.write(head)
            self._read_back()

    def _read_back(self) -> None:
        """Index the whole records; cut off the rest."""
        while True:
            raw = self._file.read(self._record.itemsize)
            if len(raw) < self._record.itemsize or _check(raw[:-4]) != raw[-4:]:
                break
            self._row_of[raw[:16]] = len(self._row_of)
        self._file.truncate(_HEADER + len(self._row_of) * self._record.itemsize)

    def __len__(self) -> int:
        return len(self._row_of)

    def row(self, digest: bytes) -> int | None:
        """Where the vector of these bytes stands, if it was computed."""
        return self._row_of.get(digest)

    def add(self, digest: bytes, vector: np.ndarray) -> None:
        """Append (dim,) float32; it is safe against the process's end once this returns. Raises StorageError."""
        if digest in self._row_of:
            return
        raw = digest + np.ascontiguousarray(vector, "<f4").tobytes()
        with storage_errors(self._path):
            self._write(raw + _check(raw))
        self._row_of[digest] = len(self._row_of)

    def _write(self, raw: bytes) -> None:
        while raw:
            raw = raw[self._file.write(raw) :]

    def flush(self) -> None:
        """Make what was added safe against a power cut too."""
        with storage_errors(self._path):
            os.fsync(self._file.fileno())

    def take(self, rows: np.ndarray) -> np.ndarray:
        """(rows,) -> (rows, dim) float32."""
        if len(rows) == 0:
            return np.empty((0, self._dim), np.float32)
        shape = (len(self._row_of),)
        records = np.memmap(self._path, dtype=self._record, mode="r", offset=_HEADER, shape=shape)
        return np.asarray(records["vector"][rows], np.float32)

    def remove(self) -> None:
        """Delete the file: its vectors are in the index now."""
        self._path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()


def _check(content: bytes) -> bytes:
    return zlib.crc32(content).to_bytes(4, "little")


def journal_path(folder: Path) -> Path:
    """Where work in progress for ``folder`` is kept."""
    return folder.with_name(f".{folder.name}.journal")
