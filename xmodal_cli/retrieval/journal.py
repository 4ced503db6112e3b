"""The vectors computed by an unfinished update, stored next to the index so that the next run can reuse them.

The file has a header with the fingerprint of the model, then fixed-size records: the digest of a photo, its vector
and a checksum. An incomplete last record, or the file of another model, is discarded. The first records may be of an
earlier version of decoding; the header has their number.
"""

from __future__ import annotations

import json
import os
import zlib
from pathlib import Path
from typing import Self

import numpy as np

from xmodal_cli.data.decoding import DECODING, DECODING_BEFORE, VERSIONS
from xmodal_cli.paths import make_folder, storage_errors

_HEADER = 512  # bytes: JSON, padded with spaces


class Journal:
    """An append-only file of (digest, vector) records, opened by one process for reading and writing.

    The first ``num_before`` records are of an earlier version of decoding.
    """

    def __init__(self, path: Path, fingerprint: str, dim: int) -> None:
        self._path, self._dim = path, dim
        self._record = np.dtype([("digest", "V16"), ("vector", "<f4", (dim,)), ("check", "<u4")])
        self._row_of: dict[bytes, int] = {}
        self._count = self.num_before = 0
        self._facts = {"journal": 1, "fingerprint": fingerprint, "dim": dim}
        make_folder(path.parent)
        with storage_errors(path):
            self._file = open(path, "a+b", buffering=0)  # noqa: SIM115 - closed with the journal
            self._file.seek(0)
            decoding = self._read_header()
            if decoding is None:
                self._file.truncate(0)
                self._file.write(self._header())
            self._read_back()
            is_older = decoding not in (None, DECODING)
            num_before = self._count if is_older else min(self.num_before, self._count)
            if is_older or num_before != self.num_before:
                self.num_before = num_before
                with open(path, "r+b") as file:  # the other one can only append
                    file.write(self._header())

    def _header(self) -> bytes:
        content = {**self._facts, "decoding": DECODING, "num_before": self.num_before}
        return json.dumps(content).encode().ljust(_HEADER)

    def _read_header(self) -> str | None:
        """The version of decoding of the journal; None if there is none, or of another model or a newer xmodal."""
        try:
            content = json.loads(self._file.read(_HEADER))
            decoding = content.pop("decoding", DECODING_BEFORE)
            self.num_before = int(content.pop("num_before", 0))
        except (ValueError, TypeError, AttributeError, RecursionError, OverflowError):
            return None
        if content == self._facts and decoding in VERSIONS:
            return str(decoding)
        self.num_before = 0
        return None

    def _read_back(self) -> None:
        """Read the records up to the first incomplete or damaged one, and truncate the file there."""
        while True:
            raw = self._file.read(self._record.itemsize)
            if len(raw) < self._record.itemsize or _checksum(raw[:-4]) != raw[-4:]:
                break
            self._row_of[raw[:16]] = self._count
            self._count += 1
        self._file.truncate(_HEADER + self._count * self._record.itemsize)

    def __len__(self) -> int:
        return self._count

    def digests_before(self) -> list[bytes]:
        """The digests of the photos whose vectors are of an earlier version of decoding."""
        return [digest for digest, row in self._row_of.items() if row < self.num_before]

    def row(self, digest: bytes) -> int | None:
        """The row of the vector of the photo with this digest, or None."""
        return self._row_of.get(digest)

    def add(self, digest: bytes, vector: np.ndarray) -> None:
        """Append a vector, (dim,) float32; it then survives the end of the process. Raises StorageError."""
        if self._row_of.get(digest, -1) >= self.num_before:
            return
        raw = digest + np.ascontiguousarray(vector, "<f4").tobytes()
        with storage_errors(self._path):
            self._write(raw + _checksum(raw))
        self._row_of[digest] = self._count
        self._count += 1

    def _write(self, raw: bytes) -> None:
        while raw:
            raw = raw[self._file.write(raw) :]

    def flush(self) -> None:
        """Flush to disk, so that the vectors also survive a power failure. Raises StorageError."""
        with storage_errors(self._path):
            os.fsync(self._file.fileno())

    def take(self, rows: np.ndarray) -> np.ndarray:
        """(rows,) -> (rows, dim) float32."""
        if len(rows) == 0:
            return np.empty((0, self._dim), np.float32)
        shape = (self._count,)
        records = np.memmap(self._path, dtype=self._record, mode="r", offset=_HEADER, shape=shape)
        return np.asarray(records["vector"][rows], np.float32)

    def remove(self) -> None:
        """Delete the file, after its vectors have been written to the index."""
        self._path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()
        if not self._count:  # nothing to reuse
            self.remove()


def _checksum(content: bytes) -> bytes:
    return zlib.crc32(content).to_bytes(4, "little")


def journal_path(folder: Path) -> Path:
    """The path of the journal of the index in ``folder``."""
    return folder.with_name(f".{folder.name}.journal")
