"""``segments/ID.faiss``: the vectors of an index, in files that are written once, named by the database, and deleted.

A vector without photos is marked as deleted in the database, one bit per vector; its file does not change. Searches see
the vectors of all segments as rows, which are numbered in the order of segments. Large segments are sorted by cell
(``cells.py``), with the cells of the index, which are trained once and used by all segments.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import sqlite3
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from xmodal_cli.errors import BadData
from xmodal_cli.file_identity import sha256_of
from xmodal_cli.paths import atomic_path
from xmodal_cli.retrieval.cells import cell_offsets, sorted_positions
from xmodal_cli.retrieval.database import reading
from xmodal_cli.retrieval.hints import rebuild_hint
from xmodal_cli.retrieval.vectors import DTYPES, UNSORTED, Layout, TakeRows, write_vectors

SEGMENTS = "segments"
COLUMNS = "id, dtype, num_rows, sha256, cells, cell_sizes, num_deleted, deleted"
_NAME = re.compile(r"\.?[0-9a-f]{12}\.faiss(\.[0-9a-f]{8}\.tmp)?")


@dataclass(frozen=True)
class Segment:
    """A row of the table ``segments``.

    ``cells`` is the key of the cells by which it is sorted, or -1; ``cell_sizes`` has the number of its vectors per
    cell, as uint32. ``deleted`` has one bit per vector, the lowest first, None without any.
    """

    id: int
    layout: Layout
    sha256: str
    cells: int = UNSORTED
    cell_sizes: bytes = b""
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

    def cell_offsets(self) -> np.ndarray:
        """(cells + 1,) int64: the first row of each cell, and the end; (1,) if it is not sorted."""
        sizes = np.frombuffer(self.cell_sizes, np.uint32)
        return np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)]).astype(np.int64)

    def cell_of(self) -> np.ndarray:
        """(count,) int32: the cells of the vectors of a sorted segment."""
        sizes = np.frombuffer(self.cell_sizes, np.uint32)
        return np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)

    def to_row(self) -> tuple[int | str | bytes | None, ...]:
        """The values of ``COLUMNS``."""
        facts = self.id, self.layout.dtype, self.layout.count, self.sha256
        return (*facts, self.cells, self.cell_sizes, self.num_deleted, self.deleted)


@dataclass(frozen=True)
class NewSegment:
    """A segment that was written, and the ``positions`` (count,) in it of the vectors that were given."""

    segment: Segment
    positions: np.ndarray


def segment_path(folder: Path, key: int) -> Path:
    """The file of the vectors of a segment of the index in ``folder``."""
    return folder / SEGMENTS / f"{key:012x}.faiss"


def new_id() -> int:
    """A key that no segment had before: readers may still have the files of deleted ones open."""
    return secrets.randbits(47)


def write_segment(
    folder: Path, layout: Layout, take: TakeRows, key: int = UNSORTED, cell_of: np.ndarray | None = None, num: int = 0
) -> NewSegment:
    """Write a file of vectors, flushed to disk, for a later commit. Raises OSError, StorageError.

    ``cell_of`` (count,) are the cells of the vectors, of the ``num`` cells with this ``key``; without it the file is
    not sorted.
    """
    segment = Segment(new_id(), layout, "", key)
    path = segment_path(folder, segment.id)
    positions = np.arange(layout.count) if cell_of is None else sorted_positions(cell_of)
    with atomic_path(path) as temporary:
        write_vectors(temporary, layout, take, None if cell_of is None else positions)
        sha256 = sha256_of(temporary)
    sizes = b"" if cell_of is None else np.diff(cell_offsets(cell_of, num)).astype(np.uint32).tobytes()
    return NewSegment(replace(segment, sha256=sha256, cell_sizes=sizes), positions)


def read_segments(database: sqlite3.Connection, file: Path, dim: int) -> list[Segment]:
    """The segments of an index whose vectors have size ``dim``. Raises BadData."""
    with reading(file):
        return [_to_segment(dim, record) for record in database.execute(f"SELECT {COLUMNS} FROM segments ORDER BY id")]


def _to_segment(dim: int, record: tuple[Any, ...]) -> Segment:
    """Raises ValueError for invalid values."""
    key, dtype, count, sha256, cells, cell_sizes, num_deleted, deleted = record
    if dtype not in DTYPES:
        raise ValueError(f"a segment has the unknown precision {dtype!r:.20}")
    if not (type(key) is int and type(count) is int and 0 <= key < 2**48 and 0 < count < 2**40):
        raise ValueError("a segment has an invalid number")
    if type(cells) is not int or (cells != UNSORTED and np.frombuffer(cell_sizes, np.uint32).sum() != count):
        raise ValueError("the cells of a segment do not match its size")
    num_bits = 0 if deleted is None else int(np.unpackbits(np.frombuffer(deleted, np.uint8)).sum())
    if num_bits != num_deleted or (deleted is not None and len(deleted) != -(-count // 8)):
        raise ValueError("the deleted vectors of a segment do not match its size")
    return Segment(key, Layout(dtype, count, dim), str(sha256), cells, cell_sizes, num_deleted, deleted)


def check_unchanged(folder: Path, segment: Segment) -> None:
    """Raises BadData if the file of a segment is not the one that was written."""
    path = segment_path(folder, segment.id)
    if sha256_of(path) != segment.sha256:
        raise BadData(f"{path} is damaged: its checksum is wrong", rebuild_hint(folder))


def delete_files(folder: Path, ids: Iterable[int]) -> None:
    """Delete the files of segments; those that are in use on Windows are left to ``delete_orphans``."""
    for key in ids:
        with contextlib.suppress(OSError):
            segment_path(folder, key).unlink()


def has_other_files(folder: Path) -> bool:
    """Whether the folder of the segments has files that are not segments."""
    try:
        return any(not _NAME.fullmatch(name) for name in os.listdir(folder / SEGMENTS))
    except FileNotFoundError:
        return False
    except OSError:
        return True


def delete_orphans(folder: Path, ids: Collection[int]) -> None:
    """Delete the files of segments that are not in ``ids``: those of interrupted updates."""
    names = {f"{key:012x}" for key in ids}
    with contextlib.suppress(OSError):
        for path in list((folder / SEGMENTS).iterdir()):
            if _NAME.fullmatch(path.name) and path.name.split(".")[0] not in names:
                with contextlib.suppress(OSError):
                    path.unlink()
