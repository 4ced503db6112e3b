"""A file of image vectors (count, dim) in the format of FAISS, one row per vector. It is written once and only read.

It is an ``IndexFlatIP`` or, in half precision, an ``IndexScalarQuantizer``. Both are the matrix after a header, so the
file is written, memory-mapped and read by numpy, without importing faiss, which takes longer than a search.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from xmodal_cli.errors import BadData
from xmodal_cli.retrieval import faiss_products
from xmodal_cli.retrieval.half_precision import half_inner_products, half_to_float32
from xmodal_cli.retrieval.hints import rebuild_hint
from xmodal_cli.retrieval.mapped_file import MappedFile

DTYPES: dict[str, np.dtype[Any]] = {"fp16": np.dtype("<f2"), "fp32": np.dtype("<f4")}
BLOCK = 1024  # rows per scored block, so that its float32 vectors stay in the CPU cache
MIN_RUN = 8  # rows; FAISS is called once per run
UNSORTED = -1  # instead of the key of cells
WRITTEN = 16_384  # rows per block that is read, sorted and written

TakeRows = Callable[[np.ndarray], np.ndarray]  # (rows,) int64 -> (rows, dim) float32


@dataclass(frozen=True)
class Layout:
    """What a file of vectors has: ``count`` vectors of size ``dim``, stored as ``dtype`` (``DTYPES``)."""

    dtype: str
    count: int
    dim: int

    @property
    def shape(self) -> tuple[int, int]:
        return self.count, self.dim


def write_vectors(target: Path, layout: Layout, take: TakeRows, positions: np.ndarray | None = None) -> None:
    """Write the vectors, read block by block through ``take``. Raises OSError.

    ``positions`` (count,) is the row in the file of each vector; without it they are written in order. The vectors are
    read in order in both cases, since a source that is larger than memory is slow to read in another one.
    """
    with open(target, "wb") as file:
        file.write(header_of(layout))
        for rows in _blocks(layout.count):
            vectors = np.ascontiguousarray(take(rows), DTYPES[layout.dtype])
            if positions is None:
                file.write(vectors.data)
            else:
                _write_at(file, vectors, positions[rows], len(header_of(layout)))


def _write_at(file: BinaryIO, vectors: np.ndarray, positions: np.ndarray, start: int) -> None:
    """Write vectors at their positions, neighbors at once."""
    order = np.argsort(positions)
    vectors, positions = vectors[order], positions[order]
    ends = np.append(np.flatnonzero(np.diff(positions) != 1) + 1, len(positions))
    first = 0
    for end in ends.tolist():
        file.seek(start + int(positions[first]) * vectors[0].nbytes)
        file.write(vectors[first:end].data)
        first = end


def _blocks(count: int) -> Iterator[np.ndarray]:
    for start in range(0, count, WRITTEN):
        yield np.arange(start, min(start + WRITTEN, count))


class StoredVectors:
    """A file of vectors opened for reading. Raises BadData if it is damaged or not of ``layout``, FileNotFoundError.

    ``live`` (count,) bool are the rows that a search returns, None for all of them. In a file sorted by cell, ``cells``
    is the key of the cells, and the rows of cell ``i`` are those from ``cell_offsets[i]`` on; else ``cells`` is -1.
    """

    def __init__(
        self,
        path: Path,
        layout: Layout,
        live: np.ndarray | None = None,
        cells: int = UNSORTED,
        cell_offsets: np.ndarray | None = None,
    ) -> None:
        self.layout, self.live, self.cells = layout, live, cells
        self.cell_offsets = np.zeros(1, np.int64) if cell_offsets is None else cell_offsets
        self.num_live = layout.count if live is None else int(live.sum())
        self._file = _map(path, layout)
        self._matrix = self._file.content[len(header_of(layout)) :].reshape(layout.count, -1)

    def take(self, rows: np.ndarray | slice) -> np.ndarray:
        """(rows,) -> (rows, dim) float32, a copy."""
        vectors = self._stored(rows)
        return half_to_float32(vectors) if self.layout.dtype == "fp16" else vectors.astype(np.float32, copy=False)

    def inner_products(self, rows: np.ndarray | range, direction: np.ndarray) -> np.ndarray:
        """(rows,), (dim,) float32 -> (rows,) float32: the products of vectors with ``direction``."""
        if self.layout.dtype == "fp16" and faiss_products.is_imported():
            runs = _runs(rows)
            found = faiss_products.inner_products(self._matrix, runs, direction) if _are_long(runs) else None
            if found is not None:
                return found
        products = np.empty(len(rows), np.float32)
        for block, part in _row_blocks(rows):
            vectors = self._stored(part)
            if self.layout.dtype == "fp16":
                products[block] = half_inner_products(vectors, direction)
            else:
                products[block] = vectors.astype(np.float32, copy=False) @ direction
        return products

    def _stored(self, rows: np.ndarray | slice) -> np.ndarray:
        """(rows, dim) in the precision of the file; a copy, because elements are not aligned in it."""
        copied = np.array(self._matrix[rows]) if isinstance(rows, slice) else np.take(self._matrix, rows, axis=0)
        return copied.view(DTYPES[self.layout.dtype])

    def release(self) -> None:
        """Give back the pages of the file that were read (``mapped_file.py``)."""
        self._file.release()

    def blocks(self, rows: np.ndarray | range) -> Iterator[tuple[slice, np.ndarray]]:
        """Yield the vectors of ``rows`` as (slice of rows, (rows, dim) float32) of at most ``BLOCK`` rows."""
        for block, part in _row_blocks(rows):
            yield block, self.take(part)


def _runs(rows: np.ndarray | range) -> list[tuple[int, int]]:
    """Ascending ``rows`` as runs (start, stop) of consecutive ones."""
    if isinstance(rows, range):
        return [(rows.start, rows.stop)]
    ends = np.flatnonzero(np.diff(rows) != 1) + 1
    starts = rows[np.concatenate([[0], ends])] if len(rows) else rows
    stops = rows[np.concatenate([ends - 1, [len(rows) - 1]])] + 1 if len(rows) else rows
    return list(zip(starts.tolist(), stops.tolist(), strict=True))


def _are_long(runs: list[tuple[int, int]]) -> bool:
    return sum(stop - start for start, stop in runs) >= MIN_RUN * max(1, len(runs))


def _row_blocks(rows: np.ndarray | range) -> Iterator[tuple[slice, np.ndarray | slice]]:
    """Yield the blocks of ``rows``, and their rows."""
    for start in range(0, len(rows), BLOCK):
        block = slice(start, min(start + BLOCK, len(rows)))
        part = rows[block]
        yield block, slice(part.start, part.stop) if isinstance(part, range) else part


_FLAT_FIELDS = "S4, <i4, <i8, 2<i8, ?, <i4"  # magic, dim, count, unused, is_trained, metric
_HEADERS = {  # of an IndexFlatIP and an IndexScalarQuantizer, as written by faiss; the vectors follow
    "fp32": np.dtype(f"{_FLAT_FIELDS}, <u8"),  # number of elements
    # type, range statistic and its argument, dim, bytes per vector, number of trained values, number of bytes
    "fp16": np.dtype(f"{_FLAT_FIELDS}, <i4, <i4, <f4, <u8, <u8, <u8, <u8"),
}
_UNUSED, _QT_FP16 = 1 << 20, 4


def header_of(layout: Layout) -> bytes:
    """The header of a file of vectors."""
    common = (layout.dim, layout.count, (_UNUSED, _UNUSED), True, 0)
    size = math.prod(layout.shape)
    if layout.dtype == "fp32":
        return np.array((b"IxFI", *common, size), _HEADERS["fp32"]).tobytes()
    quantizer = (_QT_FP16, 0, 0.0, layout.dim, 2 * layout.dim, 0, 2 * size)
    return np.array((b"IxSQ", *common, *quantizer), _HEADERS["fp16"]).tobytes()


def _map(path: Path, layout: Layout) -> MappedFile:
    """The file, which has the header and the size of ``layout``. Raises BadData, FileNotFoundError."""
    header, width = header_of(layout), DTYPES[layout.dtype].itemsize * layout.dim
    try:
        with open(path, "rb") as file:
            found = file.read(len(header))
        has_size = path.stat().st_size == len(header) + width * layout.count
        if has_size and header_matches(found, layout):
            return MappedFile(path)
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        raise _damaged(path, f"it cannot be read: {error}") from error
    raise _damaged(path, f"it does not have the {layout.count} vectors of {layout.dim} {layout.dtype} elements")


def header_matches(found: bytes, layout: Layout) -> bool:
    """Whether ``found`` is the header of a file of this layout, apart from the unused fields."""
    expected, dtype = header_of(layout), _HEADERS[layout.dtype]
    if len(found) != len(expected):
        return False
    fields = [np.frombuffer(header, dtype) for header in (found, expected)]
    return all(fields[0][name].tobytes() == fields[1][name].tobytes() for name in dtype.names or () if name != "f3")


def _damaged(path: Path, reason: str) -> BadData:
    return BadData(f"{path} is damaged: {reason}", rebuild_hint(path.parents[1]))
