"""``index.faiss``: the image vectors (count, dim), one row per photo.

``flat`` stores the matrix, ``hnsw`` adds a graph and ``ivf`` an inverted file. All three return the exact vectors;
graph and inverted file only select candidates. A flat file is memory-mapped and read without faiss, whose import takes
longer than a search; it may have an int8-quantized version next to it.
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
from xmodal_cli.retrieval.hints import rebuild_hint
from xmodal_cli.retrieval.quantized import QuantizedVectors, is_worthwhile, write_quantized

KINDS = ("flat", "hnsw", "ivf")
QUANTIZED = "index.coarse"
BLOCK = 1024  # rows per scored block, so that its float32 vectors stay in the CPU cache

TakeRows = Callable[[np.ndarray], np.ndarray]  # (rows,) int64 -> (rows, dim) float32


def write_vectors(target: Path, kind: str, shape: tuple[int, int], take: TakeRows) -> None:
    """Write ``shape`` = (count, dim) vectors, read block by block through ``take``. Raises OSError."""
    import faiss

    count, dim = shape
    index = _empty(kind, count, dim)
    if kind == "ivf" and count:
        sample = np.random.default_rng(0).permutation(count)[: 64 * index.nlist]
        index.train(take(np.sort(sample)))
    for start in range(0, count, BLOCK):
        index.add(take(np.arange(start, min(start + BLOCK, count))))
    if kind == "ivf":
        index.make_direct_map()  # for reconstruct_batch
    try:
        faiss.write_index(index, str(target))
    except RuntimeError as error:  # the message of faiss ends with that of the operating system
        full = "No space left" in str(error)
        raise OSError(errno.ENOSPC if full else errno.EIO, str(error).rsplit(":", 1)[-1].strip()) from error


def add_quantized(vectors: Path, shape: tuple[int, int]) -> None:
    """Quantize a flat file to int8, in a file next to it, if it is large enough. Raises OSError."""
    matrix = _mapped(vectors, shape)
    if matrix is not None and is_worthwhile(shape):
        write_quantized(vectors.with_name(QUANTIZED), shape, lambda rows: np.asarray(matrix[rows]))


def _empty(kind: str, count: int, dim: int) -> Any:
    import faiss

    if kind == "flat":
        return faiss.IndexFlatIP(dim)
    if kind == "hnsw":
        index = faiss.IndexHNSWFlat(dim, 32, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = 128
        return index
    if kind == "ivf":
        cells = max(1, min(int(4 * math.sqrt(count)), count // 39))  # faiss trains on at least 39 vectors per cell
        return faiss.IndexIVFFlat(faiss.IndexFlatIP(dim), dim, cells, faiss.METRIC_INNER_PRODUCT)
    raise UnknownName.of("kind of index", kind, KINDS)


class StoredVectors:
    """An ``index.faiss`` opened for reading. Raises BadData if it is damaged or not of ``shape``.

    ``quantized`` is the int8-quantized version next to it, or None if it is missing or damaged.
    """

    def __init__(self, path: Path, kind: str, shape: tuple[int, int]) -> None:
        if kind not in KINDS:
            raise BadData(f"{path.parent} has vectors of the unknown kind {kind!r}", rebuild_hint(path.parent))
        self.kind, (self.count, self.dim), self._path = kind, shape, path
        self._matrix = _mapped(path, shape) if kind == "flat" else None
        self._index: Any = None
        self.quantized: QuantizedVectors | None = None
        if self._matrix is None:
            self._index = _read_index(path, kind, shape)
            flat = {"flat": self._index, "hnsw": getattr(self._index, "storage", None)}.get(kind)
            self._matrix = None if flat is None else _matrix(flat, self.count, self.dim)
        else:
            with contextlib.suppress(BadData, FileNotFoundError):
                self.quantized = QuantizedVectors(path.with_name(QUANTIZED), shape)

    def take(self, rows: np.ndarray) -> np.ndarray:
        """(rows,) -> (rows, dim) float32."""
        if self._matrix is not None:
            chosen: np.ndarray = self._matrix[rows]
            return chosen
        with self._damage():
            vectors: np.ndarray = self._index.reconstruct_batch(np.asarray(rows, np.int64))
        return vectors

    @contextlib.contextmanager
    def _damage(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:  # of faiss
            raise BadData(
                f"{self._path} is damaged: it has no valid vectors", rebuild_hint(self._path.parent)
            ) from error

    def blocks(self, first: int = 0, last: int | None = None) -> Iterator[tuple[int, np.ndarray]]:
        """Yield (first row, (rows, dim) float32) blocks of at most ``BLOCK`` rows from ``first`` up to ``last``."""
        last = self.count if last is None else last
        for start in range(first, last, BLOCK):
            stop = min(start + BLOCK, last)
            if self._matrix is not None:
                yield start, self._matrix[start:stop]
            else:
                yield start, self.take(np.arange(start, stop))

    def candidates(self, query: np.ndarray, num: int) -> np.ndarray:
        """(dim,) -> up to ``num`` rows with the largest inner products, in ascending order; exact for ``flat``."""
        if self._index is None:
            self._index = _read_index(self._path, self.kind, (self.count, self.dim))
        if self.kind == "hnsw":
            self._index.hnsw.efSearch = max(256, 2 * num)
        elif self.kind == "ivf":
            self._index.nprobe = max(8, self._index.nlist // 4)
        with self._damage():
            _, rows = self._index.search(np.ascontiguousarray(query[None], np.float32), min(num, self.count))
        return np.sort(rows[0][rows[0] >= 0])


_FLAT_HEADER = np.dtype(  # of an IndexFlatIP, as written by faiss; the vectors follow
    "S4, <i4, <i8, 2<i8, ?, <i4, <u8"  # magic, dim, count, unused, is_trained, metric, number of elements
)


def _mapped(path: Path, shape: tuple[int, int]) -> np.ndarray | None:
    """(count, dim): the memory-mapped vectors of a flat file, or None if it is not a flat file of ``shape``."""
    try:
        with open(path, "rb") as file:
            header = file.read(_FLAT_HEADER.itemsize)
        if len(header) < _FLAT_HEADER.itemsize or path.stat().st_size != _FLAT_HEADER.itemsize + 4 * math.prod(shape):
            return None
        (fields,) = np.frombuffer(header, _FLAT_HEADER)
        magic, dim, count, _, _, metric, num_elements = fields.tolist()
        if (magic, dim, count, metric, num_elements) != (b"IxFI", shape[1], shape[0], 0, math.prod(shape)):
            return None
        return np.memmap(path, "<f4", "r", _FLAT_HEADER.itemsize, shape)
    except (OSError, ValueError):
        return None


def _read_index(path: Path, kind: str, shape: tuple[int, int]) -> Any:
    import faiss

    try:
        index: Any = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
    except RuntimeError as error:
        if not path.exists():
            raise FileNotFoundError(errno.ENOENT, "no such file", str(path)) from error
        raise BadData(f"{path} is damaged: it cannot be read as a FAISS index", rebuild_hint(path.parent)) from error
    types = {"flat": faiss.IndexFlatIP, "hnsw": faiss.IndexHNSWFlat, "ivf": faiss.IndexIVFFlat}
    if (index.ntotal, index.d) != shape or type(index) is not types[kind]:
        raise BadData(
            f"{path} does not hold the {shape[0]} {kind} vectors of its index.json", rebuild_hint(path.parent)
        )
    return index


def _matrix(stored: Any, count: int, dim: int) -> np.ndarray:
    """(count, dim): a view of the vectors of a faiss index, without a copy."""
    import faiss

    flat: Any = faiss.downcast_index(stored)
    view: np.ndarray = faiss.rev_swig_ptr(flat.get_xb(), count * dim).reshape(count, dim)
    return view


def check_kind(kind: str) -> str:
    """Return ``kind``. Raises UnknownName if it is not in ``KINDS``."""
    if kind not in KINDS:
        raise UnknownName.of("kind of index", kind, KINDS)
    return kind
