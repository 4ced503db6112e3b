"""``index.faiss``: the image vectors, row by row. Knows neither files nor what the vectors mean.

``flat`` holds the plain matrix, ``hnsw`` adds a graph to it, ``ivf`` sorts it into cells. All three give
back the exact vectors; graph and cells only propose candidates. The flat file is memory-mapped, and read without the
library, whose import costs more than a search; a coarse copy of it may stand beside it.
"""

from __future__ import annotations

import contextlib
import errno
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from xmodal_cli.errors import BadData, UnknownName
from xmodal_cli.retrieval.quantized import QuantizedVectors, is_worthwhile, write_quantized

KINDS = ("flat", "hnsw", "ivf")
COARSE = "index.coarse"
BLOCK = 1024  # rows scored at once: a block of float32 vectors stays in the processor's cache

TakeRows = Callable[[np.ndarray], np.ndarray]  # (rows,) int64 -> (rows, dim) float32


def write_vectors(target: Path, kind: str, shape: tuple[int, int], take: TakeRows) -> None:
    """Write ``shape`` = (count, dim) vectors, fetched block by block through ``take``. Raises OSError."""
    import faiss

    count, dim = shape
    index = _empty(kind, count, dim)
    if kind == "ivf":
        sample = np.random.default_rng(0).permutation(count)[: 64 * index.nlist]
        index.train(take(np.sort(sample)))
    for start in range(0, count, BLOCK):
        index.add(take(np.arange(start, min(start + BLOCK, count))))
    if kind == "ivf":
        index.make_direct_map()  # so that single vectors can be read back
    try:
        faiss.write_index(index, str(target))
    except RuntimeError as error:  # faiss puts the operating system's words into its own
        full = "No space left" in str(error)
        raise OSError(errno.ENOSPC if full else errno.EIO, str(error).rsplit(":", 1)[-1].strip()) from error


def add_quantized(vectors: Path, shape: tuple[int, int]) -> None:
    """Write the coarse copy of a flat file beside it, where it pays. Raises OSError."""
    matrix = _mapped(vectors, shape)
    if matrix is not None and is_worthwhile(shape):
        write_quantized(vectors.with_name(COARSE), shape, lambda rows: np.asarray(matrix[rows]))


def _empty(kind: str, count: int, dim: int) -> Any:
    import faiss

    if kind == "flat":
        return faiss.IndexFlatIP(dim)
    if kind == "hnsw":
        index = faiss.IndexHNSWFlat(dim, 32, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = 128
        return index
    if kind == "ivf":
        cells = max(1, min(int(4 * math.sqrt(count)), count // 39))  # faiss wants 39 vectors a cell to train on
        return faiss.IndexIVFFlat(faiss.IndexFlatIP(dim), dim, cells, faiss.METRIC_INNER_PRODUCT)
    raise UnknownName.of("kind of index", kind, KINDS)


class StoredVectors:
    """A written file, open for reading. Raises BadData when it is damaged or of another shape than it should be.

    ``coarse`` is its coarse copy, where there is a whole one beside it.
    """

    def __init__(self, path: Path, kind: str, shape: tuple[int, int]) -> None:
        self.kind, (self.count, self.dim), self._path = check_kind(kind), shape, path
        self._matrix = _mapped(path, shape) if kind == "flat" else None
        self._index: Any = None
        self.coarse: QuantizedVectors | None = None
        if self._matrix is None:
            self._index = _read_index(path, kind, shape)
            flat = {"flat": self._index, "hnsw": getattr(self._index, "storage", None)}.get(kind)
            self._matrix = None if flat is None else _matrix(flat, self.count, self.dim)
        else:
            with contextlib.suppress(BadData, FileNotFoundError):
                self.coarse = QuantizedVectors(path.with_name(COARSE), shape)

    def take(self, rows: np.ndarray) -> np.ndarray:
        """(rows,) -> (rows, dim) float32."""
        if self._matrix is not None:
            chosen: np.ndarray = self._matrix[rows]
            return chosen
        vectors: np.ndarray = self._index.reconstruct_batch(np.asarray(rows, np.int64))
        return vectors

    def blocks(self, first: int = 0, last: int | None = None) -> Iterator[tuple[int, np.ndarray]]:
        """(first row, (rows, dim) float32) for the vectors from ``first`` to before ``last``, ``BLOCK`` at a time."""
        last = self.count if last is None else last
        for start in range(first, last, BLOCK):
            stop = min(start + BLOCK, last)
            if self._matrix is not None:
                yield start, self._matrix[start:stop]
            else:
                yield start, self.take(np.arange(start, stop))

    def candidates(self, query: np.ndarray, num: int) -> np.ndarray:
        """(dim,) -> up to ``num`` rows with a large inner product, ascending; exact when flat."""
        if self._index is None:
            self._index = _read_index(self._path, self.kind, (self.count, self.dim))
        if self.kind == "hnsw":
            self._index.hnsw.efSearch = max(256, 2 * num)
        elif self.kind == "ivf":
            self._index.nprobe = max(8, self._index.nlist // 4)
        _, rows = self._index.search(np.ascontiguousarray(query[None], np.float32), min(num, self.count))
        return np.sort(rows[0][rows[0] >= 0])


_REBUILD = "make the index again: xmodal index PATH --rebuild"
_FLAT_HEAD = np.dtype(  # of an IndexFlatIP, as faiss writes it; the vectors follow
    "S4, <i4, <i8, 2<i8, ?, <i4, <u8"  # magic, dim, count, unused, whether trained, metric, how many numbers follow
)


def _mapped(path: Path, shape: tuple[int, int]) -> np.ndarray | None:
    """(count, dim): the vectors where they lie in a flat file; None where it is not the file it should be."""
    try:
        with open(path, "rb") as file:
            head = file.read(_FLAT_HEAD.itemsize)
        if len(head) < _FLAT_HEAD.itemsize or path.stat().st_size != _FLAT_HEAD.itemsize + 4 * math.prod(shape):
            return None
        (found,) = np.frombuffer(head, _FLAT_HEAD)
        magic, dim, count, _, _, metric, numbers = found.tolist()
        if (magic, dim, count, metric, numbers) != (b"IxFI", shape[1], shape[0], 0, math.prod(shape)):
            return None
        return np.memmap(path, "<f4", "r", _FLAT_HEAD.itemsize, shape)
    except (OSError, ValueError):
        return None


def _read_index(path: Path, kind: str, shape: tuple[int, int]) -> Any:
    import faiss

    try:
        index: Any = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
    except RuntimeError as error:
        if not path.exists():
            raise FileNotFoundError(errno.ENOENT, "no such file", str(path)) from error
        raise BadData(f"{path} is damaged: it cannot be read as a FAISS index", _REBUILD) from error
    types = {"flat": faiss.IndexFlatIP, "hnsw": faiss.IndexHNSWFlat, "ivf": faiss.IndexIVFFlat}
    if (index.ntotal, index.d) != shape or type(index) is not types[kind]:
        raise BadData(f"{path} does not hold the {shape[0]} {kind} vectors that its index.json announces", _REBUILD)
    return index


def _matrix(stored: Any, count: int, dim: int) -> np.ndarray:
    """(count, dim): the vectors where they lie in the mapped file, without a copy."""
    import faiss

    flat: Any = faiss.downcast_index(stored)
    view: np.ndarray = faiss.rev_swig_ptr(flat.get_xb(), count * dim).reshape(count, dim)
    return view


def check_kind(kind: str) -> str:
    """The kind itself. Raises UnknownName."""
    if kind not in KINDS:
        raise UnknownName.of("kind of index", kind, KINDS)
    return kind
