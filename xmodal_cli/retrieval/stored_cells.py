"""The cells of an index in its database, table ``cells``: usually one row, more while segments of older ones exist."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np

from xmodal_cli.retrieval.cells import CoarseQuantizer
from xmodal_cli.retrieval.database import reading


def read_cells(database: sqlite3.Connection, file: Path, dim: int) -> dict[int, CoarseQuantizer]:
    """The cells of an index whose vectors have size ``dim``, by key, in the order of training. Raises BadData."""
    columns = "id, num_trained, group_sizes, groups, centroids"
    with reading(file):
        rows = database.execute(f"SELECT {columns} FROM cells ORDER BY num_trained, id")
        return {key: _to_cells(dim, *values) for key, *values in rows}


def to_row(key: int, cells: CoarseQuantizer) -> tuple[int, int, bytes, bytes, bytes]:
    """The row of the table ``cells``."""
    sizes = cells.group_sizes.astype("<i4")
    return key, cells.num_trained, sizes.tobytes(), cells.groups.tobytes(), cells.centroids.tobytes()


def _to_cells(dim: int, num_trained: int, group_sizes: bytes, groups: bytes, centroids: bytes) -> CoarseQuantizer:
    """Raises ValueError for arrays that do not match."""
    sizes = np.frombuffer(group_sizes, "<i4")
    cells = CoarseQuantizer(
        np.frombuffer(centroids, "<f2").reshape(-1, dim),
        np.frombuffer(groups, "<f4").reshape(-1, dim),
        sizes,
        int(num_trained),
    )
    is_valid = len(sizes) == len(cells.groups) and len(sizes) and sizes.min() > 0 and sizes.sum() == len(cells)
    if not (is_valid and np.isfinite(cells.centroids).all()):
        raise ValueError("the cells do not match their groups")
    return cells
