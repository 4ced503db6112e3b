"""``segments/ID.faiss``: the vectors of an index, in files that are written once, named by the database, and deleted.

A vector without photos is marked as deleted in the database, one bit per vector; its file does not change. Searches see
the vectors of all segments as rows, which are numbered in the order of segments.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import sqlite3
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from xmodal_cli.errors import BadData
from xmodal_cli.file_identity import sha256_of
from xmodal_cli.paths import atomic_path
from xmodal_cli.retrieval.database import check_readable, check_regular_file, reading
from xmodal_cli.retrieval.hints import rebuild_hint
from xmodal_cli.retrieval.items import IndexedItem
from xmodal_cli.retrieval.quantized import is_worthwhile
from xmodal_cli.retrieval.vectors import (
    DTYPES,
    KINDS,
    QUANTIZED,
    Layout,
    StoredVectors,
    TakeRows,
    add_quantized,
    write_vectors,
)

SEGMENTS = "segments"
MIN_STRUCTURED = 20_000  # vectors; a graph or an inverted file over fewer of them is slower than to score all
_NAME = re.compile(r"\.?[0-9a-f]{12}\.(faiss|int8)(\.[0-9a-f]{8}\.tmp)?")


@dataclass(frozen=True)
class Segment:
    """A row of the table ``segments``; ``deleted`` has one bit per vector, the lowest first, None without any."""

    id: int
    layout: Layout
    sha256: str
    num_deleted: int = 0
    deleted: bytes | None = None

    @property
    def num_live(self) -> int:
        return self.layout.count - self.num_deleted

    def live(self) -> np.ndarray | None:
        """(count,) bool: the vectors that have photos; None for all of them."""
        if self.deleted is None:
            return None
        bits = np.unpackbits(np.frombuffer(self.deleted, np.uint8), count=self.layout.count, bitorder="little")
        return np.equal(bits, 0)


def segment_kind(kind: str, count: int) -> str:
    """The kind of a segment of ``count`` vectors in an index of ``kind``."""
    return kind if count >= MIN_STRUCTURED else "flat"


def segment_path(folder: Path, key: int) -> Path:
    """The file of the vectors of a segment of the index in ``folder``."""
    return folder / SEGMENTS / f"{key:012x}.faiss"


def new_id() -> int:
    """A key that no segment had before: readers may still have the files of deleted ones open."""
    return secrets.randbits(47)


def write_segment(folder: Path, layout: Layout, take: TakeRows, quantize: bool) -> Segment:
    """Write a file of vectors, flushed to disk, for a later commit. Raises OSError, StorageError.

    ``quantize``: large flat files get an int8-quantized version, for similarities that are inner products.
    """
    key = new_id()
    path = segment_path(folder, key)
    with atomic_path(path) as temporary:
        write_vectors(temporary, layout, take)
        sha256 = sha256_of(temporary)
        if quantize and layout.kind == "flat" and is_worthwhile(layout.shape):
            with atomic_path(path.with_suffix(QUANTIZED)) as quantized:
                add_quantized(temporary, layout, quantized)
    sync_folder(path.parent)
    return Segment(key, layout, sha256)


def read_segments(database: sqlite3.Connection, file: Path, dim: int) -> list[Segment]:
    """The segments of an index whose vectors have size ``dim``. Raises BadData."""
    columns = "id, kind, dtype, num_rows, sha256, num_deleted, deleted"
    with reading(file):
        return [_to_segment(dim, *record) for record in database.execute(f"SELECT {columns} FROM segments ORDER BY id")]


def _to_segment(
    dim: int, key: int, kind: str, dtype: str, count: int, sha256: str, num_deleted: int, deleted: bytes | None
) -> Segment:
    """Raises ValueError for invalid values."""
    if kind not in KINDS or dtype not in DTYPES:
        raise ValueError(f"a segment has the unknown kind {kind!r:.20} or precision {dtype!r:.20}")
    if not (type(key) is int and type(count) is int and 0 <= key < 2**48 and 0 < count < 2**40):
        raise ValueError("a segment has an invalid number")
    num_bits = 0 if deleted is None else int(np.unpackbits(np.frombuffer(deleted, np.uint8)).sum())
    if num_bits != num_deleted or (deleted is not None and len(deleted) != -(-count // 8)):
        raise ValueError("the deleted vectors of a segment do not match its size")
    return Segment(key, Layout(kind, dtype, count, dim), str(sha256), num_deleted, deleted)


def check_unchanged(folder: Path, segment: Segment) -> None:
    """Raises BadData if the file of a segment is not the one that was written."""
    path = segment_path(folder, segment.id)
    if sha256_of(path) != segment.sha256:
        raise BadData(f"{path} is damaged: its checksum is wrong", rebuild_hint(folder))


def delete_files(folder: Path, ids: Iterable[int]) -> None:
    """Delete the files of segments; those that are in use on Windows are left to ``delete_orphans``."""
    for key in ids:
        for path in (segment_path(folder, key), segment_path(folder, key).with_suffix(QUANTIZED)):
            with contextlib.suppress(OSError):
                path.unlink()


def delete_orphans(folder: Path, ids: Collection[int]) -> None:
    """Delete the files of segments that are not in ``ids``: those of interrupted updates."""
    names = {f"{key:012x}" for key in ids}
    with contextlib.suppress(OSError):
        for path in list((folder / SEGMENTS).iterdir()):
            if _NAME.fullmatch(path.name) and path.name.split(".")[0] not in names:
                with contextlib.suppress(OSError):
                    path.unlink()


class IndexVectors:
    """The vectors of all segments, opened; rows are numbered through. Raises BadData, FileNotFoundError."""

    def __init__(self, folder: Path, segments: Sequence[Segment], dim: int) -> None:
        self.dim = dim
        self.parts: list[StoredVectors] = []
        for segment in segments:
            path = segment_path(folder, segment.id)
            check_regular_file(path, rebuild_hint(folder))
            check_readable(path)
            self.parts.append(StoredVectors(path, segment.layout, segment.live()))
        self.ids = [segment.id for segment in segments]
        self.starts = np.cumsum([0, *(part.layout.count for part in self.parts)])
        self._position_of = {key: i for i, key in enumerate(self.ids)}
        self._folder = folder

    @property
    def num_live(self) -> int:
        """The number of vectors that have photos."""
        return sum(part.num_live for part in self.parts)

    def take(self, rows: np.ndarray) -> np.ndarray:
        """(rows,) -> (rows, dim) float32."""
        rows = np.asarray(rows, np.int64)
        vectors = np.empty((len(rows), self.dim), np.float32)
        indices = self._part_indices(rows)
        for i in np.unique(indices):
            vectors[indices == i] = self.parts[i].take(rows[indices == i] - self.starts[i])
        return vectors

    def rows_of(self, items: Iterable[IndexedItem]) -> np.ndarray:
        """(items,) int64: the rows of the vectors of photos. Raises BadData for a vector that does not exist."""
        return np.array([self._row(entry.segment, entry.position) for entry in items], np.int64)

    def _row(self, segment: int, position: int) -> int:
        i = self._position_of.get(segment)
        if i is None or position >= self.parts[i].layout.count:
            raise BadData(
                f"{self._folder} is damaged: a photo has a vector that does not exist", rebuild_hint(self._folder)
            )
        return int(self.starts[i]) + position

    def by_segment(self, rows: Sequence[int]) -> dict[int, list[int]]:
        """The rows as positions in their segments, by the keys of these."""
        found: dict[int, list[int]] = {}
        for row, i in zip(rows, self._part_indices(np.asarray(rows, np.int64)), strict=True):
            found.setdefault(self.ids[i], []).append(int(row) - int(self.starts[i]))
        return found

    def _part_indices(self, rows: np.ndarray) -> np.ndarray:
        return np.searchsorted(self.starts, rows, "right") - 1


def sync_folder(folder: Path) -> None:
    """Flush the names of new files to disk, where a folder can be opened and flushed."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
