"""The vectors of all segments of an index as one matrix, whose rows are numbered in the order of segments."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from xmodal_cli.errors import BadData
from xmodal_cli.retrieval.cells import CoarseQuantizer
from xmodal_cli.retrieval.database import check_readable, check_regular_file
from xmodal_cli.retrieval.hints import rebuild_hint
from xmodal_cli.retrieval.items import IndexedItem
from xmodal_cli.retrieval.segments import Segment, segment_path
from xmodal_cli.retrieval.vectors import StoredVectors


class IndexVectors:
    """The vectors of all segments, opened; rows are numbered through. Raises BadData, FileNotFoundError.

    ``cells`` are those of the index, by their keys.
    """

    def __init__(
        self, folder: Path, segments: Sequence[Segment], dim: int, cells: Mapping[int, CoarseQuantizer] | None = None
    ) -> None:
        self.dim, self.cells, self.segments = dim, cells or {}, list(segments)
        self.parts: list[StoredVectors] = []
        for segment in segments:
            path = segment_path(folder, segment.id)
            check_regular_file(path, rebuild_hint(folder))
            check_readable(path)
            offsets = segment.cell_offsets()
            if segment.cells in self.cells and len(offsets) != len(self.cells[segment.cells]) + 1:
                raise BadData(f"{folder} is damaged: a segment has other cells than its index", rebuild_hint(folder))
            self.parts.append(StoredVectors(path, segment.layout, segment.live(), segment.cells, offsets))
        self.ids = [segment.id for segment in segments]
        self.starts = np.cumsum([0, *(part.layout.count for part in self.parts)])
        self._position_of = {key: i for i, key in enumerate(self.ids)}
        self._folder = folder

    @property
    def num_rows(self) -> int:
        """The number of vectors, deleted ones included."""
        return int(self.starts[-1])

    @property
    def num_live(self) -> int:
        """The number of vectors that have photos."""
        return sum(part.num_live for part in self.parts)

    def live_rows(self) -> np.ndarray:
        """(live vectors,) int64: the rows of the vectors that have photos."""
        masks = [np.ones(part.layout.count, bool) if part.live is None else part.live for part in self.parts]
        return np.flatnonzero(np.concatenate([np.zeros(0, bool), *masks]))

    def mask(self, segments: np.ndarray, positions: np.ndarray) -> np.ndarray:
        """(rows,) bool: the vectors at these positions (n,) of segments (n,), given by their keys."""
        mask = np.zeros(self.num_rows, bool)
        for key, start, part in zip(self.ids, self.starts, self.parts, strict=False):
            chosen = positions[segments == key]
            mask[start + chosen[chosen < part.layout.count]] = True
        return mask

    def take(self, rows: np.ndarray) -> np.ndarray:
        """(rows,) -> (rows, dim) float32."""
        rows = np.asarray(rows, np.int64)
        vectors = np.empty((len(rows), self.dim), np.float32)
        indices = self._part_indices(rows)
        for i in np.unique(indices):
            vectors[indices == i] = self.parts[i].take(rows[indices == i] - self.starts[i])
        return vectors

    def take_once(self, rows: np.ndarray) -> np.ndarray:
        """``take`` in one pass over many vectors: files larger than memory do not count as memory of the process."""
        vectors = self.take(rows)
        for part in self.parts:
            part.release()
        return vectors

    def locate(self, row: int) -> tuple[StoredVectors, int]:
        """The segment of a row, and the position in it."""
        i = int(np.searchsorted(self.starts, row, "right")) - 1
        return self.parts[i], row - int(self.starts[i])

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
