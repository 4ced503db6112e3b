"""Measures the recall of approximate search, and how many cells a search has to score for the requested recall.

Queries are sentences if the index has a text encoder. The vectors of sentences are far from those of all photos (the
modality gap, Liang et al., arXiv 2203.02053), so that their hits are in more cells than those of a photo.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from xmodal_cli import atomic_folder
from xmodal_cli.models.array_similarity import array_similarity
from xmodal_cli.reporter import SILENT, Reporter
from xmodal_cli.retrieval.database import ITEMS
from xmodal_cli.retrieval.index import Index, open_index
from xmodal_cli.retrieval.index_vectors import IndexVectors
from xmodal_cli.retrieval.metadata import Calibration
from xmodal_cli.retrieval.sample_sentences import sample_sentences
from xmodal_cli.retrieval.writer import IndexWriter

DEPTH = 10  # the recall is that of the 10 best photos
NUM_QUERIES = 256
GROWTH = 1.5  # the recall is measured again when the index has grown by this factor
_ROWS = 8192  # vectors scored at once

EncodeSentences = Callable[[list[str]], np.ndarray]  # n sentences -> (n, dim) float32


def calibrate_index(folder: Path, encode: EncodeSentences | None, reporter: Reporter = SILENT) -> None:
    """Measure the recall, if the index has changed so much that the last measurement does not hold.

    Without ``encode``, queries are photos of the index. Raises the errors of opening and writing an index.
    """
    with open_index(folder) as index:
        if not _is_needed(index):
            return
    with atomic_folder.write_lock(folder, reporter=reporter), open_index(folder) as index:
        reporter.info("measuring the recall of approximate search")
        found = calibrate(index.vectors, index.metadata.model.similarity, index.metadata.recall, encode)
        with IndexWriter(folder, folder / ITEMS, index.metadata) as writer:
            writer.set_metadata(replace(index.metadata, calibration=found))


def _is_needed(index: Index) -> bool:
    old, count = index.metadata.calibration, index.vectors.num_live
    if not index.vectors.cells or index.metadata.recall == 1.0:
        return False
    if old is None or old.target != index.metadata.recall:
        return True
    return not old.num_vectors / GROWTH <= count <= old.num_vectors * GROWTH


def calibrate(
    vectors: IndexVectors, similarity: str, target: float, encode: EncodeSentences | None = None
) -> Calibration:
    """Find the smallest fraction of the cells with a recall of at least ``target``, on sentences or photos."""
    if vectors.num_live <= DEPTH:  # every search finds all
        return Calibration(1.0, 1.0, "photos" if encode is None else "sentences", 0, vectors.num_live, target)
    if encode is not None:
        kind, queries, excluded = "sentences", encode(sample_sentences(NUM_QUERIES)), None
    else:
        live = vectors.live_rows()
        excluded = np.random.default_rng(0).choice(live, min(NUM_QUERIES, len(live)), replace=False)
        kind, queries = "photos", vectors.take(excluded)
    best = exact_top_rows(vectors, queries, similarity, DEPTH, excluded)
    parts = [_needed_fractions(vectors, *pair, similarity, kind) for pair in zip(queries, best, strict=True)]
    needed = np.sort(np.concatenate(parts))
    fraction = float(needed[max(0, math.ceil(target * len(needed)) - 1)])
    recall = float(np.mean(needed <= fraction))
    return Calibration(min(1.0, fraction), recall, kind, len(queries), vectors.num_live, target)


def _needed_fractions(
    vectors: IndexVectors, query: np.ndarray, rows: np.ndarray, similarity: str, kind: str
) -> np.ndarray:
    """(rows,) the fraction of the cells that a search has to score in order to find each row."""
    scorer = array_similarity(similarity).query([query], [1.0], [kind == "sentences"])
    needed = np.zeros(len(rows))
    direction = scorer.direction()
    if direction is None:
        return needed
    rank_of = {key: np.argsort(cells.order(direction)) for key, cells in vectors.cells.items()}
    for i, row in enumerate(rows):
        part, position = vectors.locate(int(row))
        if part.cells in rank_of:
            cell = int(np.searchsorted(part.cell_offsets, position, "right")) - 1
            needed[i] = (rank_of[part.cells][cell] + 1) / len(rank_of[part.cells])
    return needed


def exact_top_rows(
    vectors: IndexVectors, queries: np.ndarray, similarity: str, k: int, excluded: np.ndarray | None = None
) -> np.ndarray:
    """(queries, k) the rows with the best scores in float32, in any order; ``excluded`` is a row for each query."""
    best = np.full((len(queries), k), -np.inf, np.float32)
    best_rows = np.zeros((len(queries), k), np.int64)
    arrays = array_similarity(similarity)
    for start, part in zip(vectors.starts, vectors.parts, strict=False):
        for first in range(0, part.layout.count, _ROWS):
            stop = min(first + _ROWS, part.layout.count)
            scores = arrays.score_matrix(part.take(slice(first, stop)), queries)
            part.release()
            if part.live is not None:
                scores[~part.live[first:stop]] = -np.inf
            rows, columns = np.nonzero(scores > best.min(axis=1))
            for query in np.unique(columns):
                found = rows[columns == query]
                found = found[start + first + found != (-1 if excluded is None else excluded[query])]
                all_scores = np.concatenate([best[query], scores[found, query]])
                all_rows = np.concatenate([best_rows[query], start + first + found])
                top = np.argpartition(-all_scores, k - 1)[:k]
                best[query], best_rows[query] = all_scores[top], all_rows[top]
    return best_rows
