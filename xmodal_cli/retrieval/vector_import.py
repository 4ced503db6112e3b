"""Builds an index of precomputed vectors, in segments of ``LARGEST`` vectors: memory does not depend on their number.

The cells are trained first, on a sample of all files. Each segment is committed to a second database, which then
replaces the index as a whole (``rebuild.py``): searches use the old index until then.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from xmodal_cli import atomic_folder
from xmodal_cli.errors import BadData, ConfigError
from xmodal_cli.models.array_similarity import array_similarity
from xmodal_cli.paths import make_folder
from xmodal_cli.reporter import SILENT, ProgressTask, Reporter
from xmodal_cli.retrieval import rebuild, registry
from xmodal_cli.retrieval.cell_training import MIN_VECTORS, sample_and_train, store_cells
from xmodal_cli.retrieval.database import REBUILD
from xmodal_cli.retrieval.hints import index_name
from xmodal_cli.retrieval.index import is_index
from xmodal_cli.retrieval.leftovers import remove_leftovers
from xmodal_cli.retrieval.merging import LARGEST
from xmodal_cli.retrieval.metadata import RECALL, STORES, IndexMetadata, IndexModel, check_recall, check_store
from xmodal_cli.retrieval.vector_files import VectorFile
from xmodal_cli.retrieval.writer import IndexWriter, write_summary
from xmodal_cli.shell_commands import xmodal_command

_SMALL = 1e-15  # the norm of a vector below this, or above its inverse, is computed after scaling


class VectorSource:
    """The vectors of several files as one matrix, read in blocks of consecutive rows.

    ``normalize``: vectors are scaled to unit length, which raises BadData for zero vectors.
    """

    def __init__(self, files: Sequence[VectorFile], normalize: bool) -> None:
        self._files, self._normalize = files, normalize
        self._starts = np.cumsum([0, *(file.count for file in files)])
        self.dim = files[0].dim

    def __len__(self) -> int:
        return int(self._starts[-1])

    def take(self, rows: np.ndarray) -> np.ndarray:
        """(rows,) ascending -> (rows, dim) float32; runs of consecutive rows are read at once."""
        indices = np.searchsorted(self._starts, rows, "right") - 1
        ends = np.append(np.flatnonzero((np.diff(rows) != 1) | (np.diff(indices) != 0)) + 1, len(rows))
        parts, first = [], 0
        for end in ends.tolist():
            file, start = self._files[indices[first]], int(rows[first] - self._starts[indices[first]])
            parts.append(self._read(file, start, end - first))
            first = end
        return np.concatenate(parts)

    def _read(self, file: VectorFile, start: int, num: int) -> np.ndarray:
        vectors = file.read(start, num)
        if not self._normalize:
            return vectors
        with np.errstate(over="ignore", under="ignore"):
            norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        extreme = np.flatnonzero(~((norms > _SMALL) & (norms < 1 / _SMALL)))  # its square is not a float32 number
        for row in extreme.tolist():
            largest = np.abs(vectors[row]).max()
            if largest == 0:
                raise BadData(
                    f"{file.path} has a zero vector, in row {start + row}", "remove it, and the row of its metadata"
                )
            vectors[row] /= largest
            norms[row] = np.linalg.norm(vectors[row])
        return np.asarray(vectors / norms)


def import_vectors(
    folder: Path,
    source: Path,
    files: Sequence[VectorFile],
    model: IndexModel,
    recall: float | None = None,
    store: str | None = None,
    replace: bool = False,
    reporter: Reporter = SILENT,
) -> IndexMetadata:
    """Build the index ``folder`` from the ``files`` in ``source``. Without ``replace`` it must not exist.

    Raises ConfigError, BadData, StorageError.
    """
    recall, store = check_recall(RECALL if recall is None else recall), check_store(store or STORES[0])
    registry.check_target(folder)
    if is_index(folder) and not replace:
        name = index_name(folder)
        raise ConfigError(
            f"the index {name!r} already exists",
            f"replace it: {xmodal_command('vectors', 'import', source, '--index', name, '--rebuild')}",
        )
    now = datetime.now(UTC).isoformat(timespec="microseconds")
    metadata = IndexMetadata("", model, (), 0, 0, now, now, recall=recall, store=store, vectors=str(source))
    with atomic_folder.write_lock(folder, reporter=reporter):
        make_folder(folder)
        rebuild.discard(folder)
        remove_leftovers(folder)
        matrix = VectorSource(files, array_similarity(model.similarity).inner_product)
        with IndexWriter(folder, folder / REBUILD, metadata) as writer:
            _write(writer, matrix, files, reporter)
            metadata = writer.metadata
        rebuild.adopt(folder)
        remove_leftovers(folder)
        write_summary(folder, metadata)
    return metadata


def _write(writer: IndexWriter, matrix: VectorSource, files: Sequence[VectorFile], reporter: Reporter) -> None:
    count = len(matrix)
    if count >= MIN_VECTORS:
        reporter.info("training the cells of the index")
        store_cells(writer, sample_and_train(count, matrix.take))
    photos = itertools.chain.from_iterable(file.photos() for file in files)
    with reporter.task("indexing", count, "vectors") as task:
        for start in range(0, count, LARGEST):
            _write_segment(writer, matrix, start, min(LARGEST, count - start), photos, task)
    for _ in photos:  # raises an error if the last metadata has too many rows
        pass


def _write_segment(
    writer: IndexWriter,
    matrix: VectorSource,
    start: int,
    num: int,
    photos: Iterator[tuple[str, str | None]],
    task: ProgressTask,
) -> None:
    new = writer.write_vectors(num, lambda rows: matrix.take(start + rows))
    with writer.transaction() as change:
        change.add_segment(new.segment)
        found = zip(range(start, start + num), new.positions.tolist(), photos, strict=False)
        change.add_photos(new.segment, ((path, row.to_bytes(16, "big"), text, at) for row, at, (path, text) in found))
    task.advance(num)
