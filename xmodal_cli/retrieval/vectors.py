"""A file of image vectors (count, dim) in the format of FAISS, one row per vector. It is written once and only read.

``flat`` stores the matrix, ``hnsw`` adds a graph and ``ivf`` an inverted file. All three return the stored vectors;
graph and inverted file only select candidates. A flat file is written with numpy, and memory-mapped and read without
faiss, whose import takes longer than a search; it may have an int8-quantized version next to it.
"""

from __future__ import annotations

import contextlib
import errno
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xmodal_cli.errors import BadData, UnknownName
from xmodal_cli.retrieval.hints import rebuild_hint
from xmodal_cli.retrieval.quantized import QuantizedVectors, write_quantized

KINDS = ("flat", "hnsw", "ivf")
DTYPES: dict[str, np.dtype[Any]] = {"fp16": np.dtype("<f2"), "fp32": np.dtype("<f4")}
QUANTIZED = ".int8"  # the suffix of the quantized version
BLOCK = 1024  # rows per scored block, so that its float32 vectors stay in the CPU cache

TakeRows = Callable[[np.ndarray], np.ndarray]  # (rows,) int64 -> (rows, dim) float32


@dataclass(frozen=True)
class Layout:
    """What a file of vectors has: ``count`` vectors of size ``dim``, stored as ``dtype`` (``DTYPES``)."""

    kind: str
    dtype: str
    count: int
    dim: int

    @property
    def shape(self) -> tuple[int, int]:
        return self.count, self.dim


def write_vectors(target: Path, layout: Layout, take: TakeRows) -> None:
    """Write the vectors, read block by block through ``take``. Raises OSError."""
    if layout.kind == "flat":
        with open(target, "wb") as file:
            file.write(_header(layout))
            for rows in _blocks(layout.count):
                file.write(np.ascontiguousarray(take(rows), DTYPES[layout.dtype]).data)
        return
    faiss = _faiss()
    index = _build(layout, take)
    try:
        faiss.write_index(index, str(target))
    except RuntimeError as error:  # the message of faiss ends with that of the operating system
        full = "No space left" in str(error)
        raise OSError(errno.ENOSPC if full else errno.EIO, str(error).rsplit(":", 1)[-1].strip()) from error


def add_quantized(vectors: Path, layout: Layout, target: Path) -> None:
    """Quantize a flat file to int8, in the file ``target``. Raises OSError."""
    stored = StoredVectors(vectors, layout)
    write_quantized(target, layout.shape, stored.take)


def _faiss() -> Any:
    import faiss  # takes longer than a search of flat segments, which does without

    return faiss


def _build(layout: Layout, take: TakeRows) -> Any:
    index = _empty(layout)
    if not index.is_trained:
        sample = np.random.default_rng(0).permutation(layout.count)[: 64 * getattr(index, "nlist", 1)]
        index.train(take(np.sort(sample)))
    for rows in _blocks(layout.count):
        index.add(take(rows))
    if layout.kind == "ivf":
        index.make_direct_map()  # for reconstruct_batch
    return index


def _blocks(count: int) -> Iterator[np.ndarray]:
    for start in range(0, count, BLOCK):
        yield np.arange(start, min(start + BLOCK, count))


