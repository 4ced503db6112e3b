"""The coarse quantizer of an inverted file, IVF (Jégou, Douze, Schmid, TPAMI 2011, doi 10.1109/TPAMI.2010.57).

A vector is in the cell whose centroid has the largest inner product with it. A search scores the vectors of the cells
that are nearest to the query. Centroids are trained by k-means in two levels: few groups, then the cells of each group.
Compared with one level, training and assignment take a tenth of the time, at the same recall (docs/benchmarks.md).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from xmodal_cli.retrieval.half_precision import half_inner_products, half_to_float32
from xmodal_cli.retrieval.kmeans import spherical_kmeans

CELLS_PER_ROOT = 4  # an index of n vectors has 4 * sqrt(n) cells
SAMPLES_PER_CELL = 40  # as many as FAISS asks for
_SAMPLES_PER_GROUP = 256
_GROUPS_PER_VECTOR = 4  # groups in which the cell of a vector is looked for: 99 % of the best cells are in them


@dataclass(frozen=True)
class CoarseQuantizer:
    """``centroids`` (cells, dim) float16, in the order of groups; ``groups`` (groups, dim) float32, ``group_sizes``.

    ``num_trained`` is the number of vectors of the index for which they were trained.
    """

    centroids: np.ndarray
    groups: np.ndarray
    group_sizes: np.ndarray
    num_trained: int

    def __len__(self) -> int:
        return len(self.centroids)

    def assign(self, vectors: np.ndarray) -> np.ndarray:
        """(rows, dim) float32 -> (rows,) int32: the cells of vectors."""
        num = min(_GROUPS_PER_VECTOR, len(self.groups))
        nearest = np.argpartition(vectors @ -self.groups.T, num - 1, axis=1)[:, :num].ravel()
        order = np.argsort(nearest, kind="stable")
        ends = np.searchsorted(nearest[order], np.arange(len(self.groups)), "right")
        best, cells = np.full(len(vectors), -np.inf, np.float32), np.zeros(len(vectors), np.int32)
        start = first_cell = 0
        for end, size in zip(ends.tolist(), self.group_sizes.tolist(), strict=True):
            rows = order[start:end] // num
            scores = vectors[rows] @ self._converted[first_cell : first_cell + size].T
            found = scores.argmax(axis=1)
            score = scores[np.arange(len(rows)), found]
            is_better = score > best[rows]
            best[rows[is_better]] = score[is_better]
            cells[rows[is_better]] = first_cell + found[is_better]
            start, first_cell = end, first_cell + size
        return cells

    def order(self, direction: np.ndarray) -> np.ndarray:
        """(dim,) -> (cells,) the cells in the order of the inner products of a query with their centroids."""
        return np.argsort(-half_inner_products(self.centroids, direction.astype(np.float32)), kind="stable")

    @cached_property
    def _converted(self) -> np.ndarray:
        """(cells, dim) float32: the centroids."""
        return half_to_float32(self.centroids)


def num_cells(count: int) -> int:
    """The number of cells for ``count`` vectors."""
    return max(1, int(CELLS_PER_ROOT * math.sqrt(count)))


def train_cells(sample: np.ndarray, count: int) -> CoarseQuantizer:
    """Train the cells of an index of ``count`` vectors on a ``sample`` (rows, dim) float32 of them."""
    num = min(num_cells(count), len(sample))
    num_groups = math.isqrt(num)
    step = max(1, len(sample) // (_SAMPLES_PER_GROUP * num_groups))  # the sample may be sorted
    groups = spherical_kmeans(sample[::step], num_groups)
    group_of = (sample @ groups.T).argmax(axis=1)
    parts, kept = [], []
    for group in range(len(groups)):
        members = sample[group_of == group]
        if len(members):
            parts.append(spherical_kmeans(members, max(1, round(len(members) * num / len(sample)))))
            kept.append(group)
    sizes = np.array([len(part) for part in parts], np.int32)
    return CoarseQuantizer(np.concatenate(parts).astype(np.float16), groups[kept], sizes, count)


def rows_in_cells(offsets: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """The rows of ``cells``, both ascending, in a file sorted by cell: cell ``i`` has rows from ``offsets[i]`` on."""
    starts, sizes = offsets[cells], offsets[cells + 1] - offsets[cells]
    ends = np.cumsum(sizes)
    return np.repeat(starts - ends + sizes, sizes) + np.arange(ends[-1] if len(ends) else 0)


def cell_offsets(cells: np.ndarray, num: int) -> np.ndarray:
    """(num + 1,) int64: the first row of each of ``num`` cells after sorting rows by their ``cells``, and the end."""
    return np.concatenate([[0], np.cumsum(np.bincount(cells, minlength=num))]).astype(np.int64)


def sorted_positions(cells: np.ndarray) -> np.ndarray:
    """(rows,) int64: the position of each row after sorting by cell; rows of a cell keep their order."""
    positions = np.empty(len(cells), np.int64)
    positions[np.argsort(cells, kind="stable")] = np.arange(len(cells))
    return positions
