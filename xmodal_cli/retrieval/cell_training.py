"""When the cells of an index are trained: once it is large, and again after it has grown by a factor of ``GROWTH``."""

from __future__ import annotations

import numpy as np

from xmodal_cli.retrieval.cells import SAMPLES_PER_CELL, CoarseQuantizer, num_cells, train_cells
from xmodal_cli.retrieval.segments import new_id
from xmodal_cli.retrieval.vectors import WRITTEN, TakeRows
from xmodal_cli.retrieval.writer import IndexWriter

MIN_VECTORS = 32_768  # to score all of fewer takes no more than 10 ms
RUN = 16  # consecutive vectors of the sample
GROWTH = 8  # the number of cells is then wrong by a factor of 2.8


def train_if_grown(writer: IndexWriter) -> None:
    """Train cells if the index has none, or only those of a much smaller index. Segments do not change."""
    count, newest = sum(segment.num_live for segment in writer.segments()), writer.newest_cells
    if count >= MIN_VECTORS and (newest is None or count >= GROWTH * newest[1].num_trained):
        vectors = writer.open_vectors()
        rows = vectors.live_rows()
        store_cells(writer, sample_and_train(count, lambda chosen: vectors.take_once(rows[chosen])))


def sample_and_train(count: int, take: TakeRows) -> CoarseQuantizer:
    """Train cells for ``count`` vectors on a random sample of them, in runs that are read at once."""
    num_runs = -(-min(count, SAMPLES_PER_CELL * num_cells(count)) // RUN)
    starts = np.sort(np.random.default_rng(0).choice(-(-count // RUN), num_runs, replace=False))
    chosen = (RUN * starts[:, None] + np.arange(RUN)).ravel()
    chosen = chosen[chosen < count]
    return train_cells(_take_in_blocks(take, chosen), count)


def _take_in_blocks(take: TakeRows, rows: np.ndarray) -> np.ndarray:
    """(rows, dim) float32, allocated once."""
    first = take(rows[:WRITTEN])
    sample = np.empty((len(rows), first.shape[1]), np.float32)
    sample[:WRITTEN] = first
    for start in range(WRITTEN, len(rows), WRITTEN):
        sample[start : start + WRITTEN] = take(rows[start : start + WRITTEN])
    return sample


def store_cells(writer: IndexWriter, cells: CoarseQuantizer) -> None:
    """Commit the cells by which segments are sorted from now on."""
    with writer.transaction() as change:
        change.add_cells(new_id(), cells)