def _empty(layout: Layout) -> Any:
    faiss = _faiss()
    dim, metric, half = layout.dim, faiss.METRIC_INNER_PRODUCT, faiss.ScalarQuantizer.QT_fp16
    is_half = layout.dtype == "fp16"
    if layout.kind == "hnsw":
        index = faiss.IndexHNSWSQ(dim, half, 32, metric) if is_half else faiss.IndexHNSWFlat(dim, 32, metric)
        index.hnsw.efConstruction = 128
        return index
    if layout.kind == "ivf":
        # faiss trains on at least 39 vectors per cell
        cells, coarse = max(1, min(int(4 * math.sqrt(layout.count)), layout.count // 39)), faiss.IndexFlatIP(dim)
        if is_half:
            return faiss.IndexIVFScalarQuantizer(coarse, dim, cells, half, metric, False)
        return faiss.IndexIVFFlat(coarse, dim, cells, metric)
    raise UnknownName.of("kind of index", layout.kind, KINDS)


class StoredVectors:
    """A file of vectors opened for reading. Raises BadData if it is damaged or not of ``layout``, FileNotFoundError.

    ``live`` (count,) bool are the rows that a search returns, None for all of them. ``quantized`` is the int8-quantized
    version next to it, or None if it is missing or damaged.
    """

    def __init__(self, path: Path, layout: Layout, live: np.ndarray | None = None) -> None:
        self.layout, self.live, self._path = layout, live, path
        self.num_live = layout.count if live is None else int(live.sum())
        self._matrix = _mapped(path, layout) if layout.kind == "flat" else None
        self._index: Any = None
        self.quantized: QuantizedVectors | None = None
        if self._matrix is None:
            self._index = _read_index(path, layout)
            self._matrix = _matrix_of(self._index, layout)
        else:
            with contextlib.suppress(BadData, FileNotFoundError):
                self.quantized = QuantizedVectors(path.with_suffix(QUANTIZED), layout.shape)

    def take(self, rows: np.ndarray) -> np.ndarray:
        """(rows,) -> (rows, dim) float32."""
        if self._matrix is not None:
            return to_float32(self._matrix[rows], self.layout)
        with self._damage():
            vectors: np.ndarray = self._index.reconstruct_batch(np.asarray(rows, np.int64))
        return vectors

    @contextlib.contextmanager
    def _damage(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:  # of faiss
            raise _damaged(self._path, "it has no valid vectors") from error

    def blocks(self, first: int = 0, last: int | None = None) -> Iterator[tuple[int, np.ndarray]]:
        """Yield (first row, (rows, dim) float32) blocks of at most ``BLOCK`` rows from ``first`` up to ``last``."""
        last = self.layout.count if last is None else last
        for start in range(first, last, BLOCK):
            stop = min(start + BLOCK, last)
            if self._matrix is not None:
                yield start, to_float32(self._matrix[start:stop], self.layout)
            else:
                yield start, self.take(np.arange(start, stop))

    def candidates(self, query: np.ndarray, num: int) -> np.ndarray:
        """(dim,) -> up to ``num`` live rows with the largest inner products, in ascending order."""
        if self._index is None:
            self._index = _read_index(self._path, self.layout)
        with self._damage():
            found = self._index.search(
                np.ascontiguousarray(query[None], np.float32), min(num, self.num_live), params=self._search_params(num)
            )
        rows = found[1][0]
        return np.sort(rows[rows >= 0])

    def _search_params(self, num: int) -> Any:
        faiss = _faiss()
        live = None
        if self.live is not None:
            live = faiss.IDSelectorBitmap(np.packbits(self.live, bitorder="little"))
        if self.layout.kind == "hnsw":
            return faiss.SearchParametersHNSW(sel=live, efSearch=max(256, 2 * num))
        if self.layout.kind == "ivf":
            return faiss.SearchParametersIVF(sel=live, nprobe=max(8, self._index.nlist // 4))
        return faiss.SearchParameters(sel=live)


def to_float32(stored: np.ndarray, layout: Layout) -> np.ndarray:
    """(rows, bytes per vector) uint8 -> (rows, dim) float32, a copy.

    The conversion of half precision by numpy takes five times as long: here the bits are moved to those of a float32,
    whose exponent is then too small by 112.
    """
    vectors = np.ascontiguousarray(stored)
    if layout.dtype == "fp32":
        return vectors.view(np.dtype("<f4")).astype(np.float32)
    bits = vectors.view(np.dtype("<i2")).astype(np.int32)
    bits <<= 13
    bits &= np.int32(-0x70000001)  # 0x8fffffff: sign, exponent and fraction, without the copies of the sign
    converted = bits.view(np.float32)
    converted *= np.float32(2.0**112)
    return converted


_FLAT_FIELDS = "S4, <i4, <i8, 2<i8, ?, <i4"  # magic, dim, count, unused, is_trained, metric
_HEADERS = {  # of an IndexFlatIP and an IndexScalarQuantizer, as written by faiss; the vectors follow
    "fp32": np.dtype(f"{_FLAT_FIELDS}, <u8"),  # number of elements
    # type, range statistic and its argument, dim, bytes per vector, number of trained values, number of bytes
    "fp16": np.dtype(f"{_FLAT_FIELDS}, <i4, <i4, <f4, <u8, <u8, <u8, <u8"),
}
_UNUSED, _QT_FP16 = 1 << 20, 4


def _header(layout: Layout) -> bytes:
    common = (layout.dim, layout.count, (_UNUSED, _UNUSED), True, 0)
    size = math.prod(layout.shape)
    if layout.dtype == "fp32":
        return np.array((b"IxFI", *common, size), _HEADERS["fp32"]).tobytes()
    quantizer = (_QT_FP16, 0, 0.0, layout.dim, 2 * layout.dim, 0, 2 * size)
    return np.array((b"IxSQ", *common, *quantizer), _HEADERS["fp16"]).tobytes()


def _mapped(path: Path, layout: Layout) -> np.ndarray | None:
    """(count, bytes per vector) uint8: the memory-mapped vectors of a flat file; None if it is not of ``layout``."""
    header = _header(layout)
    width = DTYPES[layout.dtype].itemsize * layout.dim
    try:
        with open(path, "rb") as file:
            found = file.read(len(header))
        if path.stat().st_size != len(header) + width * layout.count or not _equal_headers(found, header, layout.dtype):
            return None
        if not layout.count:
            return np.zeros((0, width), np.uint8)
        return np.memmap(path, np.uint8, "r", len(header), (layout.count, width))
    except (OSError, ValueError):
        return None


def _equal_headers(found: bytes, expected: bytes, dtype: str) -> bool:
    """Whether two headers are equal apart from the unused fields."""
    fields = [np.frombuffer(header, _HEADERS[dtype]) for header in (found, expected)]
    names = [name for name in _HEADERS[dtype].names or () if name != "f3"]
    return all(fields[0][name].tobytes() == fields[1][name].tobytes() for name in names)


def _read_index(path: Path, layout: Layout) -> Any:
    faiss = _faiss()
    try:
        index: Any = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
    except RuntimeError as error:
        if not path.exists():
            raise FileNotFoundError(errno.ENOENT, "no such file", str(path)) from error
        raise _damaged(path, "it cannot be read as a FAISS index") from error
    types = {
        "fp32": {"flat": faiss.IndexFlatIP, "hnsw": faiss.IndexHNSWFlat, "ivf": faiss.IndexIVFFlat},
        "fp16": {
            "flat": faiss.IndexScalarQuantizer,
            "hnsw": faiss.IndexHNSWSQ,
            "ivf": faiss.IndexIVFScalarQuantizer,
        },
    }
    if (index.ntotal, index.d) != layout.shape or type(index) is not types[layout.dtype][layout.kind]:
        expected = f"{layout.count} {layout.kind} vectors of {layout.dim} {layout.dtype} elements"
        raise _damaged(path, f"it does not have the {expected} of its index")
    return index


def _matrix_of(index: Any, layout: Layout) -> np.ndarray | None:
    """(count, bytes per vector) uint8: a view of the vectors of a flat or hnsw index; None for ivf."""
    faiss = _faiss()
    if layout.kind == "ivf":
        return None
    flat: Any = faiss.downcast_index(index.storage) if layout.kind == "hnsw" else index
    width = DTYPES[layout.dtype].itemsize * layout.dim
    if flat.codes.size() != layout.count * width:
        return None
    view: np.ndarray = faiss.rev_swig_ptr(flat.codes.data(), layout.count * width).reshape(layout.count, width)
    return view


def _damaged(path: Path, reason: str) -> BadData:
    return BadData(f"{path} is damaged: {reason}", rebuild_hint(path.parents[1]))


def check_kind(kind: str) -> str:
    """Return ``kind``. Raises UnknownName if it is not in ``KINDS``."""
    if kind not in KINDS:
        raise UnknownName.of("kind of index", kind, KINDS)
    return kind
