"""Groups the rows of an array that are equal: the captions of an image, in arrays with one row per caption."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from xmodal_cli.data.npy_files import map_features

_CHUNK_BYTES = 1 << 26


def group_rows(file: Path) -> tuple[tuple[int, ...], ...]:
    """The rows of each image in a ``.npy`` file with one row per caption, in order of the first rows.

    Whole rows are compared: equal rows are those of one image. Adjacent images with equal features are separated by
    the number of captions that all other images have. If no equal rows are adjacent, the captions of an image may be
    anywhere in the file. The result is cached until the file changes. Raises BadData.
    """
    status = file.stat()
    return _group_rows(file, status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=16)
def _group_rows(file: Path, modified_ns: int, size: int) -> tuple[tuple[int, ...], ...]:
    # time and size are part of the cache key
    rows = map_features(file)
    first_equal = _first_equal_rows(rows)
    runs = _runs(first_equal)
    split = _split_equally(runs)
    if split is None:
        scattered: dict[int, list[int]] = {}
        for row, first in enumerate(first_equal.tolist()):
            scattered.setdefault(first, []).append(row)
        split = _split_equally(list(scattered.values()))
    return tuple(tuple(group) for group in split or runs)


def _split_equally(groups: Sequence[Sequence[int]]) -> list[Sequence[int]] | None:
    """Groups of the most common size; larger ones, of several images with equal features, are split.

    None if that size is 1, or does not divide the size of each group.
    """
    counts = Counter(map(len, groups))
    size, count = counts.most_common(1)[0]
    if size == 1 or 2 * count <= len(groups) or any(other % size for other in counts):
        return None
    return [group[start : start + size] for group in groups for start in range(0, len(group), size)]


def _runs(first_equal: np.ndarray) -> list[list[int]]:
    """Adjacent rows that are equal."""
    bounds = [0, *(np.flatnonzero(first_equal[1:] != first_equal[:-1]) + 1).tolist(), len(first_equal)]
    return [list(range(start, stop)) for start, stop in pairwise(bounds)]


def _first_equal_rows(rows: np.ndarray) -> np.ndarray:
    """(rows,) int64: the first row that is equal to each row. Rows are hashed, then compared byte by byte."""
    hashes = np.concatenate([_hash_rows(chunk) for _, chunk in _byte_chunks(rows)])
    _, first, inverse = np.unique(hashes, return_index=True, return_inverse=True)
    first_equal: np.ndarray = first[inverse.reshape(-1)].astype(np.int64)
    for start, chunk in _byte_chunks(rows):
        targets = first_equal[start : start + len(chunk)]
        others = np.flatnonzero(targets != np.arange(start, start + len(chunk)))
        if len(others) and not np.array_equal(_bytes_of(rows[targets[others]]), chunk[others]):
            return _compare_all(rows)  # two different rows have the same hash
    return first_equal


def _compare_all(rows: np.ndarray) -> np.ndarray:
    """``_first_equal_rows`` without hashes, for the case that two of them collide."""
    seen: dict[bytes, int] = {}
    return np.array([seen.setdefault(row.tobytes(), n) for n, row in enumerate(rows)], dtype=np.int64)


def _byte_chunks(rows: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """(first row, bytes of some rows) over all rows."""
    per_chunk = max(1, _CHUNK_BYTES // max(1, rows[0].nbytes))
    for start in range(0, len(rows), per_chunk):
        yield start, _bytes_of(rows[start : start + per_chunk])


def _bytes_of(rows: np.ndarray) -> np.ndarray:
    """(rows, words): the bytes of rows as the widest integers that fit."""
    flat = np.ascontiguousarray(rows).reshape(len(rows), -1)
    itemsize = flat.shape[1] * flat.itemsize
    word = next(size for size in (8, 4, 2, 1) if itemsize % size == 0)
    return flat.view(f"u{word}")


def _hash_rows(words: np.ndarray) -> np.ndarray:
    """(rows,) uint64: a random linear combination of the words of each row, modulo 2**64."""
    factors = np.random.default_rng(0).integers(1, 1 << 63, words.shape[1], dtype=np.uint64) | np.uint64(1)
    return np.asarray(words.astype(np.uint64, copy=False) @ factors)
