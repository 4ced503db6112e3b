"""Reads the vectors of the HNSW and IVF files of FAISS, which indexes of format 1 could have.

The file is mapped and its sizes are compared with that of the file before anything is allocated: FAISS itself would
allocate as much as a damaged file asks for. The layouts are those of ``faiss/impl/index_write.cpp``. Numbers are
little-endian, and an array follows its length.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from xmodal_cli.retrieval.mapped_file import MappedFile
from xmodal_cli.retrieval.vectors import Layout, TakeRows, header_matches, header_of

_HNSW, _IVF = b"IHNf", b"IwFl"  # IndexHNSWFlat, IndexIVFFlat


def open_structure(path: Path, layout: Layout) -> TakeRows:
    """A function that reads the vectors of an ``IndexHNSWFlat`` or ``IndexIVFFlat`` of float32 vectors.

    Raises ValueError unless the file has exactly the vectors of ``layout``, OSError.
    """
    file = MappedFile(path)
    content = file.content
    kind = content[:4].tobytes()
    if kind not in (_HNSW, _IVF):
        raise ValueError("it is not a file of vectors")
    if 4 * layout.count * layout.dim > len(content):
        raise ValueError("it is truncated")
    offsets = _hnsw_offsets(content, layout) if kind == _HNSW else _IvfReader(content, layout).offsets()
    width = 4 * layout.dim

    def take(rows: np.ndarray) -> np.ndarray:
        vectors = np.empty((len(rows), width), np.uint8)
        for i, start in enumerate(offsets[rows].tolist()):
            vectors[i] = content[start : start + width]
        file.release()
        return vectors.view("<f4")

    return take


def _hnsw_offsets(content: np.ndarray, layout: Layout) -> np.ndarray:
    """(count,) the first byte of each vector: a flat index of them is the last part of the file."""
    header, width = header_of(layout), 4 * layout.dim
    start = len(content) - layout.count * width
    found = content[max(0, start - len(header)) : max(0, start)].tobytes()
    if not header_matches(found, layout):
        raise ValueError("it does not have the vectors of the index")
    return start + width * np.arange(layout.count)


class _IvfReader:
    """Reads the parts of an inverted file one after the other; every size is checked before it is used."""

    def __init__(self, content: np.ndarray, layout: Layout) -> None:
        self._content, self._layout, self._position = content, layout, 4

    def offsets(self) -> np.ndarray:
        """(count,) the first byte of each vector."""
        num_lists = self._index_header()
        self._quantizer(num_lists)
        self._direct_map()
        sizes = self._list_sizes(num_lists)
        width = 4 * self._layout.dim
        found = np.full(self._layout.count, -1, np.int64)
        for size in sizes.tolist():
            codes = self._position
            self._skip(size * width)
            ids = self._numbers("<i8", size)
            if size and not 0 <= ids.min() <= ids.max() < self._layout.count:
                raise ValueError("a list has the number of a vector that does not exist")
            found[ids] = codes + width * np.arange(size)
        if (found < 0).any() or self._position != len(self._content):
            raise ValueError("its lists do not have each vector once")
        return found

    def _index_header(self) -> int:
        """The number of lists."""
        facts = self._common()
        if facts != (self._layout.dim, self._layout.count):
            raise ValueError("it does not have the vectors of the index")
        num_lists, _ = self._numbers("<u8", 2).tolist()  # and how many are searched
        return int(num_lists)

    def _quantizer(self, num_lists: int) -> None:
        if self._bytes(4) not in (b"IxFI", b"IxF2") or self._common() != (self._layout.dim, num_lists):
            raise ValueError("the centroids do not match the lists")
        if self._number() != num_lists * self._layout.dim:
            raise ValueError("the centroids do not match the lists")
        self._skip(4 * num_lists * self._layout.dim)

    def _direct_map(self) -> None:
        if self._bytes(1) not in (b"\0", b"\1"):
            raise ValueError("the type of its map is not supported")
        self._skip(8 * self._number())

    def _list_sizes(self, num_lists: int) -> np.ndarray:
        if self._bytes(4) != b"ilar" or self._number() != num_lists or self._number() != 4 * self._layout.dim:
            raise ValueError("the lists do not match the vectors")
        kind, length = self._bytes(4), self._number()
        if kind == b"full" and length == num_lists:
            sizes = self._numbers("<u8", length)
        elif kind == b"sprs" and length % 2 == 0:
            sizes = self._numbers("<u8", length)[1::2]  # pairs of a list and its size
        else:
            raise ValueError("the sizes of the lists are damaged")
        if (sizes > self._layout.count).any() or int(sizes.sum()) != self._layout.count:
            raise ValueError("the lists do not have the vectors of the index")
        return sizes

    def _common(self) -> tuple[int, int]:
        """Size and number of vectors of the header that all indexes have."""
        dim, count = int(self._numbers("<i4", 1)[0]), int(self._numbers("<i8", 1)[0])
        self._skip(17)  # two unused numbers, and whether it is trained
        if self._numbers("<i4", 1)[0] not in (0, 1):  # inner product, Euclidean distance
            raise ValueError("its metric is not supported")
        return dim, count

    def _number(self) -> int:
        return int(self._numbers("<u8", 1)[0])

    def _numbers(self, dtype: str, count: int) -> np.ndarray:
        return np.frombuffer(self._bytes(count * np.dtype(dtype).itemsize), dtype)

    def _bytes(self, count: int) -> bytes:
        start = self._position
        self._skip(count)
        return self._content[start : start + count].tobytes()

    def _skip(self, count: int) -> None:
        if not 0 <= count <= len(self._content) - self._position:
            raise ValueError("it is truncated, or a size in it is damaged")
        self._position += count
